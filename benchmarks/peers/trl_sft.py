"""TRL's `SFTTrainer` on rows that are tokens already, one optimizer step for every line it is told."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

STEP = 8
WAYS = {
    "dynamic": {"per_device_train_batch_size": 8},
    "sorted": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "padding-free": {"per_device_train_batch_size": 8, "padding_free": True, "max_length": None},
    "padding-free by two": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "padding_free": True,
        "max_length": None,
    },
}


class Steps(TrainerCallback):
    """Waits for a line before each step, and answers it with what the step took."""

    def on_step_begin(self, *_, **__):
        if not sys.stdin.readline():
            raise SystemExit(0)
        self.began = time.monotonic()

    def on_step_end(self, *_, **__):
        if torch.cuda.is_available():  # what was asked of a card may still run
            torch.cuda.synchronize()
        self.seconds = time.monotonic() - self.began

    def on_log(self, *_, logs=None, **__):
        if logs and "loss" in logs:
            if torch.cuda.is_available():
                mb = torch.cuda.max_memory_allocated() / 2**20
            else:
                mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print("@" + json.dumps({"seconds": self.seconds, "loss": logs["loss"], "mb": mb}), flush=True)


def main(model_folder, rows_path, way, dtype):
    rows = json.loads(Path(rows_path).read_text(encoding="utf-8"))
    if way == "sorted":  # within each step, so that every step has the rows of the others' steps
        rows = [
            row
            for at in range(0, len(rows), STEP)
            for row in sorted(rows[at : at + STEP], key=lambda r: -len(r["prompt"] + r["answer"]))
        ]
    dataset = Dataset.from_list(
        [
            {
                "input_ids": row["prompt"] + row["answer"],
                "completion_mask": [0] * len(row["prompt"]) + [1] * len(row["answer"]),
            }
            for row in rows
        ]
    )
    # TRL's packing lays the rows of a step as its padding-free does, in one sequence: the same work, so not run again
    settings = {"max_length": 4096, "gradient_checkpointing": False} | WAYS[way]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
        train_dataset=dataset,
        peft_config=LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(),
            num_train_epochs=100,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            completion_only_loss=True,
            disable_tqdm=True,
            **settings,
        ),
        callbacks=[Steps()],
    )
    print("@" + json.dumps({"sequences": len(trainer.train_dataset)}), flush=True)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
