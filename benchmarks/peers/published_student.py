"""The published way: every row padded to 2,100 tokens to train on, and 256 tokens generated to read a label."""

import json
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

LONGEST, STEP, GENERATED = 2100, 8, 256


def main(model_folder, rows_path, work, dtype):
    rows = json.loads(Path(rows_path).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype)).to(device)
    if work == "train":
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(model, lora).train()
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)

    def padded(tokens, filler, left=False):
        fill = [filler] * (LONGEST - len(tokens))
        return torch.tensor([fill + tokens if left else tokens + fill], device=device)

    def step(number):
        start = number * STEP % len(rows)
        chosen, loss = rows[start : start + STEP], 0.0
        answers = sum(len(row["answer"]) for row in chosen)
        optimizer.zero_grad()
        for row in chosen:
            tokens = row["prompt"] + row["answer"]
            labels = [-100] * len(row["prompt"]) + row["answer"]
            output = model(
                input_ids=padded(tokens, pad),
                attention_mask=padded([1] * len(tokens), 0),
                labels=padded(labels, -100),
            )
            part = output.loss * len(row["answer"]) / answers
            part.backward()
            loss += float(part.detach())
        optimizer.step()
        return {"loss": loss}

    def score(_):
        for row in rows:
            ids = row["prompt"]
            with torch.inference_mode():
                model.generate(
                    input_ids=padded(ids, pad, left=True),
                    attention_mask=padded([1] * len(ids), 0, left=True),
                    max_new_tokens=GENERATED,
                    min_new_tokens=GENERATED,
                    do_sample=False,
                    return_dict_in_generate=True,
                    output_scores=True,
                    pad_token_id=pad,
                )
        return {}

    print("@{}", flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        found = (step if work == "train" else score)(json.loads(line)["round"])
        if device != "cpu":  # what was asked of a card may still run
            torch.cuda.synchronize()
        print("@" + json.dumps({"seconds": time.monotonic() - began} | found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
