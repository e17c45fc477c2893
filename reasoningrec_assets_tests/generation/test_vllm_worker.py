"""The worker of the vLLM engine beside a stand-in for vLLM: what has to hold whatever vLLM does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from reasoningrec_assets.compute import Device
from reasoningrec_assets.errors import TransientError
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.engines.vllm import WORKER, child_environment
from reasoningrec_assets.settings import EngineSettings

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


FAILS = """
    import sys

    class LLM:
        def __init__(self, **settings):
            sys.stderr.buffer.write(b"\\xff is no text, and a log may hold it\\n")
            sys.stderr.flush()
            print("the driver is too old", file=sys.stderr)
            raise RuntimeError("no engine")
"""


def test_a_worker_that_does_not_start_is_an_error_with_its_last_lines(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "vllm.py").write_text(textwrap.dedent(FAILS), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # a lease of its own
    settings = EngineSettings(kind="vllm")
    with (
        pytest.raises(TransientError, match=r"RuntimeError: no engine; its last lines: .*the driver is too old"),
        open_engine(settings, str(tiny_model), tmp_path, batch_size=1, log=lambda _: None),
    ):
        pass
