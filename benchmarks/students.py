"""The rows that the student's benchmarks share, in tokens as files, and ours as a contestant that trains or scores them."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import quality
from benchmarks.harness import CACHE, fresh_folder, serve
from benchmarks.inputs import MODEL, tables
from reasoningrec_assets.compute import Device, prepare, visible_devices
from reasoningrec_assets.generation.requests import Answer
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import student_record
from reasoningrec_assets.settings import Quantization
from reasoningrec_assets.training.encode import EncodedRow, encode_rows
from reasoningrec_assets.training.lora import _adapted, _Run
from reasoningrec_assets.training.scoring import label_log_odds

LONGEST, STEP = 2100, quality.SETTINGS.batch_size  # tokens that the published way pads to; rows of an optimizer step
SETTINGS = quality.SETTINGS.model_copy(
    update={
        "learning_rate": 1e-4,
        "tokens_per_micro_batch": 1024,
        "epochs": 1,
        "patience": 1,
        "max_tokens": LONGEST,
    }
)


def real_rows(split: str, count: int) -> list[EncodedRow]:
    """Rows of ml100k's materialized ``sft_splits``, which hold descriptions, profiles and reasonings that a model wrote."""
    root = Path(os.environ.get("REASONINGREC_DATA", "data"))
    versions = sorted((root / "lake" / "sft_splits" / "ml100k").rglob("*.parquet"), key=lambda path: path.stat().st_mtime)
    if not versions:
        raise SystemExit(f"{root} holds no sft_splits of ml100k: run `make materialize DATASET=ml100k` first")
    rows = [row for row in read_rows(versions[-1]) if row["split"] == split][:count]
    return encode_rows(rows, chat(), max_tokens=LONGEST)


def synthetic_rows(count: int, shortest: int = 300, longest: int = 900) -> list[EncodedRow]:
    """Rows with nothing in common, of so many tokens, a tenth of them the answer."""
    drawn = random.Random(0)
    labels, made = chat().label_tokens(), []
    for number in range(count):
        length = drawn.randint(shortest, longest)
        tokens = [drawn.randint(1000, 40000) for _ in range(length)]
        liked = number % 2 == 0
        answer = [*labels.prefix, (labels.yes if liked else labels.no)[0], *tokens[-length // 10 :]]
        made.append(EncodedRow(f"user {number}", f"row {number}", "", tokens[: length - len(answer)], answer, liked, 0))
    return made


def many_targets(users: int, targets: int) -> list[EncodedRow]:
    """Several targets for each of some users: what a recommendation run scores."""
    windows, items = tables()
    context = load_context(items)
    rows = [row for row in read_rows(windows) if row["split"] == "test"][:users]
    asked = [row | {"target_item_id": item} for row in rows for item in sorted(context.items)[:targets]]
    records = [
        row | student_record(context.window(row), kind="movie", reasons="", liked=True, reasoning="", hints="") for row in asked
    ]
    return encode_rows(records, chat(), max_tokens=LONGEST)


def chat() -> Chat:
    return Chat(store.load_tokenizer(store.resolve(MODEL, CACHE)))


def told_log_odds(answer: Answer, chat: Chat) -> float:
    """Yes against No from the log-probabilities that an engine tells of its first token; infinite, or NaN, where it lacks them."""

    def told(tokens: Sequence[int]) -> float:
        odds = sum(math.exp(answer.first_logprobs.get(chat.decode([token]), -math.inf)) for token in tokens)
        return math.log(odds) if odds else -math.inf

    labels = chat.label_tokens()
    return told(labels.yes) - told(labels.no)


def saved(name: str, rows: list[EncodedRow]) -> Path:
    """The rows as a file that a peer, which has none of our code, reads too."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"rows-{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    return path


def loaded(path: str) -> list[EncodedRow]:
    return [EncodedRow(**row) for row in json.loads(Path(path).read_text(encoding="utf-8"))]


def shape(rows: list[EncodedRow]) -> dict[str, float]:
    lengths = [len(row.prompt) + len(row.answer) for row in rows]
    return {"rows": len(rows), "median tokens": statistics.median(lengths), "longest": max(lengths)}


def peak_mb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def training_run(dtype: str, quantization: Quantization = "none") -> _Run:
    """The product's training, ready for its first step, on the processor or the card, whatever the dtype."""
    import torch

    device, settings = this_device(), SETTINGS.model_copy(update={"quantization": quantization})
    run = _Run(_adapted(store.resolve(MODEL, CACHE), settings, device), chat(), settings, device, lambda _: None)
    if dtype == "float32":
        run.model.float()
    assert next(run.model.get_base_model().parameters()).dtype == getattr(torch, dtype)
    return run


def this_device() -> Device:
    names = visible_devices()
    return prepare(names[:1], names)


def main(work: str, dtype: str, *flags: str) -> None:
    device = this_device()
    if work == "train":
        import torch

        run = training_run(dtype)

        def step(order: dict) -> dict[str, float]:
            rows = loaded(order["path"])
            start = order["round"] * STEP % len(rows)
            began = time.monotonic()
            loss = run.step(rows[start : start + STEP], 1.0)
            if torch.cuda.is_available():  # what was asked of a card may still run
                torch.cuda.synchronize()
            return {"seconds": time.monotonic() - began, "loss": loss, "mb": peak_mb()}

        serve(step)
        return
    model = store.load_causal_model(store.resolve(MODEL, CACHE), dtype, device.torch_name)
    if "unshared" in flags:
        from reasoningrec_assets.models import packing

        packing.SHORTEST = sys.maxsize

    def score(order: dict) -> dict:
        rows = loaded(order["path"])
        began = time.monotonic()
        told = {"tokens_per_batch": 4096, "device": device.torch_name, "log": lambda line: print(line, file=sys.stderr)}
        scores = label_log_odds(model, rows, chat().label_tokens(), **told)
        return {"seconds": time.monotonic() - began, "scores": scores}

    serve(score)


if __name__ == "__main__":
    # a lease of its own: several contestants are loaded at once, and one at a time works
    tempfile.tempdir = str(fresh_folder())
    main(*sys.argv[1:])
    shutil.rmtree(Path(tempfile.tempdir))
