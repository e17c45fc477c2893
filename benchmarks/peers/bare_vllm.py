"""`LLM.generate` on the whole list at once, with nothing around it."""

import json
import sys
import time
from pathlib import Path

from vllm import LLM, SamplingParams


def main(model_folder, prompts_path, eager, dtype, share):
    started = time.monotonic()
    prompts = json.loads(Path(prompts_path).read_text(encoding="utf-8"))
    llm = LLM(
        model=model_folder,
        dtype=dtype,
        max_model_len=2048,
        enforce_eager=eager == "eager",
        gpu_memory_utilization=float(share),
        enable_prefix_caching=True,
    )
    print("@" + json.dumps({"start_seconds": time.monotonic() - started}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        params = SamplingParams(max_tokens=order["tokens"], temperature=0.0)
        began = time.monotonic()
        outputs = llm.generate(prompts[f"{order['set']}/{order['round']}"], params, use_tqdm=False)
        seconds = time.monotonic() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print("@" + json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
