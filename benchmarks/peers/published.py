"""`transformers.generate` as the published notebooks use it: batches of 16 in the given order, padded to their longest."""

import json
import sys
import time
from pathlib import Path

import torch
import transformers

BATCH = 16


def main(model_folder, prompts_path, dtype):
    started = time.monotonic()
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    prompts = json.loads(Path(prompts_path).read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype)).to(device).eval()
    print("@" + json.dumps({"start_seconds": time.monotonic() - started}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        texts = prompts[f"{order['set']}/{order['round']}"][order["round"] % order["sample"] :: order["sample"]]
        began = time.monotonic()
        written = 0
        for start in range(0, len(texts), BATCH):
            inputs = tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True, add_special_tokens=False).to(
                device
            )
            with torch.no_grad():
                output = model.generate(**inputs, max_new_tokens=order["tokens"], do_sample=False)
            tokenizer.batch_decode(output, skip_special_tokens=True)
            written += (output.shape[1] - inputs["input_ids"].shape[1]) * output.shape[0]
        print("@" + json.dumps({"seconds": time.monotonic() - began, "tokens": written}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
