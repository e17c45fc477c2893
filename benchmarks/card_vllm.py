"""The engines on one CUDA card: reasonings written by vLLM and by transformers, and an adapter's scores in vLLM beside ours."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import students
from benchmarks.harness import CACHE, Figure, has_card
from benchmarks.inputs import MODEL, reasonings
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.requests import Answer, Request, Sampling
from reasoningrec_assets.models import store
from reasoningrec_assets.settings import EngineSettings
from reasoningrec_assets.training.scoring import label_log_odds


def run(quick: bool) -> list[Figure]:
    import peft
    import torch

    if not has_card():
        raise SystemExit("this benchmark needs a CUDA card: generation-throughput measures a processor")
    texts, rows = (16, 8) if quick else (256, 64)
    test = students.synthetic_rows(rows, 40, 80) if quick else students.real_rows("test", rows)
    base, asked, chat = store.resolve(MODEL, CACHE), reasonings(texts), students.chat()
    speeds: dict[str, float] = {}
    said: list[Answer] = []
    chunk = [(f"{place:064x}", request) for place, request in enumerate(asked)]
    device = students.this_device()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model: Any = store.load_causal_model(base, "bfloat16", device.torch_name)
        adapted: Any = peft.get_peft_model(
            model, peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        )
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.mul_(0.1)  # drawn at full size they would leave no sense in the model
        adapted.save_pretrained(Path(folder) / "adapter")
        expected = label_log_odds(
            adapted, test, chat.label_tokens(), tokens_per_batch=16_384, device=device.torch_name, log=lambda _: None
        )
        del model, adapted
        store.free_memory()
        ways: Any = (("transformers", None), ("vllm", None), ("vllm", str(Path(folder) / "adapter")))
        for kind, adapter in ways:
            settings = EngineSettings(kind=kind, adapter=adapter, max_model_tokens=2048 if kind == "vllm" else None)
            began = time.monotonic()
            with open_engine(settings, str(base), CACHE, batch_size=64, log=print) as engine:
                started = time.monotonic() - began
                if adapter:
                    told = [
                        (f"{place:064x}", Request(row.row, row.message, prefill="Prediction:")) for place, row in enumerate(test)
                    ]
                    said = engine.generate(told, Sampling(1, 0.0, 1.0, seed=0, logprobs=20))
                    continue
                began = time.monotonic()
                answers = engine.generate(chunk, Sampling(100, 0.0, 1.0, seed=0))
                written = sum(answer.completion_tokens for answer in answers)
                speeds |= {f"tokens/s of {kind}": written / (time.monotonic() - began), f"seconds to start {kind}": started}
                print(speeds, flush=True)
    found = [students.told_log_odds(answer, chat) for answer in said]
    near = [abs(one - other) for one, other in zip(found, expected, strict=True) if math.isfinite(one)]
    return [
        Figure(
            "vLLM: times the engine transformers",
            speeds["tokens/s of vllm"] / speeds["tokens/s of transformers"],
            1,
            details=speeds,
        ),
        Figure(
            "an adapter's log-odds in vLLM: largest difference to ours",
            max(near),
            0.25,
            at_most=True,
            details={"rows": len(near)},
        ),
    ]
