"""vLLM, offline, in a child process with a group of its own: it frees the device when it ends, and ends with this one's pipe."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any

from reasoningrec_assets import compute
from reasoningrec_assets.errors import Log, PermanentError, TransientError
from reasoningrec_assets.generation.engines import prompts_that_fit
from reasoningrec_assets.generation.requests import Answer, Keyed, Sampling
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import EngineSettings

WORKER = Path(__file__).with_name("vllm_worker.py")


class VllmEngine:
    """Answers chunks through a child that holds the model; prompts are sent and answers come back as tokens."""

    def __init__(self, child: subprocess.Popen[str], chat: Chat, last_lines: deque[str]) -> None:
        self.child, self.chat, self.last_lines = child, chat, last_lines
        self.context = 0  # in tokens; known once the child has loaded the model

    def generate(self, chunk: Sequence[Keyed], sampling: Sampling) -> list[Answer]:
        """Answer one chunk; a prompt that the model's context cannot hold is flagged."""
        started = time.monotonic()
        prompts, answers = prompts_that_fit(chunk, self.chat, sampling, self.context)
        shared = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p}
        told: Any = {"sampling": {**shared, "choices": sampling.choices, "logprobs": sampling.logprobs or None}}
        # a key holds seed and draw already, so its first digits seed the request, whatever else is in the chunk
        seeds = [int(key[:8], 16) if sampling.temperature > 0 else None for key in prompts]
        told |= {"seeds": seeds, "prompts": [*prompts.values()]}
        replies = self.exchange(told) if prompts else []
        seconds = (time.monotonic() - started) / max(1, len(prompts))
        end = self.chat.tokenizer.eos_token_id
        for (key, prompt), (ids, reason, logprobs) in zip(prompts.items(), replies, strict=True):
            text = self.chat.decode([token for token in ids if token != end])
            answers[key] = Answer(key, text, reason, len(prompt), len(ids), seconds, first_logprobs=logprobs)
        return [answers[key] for key, _ in chunk]

    def exchange(self, value: Any) -> Any:
        """Send one line and wait for the one that answers it; TransientError where the child failed or died."""
        reply = ""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        with contextlib.suppress(OSError):  # a dead child shows in the missing reply
            self.child.stdin.write(json.dumps(value) + "\n")
            self.child.stdin.flush()
            reply = self.child.stdout.readline()
        answer = json.loads(reply) if reply else {"error": f"it ended with {self.child.wait()}"}
        if isinstance(answer, dict) and "error" in answer:
            time.sleep(1)  # its last lines come by another pipe
            problem = f"{answer['error']}; its last lines: {' | '.join(self.last_lines)[-2000:]}"
            remedy = "Run again, the answers so far are in the cache; correct the engine settings if it does not start"
            raise TransientError("write texts with vLLM", where=f"process {self.child.pid}", problem=problem, remedy=remedy)
        return answer


@contextlib.contextmanager
def open_engine(reference: str, data_root: Path, settings: EngineSettings, *, log: Log = print) -> Generator[VllmEngine]:
    """Hold a device and run a child with the model on it inside the block, its log going to `log`; TransientError if it fails."""
    folder = store.resolve(reference, data_root, log=log)
    with contextlib.ExitStack() as held:
        device = held.enter_context(compute.lease(count=settings.tensor_parallel_size, log=log))
        lines: deque[str] = deque(maxlen=20)
        python = settings.python or sys.executable
        log(f"starting vLLM with {reference} on {device.name}")
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        own: Any = {**pipes, "encoding": "utf-8", "errors": "replace", "start_new_session": True}
        try:
            # -P: the engines' folder must not hide the packages that they are named after
            child: subprocess.Popen[str] = subprocess.Popen([python, "-P", str(WORKER)], env=child_environment(device), **own)
        except OSError as error:
            remedy = "Correct the engine setting python, or leave it out where vLLM shares this environment"
            raise PermanentError("start vLLM", where=python, problem=str(error), remedy=remedy) from error
        held.callback(_end, child)
        assert child.stderr is not None
        threading.Thread(target=_forward, args=(child.stderr, lines, log), daemon=True).start()
        engine = VllmEngine(child, Chat(store.load_tokenizer(folder)), lines)
        engine.context = int(engine.exchange(_model_settings(folder, settings, device))["context"])
        yield engine


def _model_settings(folder: Path, settings: EngineSettings, device: compute.Device) -> dict[str, Any]:
    # vLLM itself would take the model's own, whatever the processor can do
    dtype = device.dtype if settings.dtype == "auto" and device.torch_name == "cpu" else settings.dtype
    quantization = {"none": None, "nf4": "bitsandbytes", "fp8": "fp8"}[settings.quantization]
    told = {"model": str(folder), "dtype": dtype, "quantization": quantization, "disable_log_stats": True}
    told |= settings.model_dump(include={"tensor_parallel_size", "adapter"})
    told |= {"gpu_memory_utilization": settings.gpu_memory_share, "max_model_len": settings.max_model_tokens}
    return told | {"enable_prefix_caching": settings.prefix_caching, "enforce_eager": settings.eager}


def child_environment(device: compute.Device) -> dict[str, str]:
    """The variables that vLLM runs with on a leased device; those that are set already win."""
    environment = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", **os.environ}
    if device.torch_name == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        # left to itself, vLLM leaves a core idle on small machines
        environment = {"VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}-{cores[-1]}", "VLLM_CPU_KVCACHE_SPACE": "2", **environment}
        # the engine in the worker itself: one process fewer to end
        return {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", **environment}
    cards = ",".join(name.removeprefix("cuda:") for name in device.name.split("+"))
    # a forked engine would hold the pipe to this process too, which could then not see that the worker died
    return {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", **environment, "CUDA_VISIBLE_DEVICES": cards}


def _forward(stream: IO[str], lines: deque[str], log: Log) -> None:
    for line in stream:
        if line.strip():
            lines.append(line.strip())
            log(f"vLLM: {line.rstrip()}")


def _end(child: subprocess.Popen[str]) -> None:
    """Ask the child to go, and end its whole group when it does not."""
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
