"""The student on one CUDA card: the published way beside ours, bases in int8 and nf4, and how exact all of that is."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import quality, students
from benchmarks.harness import CACHE, Contestant, Figure, has_card, median_ratio, ours, peer, rounds
from benchmarks.inputs import MODEL
from reasoningrec_assets.models import store
from reasoningrec_assets.training.encode import EncodedRow
from reasoningrec_assets.training.scoring import label_log_odds

PASSES = 3  # over the rows; the first one warms the card up and is not counted


def run(quick: bool) -> list[Figure]:
    if not has_card():
        raise SystemExit("this benchmark needs a CUDA card: training and scoring measure a processor")
    train = students.synthetic_rows(8, 40, 80) if quick else students.real_rows("train", 64)
    test = students.synthetic_rows(8, 40, 80) if quick else students.real_rows("test", 943)
    return [*_published(train, test), *_bases(train), *_scores(test, 8 if quick else 48)]


def _published(train: list[EncodedRow], test: list[EncodedRow]) -> list[Figure]:
    """Both in bf16: steps of 8 rows padded to 2,100 tokens, and 256 tokens generated to read a label, of 2 rows."""
    folder, found = str(store.resolve(MODEL, CACHE)), []
    for work, rows, count, bar in (("train", train, 4, 3.0), ("score", test[:2], 3, 8.0)):
        path = str(students.saved(f"card-{work}", rows))
        both = [
            Contestant("ours", ours("students", work, "bfloat16")),
            Contestant("published", peer("trl", "published_student.py", folder, path, work, "bfloat16")),
        ]
        seconds = {who: [one["seconds"] for one in told[1:]] for who, told in rounds(both, count, path=path).items()}
        for one in both:
            one.close()
        ratio = median_ratio(seconds["published"], seconds["ours"])
        found.append(Figure(f"{work}: times the published way", ratio, bar, details=students.shape(rows) | seconds))
    return found


def _bases(rows: list[EncodedRow]) -> list[Figure]:
    """Real tokens trained on per second, and the first losses beside those of the same steps in fp32."""
    import torch

    batches = [rows[at : at + students.STEP] for at in range(0, len(rows), students.STEP)]
    tokens = sum(len(row.prompt) + len(row.answer) for row in rows)
    losses: dict[str, list[float]] = {}
    found: dict[str, dict[str, float]] = {}
    for name in ("float32", "bfloat16", "int8", "nf4"):
        torch.cuda.reset_peak_memory_stats()
        made: Any = {"dtype": name} if name in {"float32", "bfloat16"} else {"dtype": "bfloat16", "quantization": name}
        trained: Any = students.training_run(**made)
        losses[name] = [trained.step(batch, 1.0) for batch in batches]
        began = time.monotonic()
        for _ in range(PASSES - 1):
            for batch in batches:
                trained.step(batch, 1.0)
        torch.cuda.synchronize()
        found[name] = {"tokens/s": tokens * (PASSES - 1) / (time.monotonic() - began), "peak MB": students.peak_mb()}
        del trained
        store.free_memory()
    return [
        Figure(
            f"training in {name}: largest difference of {len(batches)} losses to fp32",
            max(abs(one - other) for one, other in zip(losses[name], losses["float32"], strict=True)),
            bar,
            at_most=True,
            details=found[name] | {"tokens/s in fp32": found["float32"]["tokens/s"]},
        )
        for name, bar in (("bfloat16", 1e-2), ("int8", 0.1), ("nf4", 0.5))  # the last two compute with other weights
    ]


def _scores(rows: list[EncodedRow], few: int) -> list[Figure]:
    chat, folder, device = students.chat(), store.resolve(MODEL, CACHE), students.this_device().torch_name
    plain, scores, speeds = quality.plain_log_odds(rows[:few]), {}, {}
    for dtype in ("float32", "bfloat16"):
        model = store.load_causal_model(folder, dtype, device)
        for _ in range(2):
            began = time.monotonic()
            scores[dtype] = label_log_odds(
                model, rows, chat.label_tokens(), tokens_per_batch=16_384, device=device, log=lambda _: None
            )
            speeds[f"rows/s in {dtype}"] = len(rows) / (time.monotonic() - began)
        del model
        store.free_memory()
    off = {dtype: max(abs(one - other) for one, other in zip(found, plain, strict=False)) for dtype, found in scores.items()}
    details = speeds | {"in bf16": off["bfloat16"], "rows": few}
    return [Figure("scores: largest difference of log-odds to plain passes", off["float32"], 1e-3, at_most=True, details=details)]
