"""Tokens trained on per second, beside the published padding and TRL's `SFTTrainer`, on the same rows, mask and steps."""

from __future__ import annotations

from benchmarks import students
from benchmarks.harness import CACHE, Contestant, Figure, median_ratio, ours, peer, rounds
from benchmarks.inputs import MODEL
from reasoningrec_assets.models import store
from reasoningrec_assets.training.encode import EncodedRow

WAYS = ("dynamic", "sorted", "padding-free", "padding-free by two")
EXACT = 1e-3  # of the first step's loss, beyond which a way of TRL's computes something else


def run(quick: bool) -> list[Figure]:
    dtype = students.this_device().dtype
    if quick:
        short = students.synthetic_rows(8, 40, 80)
        return [*_speed("short", short, 1, 1, dtype), *_losses("short", short, dtype, 1)]
    real, synthetic = students.real_rows("train", 64), students.synthetic_rows(64)
    return [
        *_speed("real", real, 8, 3, dtype),
        *_speed("synthetic", synthetic, 3, 2, dtype),
        *_losses("real", real, dtype, 16),
    ]


def _speed(name: str, rows: list[EncodedRow], steps: int, published_steps: int, dtype: str) -> list[Figure]:
    """Steps in turn: one of everybody, then of ours, of the fastest exact way of TRL's, and for some of the published way."""
    folder, path = store.resolve(MODEL, CACHE), students.saved(name, rows)
    mine = Contestant("ours", ours("students", "train", dtype))
    published = Contestant("published", peer("trl", "published_student.py", str(folder), str(path), "train", dtype))
    trl = {way: Contestant(way, peer("trl", "trl_sft.py", str(folder), str(path), way, dtype)) for way in WAYS}
    first = rounds([mine, published, *trl.values()], 1, path=str(path))
    plain = first["published"][0]["loss"]
    off = {way: first[way][0]["loss"] - plain for way in WAYS}
    best = min((way for way in WAYS if abs(off[way]) < EXACT), key=lambda way: first[way][0]["seconds"])
    for way in WAYS:
        if way != best:
            trl[way].close()
    found = {who: list(first[who]) for who in ("ours", "published", best)}
    for number in range(1, steps):
        for contestant in (mine, trl[best], *([published] if number < published_steps else [])):
            found[contestant.name].append(contestant.once(round=number, path=str(path)))
            print(f"step {number + 1} of {steps}: {contestant.name} {found[contestant.name][-1]}", flush=True)
    for contestant in (mine, published, trl[best]):
        contestant.close()
    seconds = {who: [one["seconds"] for one in answers] for who, answers in found.items()}
    tokens = [
        sum(len(row.prompt) + len(row.answer) for row in rows[at : at + students.STEP])
        for at in range(0, len(rows), students.STEP)
    ]
    speeds = {f"tokens/s of {who}": sum(tokens[: len(taken)]) / sum(taken) for who, taken in seconds.items()}
    others = {f"first step of {way}, s": first[way][0]["seconds"] for way in WAYS} | {
        f"not exact, {way}": gap for way, gap in off.items() if abs(gap) >= EXACT
    }
    few = min(steps, published_steps)
    return [
        Figure(
            f"{name} rows: times the published way",
            median_ratio(seconds["published"], seconds["ours"][:few]),
            3,
            details=speeds | students.shape(rows),
        ),
        Figure(f"{name} rows: times TRL, {best}", median_ratio(seconds[best], seconds["ours"]), 1.2, details=others),
        Figure(
            f"{name} rows: peak memory against TRL, {best}", found["ours"][-1]["mb"] / found[best][-1]["mb"], 1.0, at_most=True
        ),
    ]


def _losses(name: str, rows: list[EncodedRow], dtype: str, steps: int) -> list[Figure]:
    """The first losses beside those of a plain loop: fp32, row by row, nothing packed."""
    import torch

    batches = [rows[at * students.STEP % len(rows) :][: students.STEP] for at in range(steps)]
    plain, device = students.training_run("float32"), students.this_device().torch_name
    expected = []
    for batch in batches:
        plain.model.train()
        plain.optimizer.zero_grad()
        answers, total = sum(len(row.answer) for row in batch), 0.0
        for row in batch:
            ids = torch.tensor([row.prompt + row.answer], device=device)
            labels = torch.tensor([[-100] * len(row.prompt) + row.answer], device=device)
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
