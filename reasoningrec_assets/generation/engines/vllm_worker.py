"""The child process of the vLLM engine: loads the model, answers one line of JSON with another, and dies with its parent.

Run by path with whatever interpreter holds vLLM, so it imports nothing of this package. The first line on standard
input holds the model's settings, each further one a chunk; the end of the input is the end of the process.
"""

import json
import os
import queue
import signal
import threading
from typing import Any, TextIO

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# vLLM is an extra: where it is not installed, the type checker takes the engine beside this file for it

GRACE_SECONDS = 20.0


def _follow(orders: TextIO, lines: "queue.Queue[str | None]", busy: threading.Event) -> None:
    """Hand over what the parent sends. When it is gone, end the whole group: vLLM's own children hold the device too."""
    for line in orders:
        lines.put(line)
    lines.put(None)
    if not busy.is_set():
        threading.Event().wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _answer(llm: Any, chunk: dict[str, Any], lora: Any) -> list[Any]:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    shared = dict(chunk["sampling"])
    choices, logprobs = shared.pop("choices"), shared["logprobs"]
    shared["structured_outputs"] = StructuredOutputsParams(choice=choices) if choices else None
    drawn = [SamplingParams(**shared, seed=seed, detokenize=bool(logprobs)) for seed in chunk["seeds"]]
    prompts = [{"prompt_token_ids": ids} for ids in chunk["prompts"]]
    outputs = llm.generate(prompts, drawn, use_tqdm=False, lora_request=lora)
    answers = []
    for output in outputs:
        first = output.outputs[0].logprobs[0].values() if logprobs and output.outputs[0].logprobs else ()
        likeliest = {entry.decoded_token: entry.logprob for entry in first if entry.rank <= logprobs}
        answers.append([list(output.outputs[0].token_ids), output.outputs[0].finish_reason, likeliest])
    return answers


def main() -> None:
    """Load the model that the first line names, then answer chunk after chunk."""
    # what vLLM and its libraries print goes to the log; the answers have the real standard output to themselves
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()
    busy.set()
    # not sys.stdin: a child that vLLM forks closes it, and would wait for ever for the lock of the thread that reads it
    threading.Thread(target=_follow, args=(os.fdopen(os.dup(0), encoding="utf-8"), lines, busy), daemon=True).start()
    settings = json.loads(lines.get() or "null")

    def reply(value: object) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    try:
        from vllm import LLM

        adapter = settings.pop("adapter")
        lora = None
        if adapter:
            from vllm.lora.request import LoRARequest

            with open(os.path.join(adapter, "adapter_config.json"), encoding="utf-8") as config:  # noqa: PTH118, PTH123
                settings |= {"enable_lora": True, "max_lora_rank": max(8, json.load(config)["r"])}
            lora = LoRARequest("adapter", 1, adapter)
        llm = LLM(**settings)
        reply({"context": llm.llm_engine.model_config.max_model_len})
        while True:
            busy.clear()
            line = lines.get()
            if line is None:
                break
            busy.set()
            reply(_answer(llm, json.loads(line), lora))
    except BaseException as error:
        reply({"error": f"{type(error).__name__}: {error}"[:2000]})
        raise


if __name__ == "__main__":
    main()
