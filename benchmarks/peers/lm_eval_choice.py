"""lm-evaluation-harness: the log-likelihood of the two answers to each prompt, as its multiple-choice tasks ask for them."""

import json
import sys
import time
from pathlib import Path

import torch
from lm_eval.models.huggingface import HFLM


def main(model_folder, rows_path, labels_path, dtype):
    rows = json.loads(Path(rows_path).read_text(encoding="utf-8"))
    labels = json.loads(Path(labels_path).read_text(encoding="utf-8"))
    model = HFLM(
        pretrained=model_folder, dtype=dtype, batch_size=8, max_length=4096, device="cuda" if torch.cuda.is_available() else "cpu"
    )
    asked = [(("", ""), row["prompt"], labels["prefix"] + [labels[word]]) for row in rows for word in ("yes", "no")]
    print("@{}", flush=True)
    for _ in sys.stdin:
        began = time.monotonic()
        found = [value for value, _ in model._loglikelihood_tokens(asked, disable_tqdm=True)]
        seconds = time.monotonic() - began
        scores = [yes - no for yes, no in zip(found[::2], found[1::2], strict=True)]
        print("@" + json.dumps({"seconds": seconds, "scores": scores}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
