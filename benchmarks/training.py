"""Tokens trained on per second, beside the published padding and TRL's `SFTTrainer`, on the same rows, mask and steps."""

from __future__ import annotations

from benchmarks import students
from benchmarks.harness import CACHE, Contestant, Figure, median_ratio, ours, peer, rounds
from benchmarks.inputs import MODEL
from reasoningrec_assets.compute import precision
from reasoningrec_assets.models import store
from reasoningrec_assets.training.encode import EncodedRow

WAYS = ("dynamic", "sorted", "padding-free", "padding-free by two")
EXACT = 1e-3  # of the first step's loss, beyond which a way of TRL's computes something else


def run(quick: bool) -> list[Figure]:
    dtype = str(precision(students.this_device())).removeprefix("torch.")
    sets = {"synthetic": (students.synthetic_rows(8 if quick else 64), 1 if quick else 3)}
    if not quick:
        sets["real"] = (students.real_rows("train", 64), 8)
    figures = []
    for name, (rows, count) in sets.items():
        figures += _speed(name, rows, count, dtype)
        figures += _losses(name, rows, dtype, 1 if quick else 16)
    return figures


def _speed(name: str, rows: list[EncodedRow], count: int, dtype: str) -> list[Figure]:
    folder, path = store.resolve(MODEL, CACHE), students.saved(name, rows)
    mine = Contestant("ours", ours("students", "train", dtype))
    published = Contestant("published", peer("trl", "published_student.py", str(folder), str(path), "train", dtype))
    trl = [Contestant(way, peer("trl", "trl_sft.py", str(folder), str(path), way, dtype)) for way in WAYS]
    found = rounds([mine, published, *trl], count, path=str(path))
    for contestant in (mine, published, *trl):
        contestant.close()
    seconds = {who: [one["seconds"] for one in answers] for who, answers in found.items()}
    plain = found["published"][0]["loss"]
    exact = [way for way in WAYS if abs(found[way][0]["loss"] - plain) < EXACT]
    best = min(exact, key=lambda way: sum(seconds[way]))
    tokens = sum(len(row.prompt) + len(row.answer) for row in rows[: count * students.STEP])
    details = {f"tokens/s of {who}": tokens / sum(taken) for who, taken in seconds.items()} | students.shape(rows)
    others = {f"not exact: {way}": found[way][0]["loss"] - plain for way in WAYS if way not in exact}
    return [
        Figure(f"{name} rows: times the published way", median_ratio(seconds["published"], seconds["ours"]), 3, details=details),
        Figure(f"{name} rows: times TRL, {best}", median_ratio(seconds[best], seconds["ours"]), 1.2, details=others),
        Figure(
            f"{name} rows: peak memory against TRL, {best}", found["ours"][-1]["mb"] / found[best][-1]["mb"], 1.0, at_most=True
        ),
    ]


def _losses(name: str, rows: list[EncodedRow], dtype: str, steps: int) -> list[Figure]:
    """The first losses beside those of a plain loop: fp32, row by row, nothing packed."""
    import torch

    batches = [rows[at * 8 % len(rows) :][:8] for at in range(steps)]
    plain = students.training_run("float32")
    expected = []
    for batch in batches:
        plain.model.train()
        plain.optimizer.zero_grad()
        answers, total = sum(len(row.answer) for row in batch), 0.0
        for row in batch:
            ids = torch.tensor([row.prompt + row.answer])
            labels = torch.tensor([[-100] * len(row.prompt) + row.answer])
            loss = plain.model(input_ids=ids, labels=labels).loss * len(row.answer) / answers
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(plain.weights.values(), 1.0)
        plain.optimizer.step()
        expected.append(total)
    figures = []
    for tried, bar in (("float32", 1e-4), *([("bfloat16", 1e-2)] if dtype == "bfloat16" else [])):
        packed = students.training_run(tried)
        got = [packed.step(batch, 1.0) for batch in batches]
        off = max(abs(one - other) for one, other in zip(got, expected, strict=True))
        figures.append(Figure(f"{name} rows: largest difference of {steps} losses in {tried}", off, bar, at_most=True))
    return figures
