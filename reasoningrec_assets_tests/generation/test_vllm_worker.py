"""The worker of the vLLM engine beside a stand-in for vLLM: what has to hold whatever vLLM does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from reasoningrec_assets.compute import Device
from reasoningrec_assets.generation.engines.vllm import WORKER, child_environment

FORKS = """
    import multiprocessing
    from types import SimpleNamespace

    class LLM:
        def __init__(self, **settings):
            engine = multiprocessing.get_context("fork").Process(target=int)
            engine.start()
            engine.join(20)
            if engine.is_alive():
                engine.kill()
                raise RuntimeError("the forked engine never began")
            self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=7))
"""


def test_an_engine_that_vllm_forks_begins(tmp_path):
    (tmp_path / "vllm.py").write_text(textwrap.dedent(FORKS), encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "-P", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        start_new_session=True,
    )
    with worker:
        worker.stdin.write('{"adapter": null}\n')
        worker.stdin.flush()
        assert worker.stdout.readline() == '{"context": 7}\n'


def test_on_cards_vllm_spawns_its_engine_and_sees_no_card_but_those_leased(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,5")
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD", raising=False)
    environment = child_environment(Device("cuda:3+cuda:5", "cuda:1", "bfloat16"))
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["VLLM_WORKER_MULTIPROC_METHOD"]) == ("3,5", "spawn")
