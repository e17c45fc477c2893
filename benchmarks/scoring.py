"""Rows scored per second, beside generating an answer to read its label and lm-evaluation-harness's two choices."""

from __future__ import annotations

import json

from benchmarks import quality, students
from benchmarks.harness import CACHE, Contestant, Figure, median_ratio, ours, peer, rounds
from benchmarks.inputs import MODEL
from reasoningrec_assets.models import store
from reasoningrec_assets.training.encode import EncodedRow
from reasoningrec_assets.training.scoring import label_log_odds


def run(quick: bool) -> list[Figure]:
    dtype = students.this_device().dtype
    rows = students.synthetic_rows(4, 40, 80) if quick else students.real_rows("test", 48)
    few = rows[: 1 if quick else 4]  # each takes the published way ten seconds and more
    folder, labels = store.resolve(MODEL, CACHE), students.chat().label_tokens()
    chosen = CACHE / "labels.json"
    chosen.write_text(json.dumps({"prefix": labels.prefix, "yes": labels.yes[0], "no": labels.no[0]}), encoding="utf-8")
    paths = {"all": students.saved("scored", rows), "few": students.saved("scored-few", few)}
    mine = Contestant("ours", ours("students", "score", dtype))
    harness = Contestant("lm-eval", peer("lm_eval", "lm_eval_choice.py", str(folder), str(paths["all"]), str(chosen), dtype))
    published = Contestant("published", peer("trl", "published_student.py", str(folder), str(paths["few"]), "score", dtype))
    count = 1 if quick else 3
    both = rounds([mine, harness], count, path=str(paths["all"]))
    alone = rounds([mine, published], 1 if quick else 3, path=str(paths["few"]))
    for contestant in (mine, harness, published):
        contestant.close()
    seconds = {who: [one["seconds"] for one in answers] for who, answers in both.items()}
    slow = {who: [one["seconds"] for one in answers] for who, answers in alone.items()}
    return [
        Figure("times the published way", median_ratio(slow["published"], slow["ours"]), 8, details=students.shape(rows)),
        Figure(
            "times lm-evaluation-harness",
            median_ratio(seconds["lm-eval"], seconds["ours"]),
            1.5,
            details={f"rows/s of {who}": len(rows) * count / sum(taken) for who, taken in seconds.items()},
        ),
        _exactness(rows),
    ]


def _exactness(rows: list[EncodedRow]) -> Figure:
    """Ours in fp32 beside one plain fp32 pass for each row; `quality` holds a trained student's AUC against the same."""
    device = students.this_device().torch_name
    model = store.load_causal_model(store.resolve(MODEL, CACHE), "float32", device)
    scores = label_log_odds(model, rows, students.chat().label_tokens(), tokens_per_batch=4096, device=device)
    off = max(abs(one - other) for one, other in zip(scores, quality.plain_log_odds(rows), strict=True))
    return Figure("largest difference of log-odds to a plain fp32 pass", off, 1e-3, at_most=True, details={"rows": len(rows)})
