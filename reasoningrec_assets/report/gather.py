"""What the page shows, read from the lake's Parquet files into plain values.

What belongs here: the values, and the queries that fill them. What doesn't: sentences, drawings or HTML, see `page`,
or walking over receipts, see `provenance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.sql import query

# Methods that need no language model, and are marked so.
FLOORS = ("like_rate", "logistic_regression")

# Raw titles of up to 423,494 characters exist; a page has to survive them.
_TITLE_CHARACTERS = 120
_TEXT_CHARACTERS = 4_000


@dataclass(frozen=True)
class Method:
    """One line of the leaderboard; None where the method has no such metric."""

    name: str
    floor: bool
    rows: int
    auc: float | None
    low: float | None
    high: float | None
    coverage: float | None = None
    missing_rows: int = 0
    extra_rows: int = 0
    accuracy: float | None = None
    brier: float | None = None
    explained_rows: int = 0
    bertscore_f1: float | None = None
    bertscore_low: float | None = None
    bertscore_high: float | None = None
    bertscore_floor: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Attributes:
        methods: Sorted by AUC, best first, those without one last.
        dropped: Reason and number of what was left out.
        cases: Test rows in full: ``user_id``, ``history`` and ``target`` (items as ``title`` and ``liked``), ``scores``
            (``method``, ``floor``, ``score``, ``probability``), ``explanations`` (method, text) and ``reference``, the
            teacher's reasoning or None.
        training: The student's epochs: ``epoch``, ``train_loss`` and ``valid_auc``, None where it was not measured.
        receipts: The steps that the report was made from.
    """

    dataset: str
    title: str
    facts: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]
    test_rows: int
    liked_share: float | None
    rows_in: int
    dropped: tuple[tuple[str, int], ...]
    cases: Sequence[Mapping[str, Any]] = ()
    training: Sequence[Mapping[str, Any]] = ()
    receipts: Sequence[Receipt] = ()


_CASES_SQL = """
WITH explained AS (
    SELECT DISTINCT user_id, target_item_id FROM read_parquet($predictions) WHERE split = 'test' AND trim(explanation) <> ''
)
SELECT user_id, target_item_id, label, history_item_ids, history_liked
FROM read_parquet($windows) AS windows LEFT JOIN explained USING (user_id, target_item_id)
WHERE split = 'test'
-- Rows with an explanation first; the hash is a sample that is the same in every report of the same users.
ORDER BY explained.user_id IS NULL, md5(user_id || '/' || target_item_id) LIMIT $users
"""
_SCORES_SQL = """
SELECT user_id, target_item_id, method, score, probability, explanation FROM read_parquet($predictions)
WHERE split = 'test' AND list_contains($ids, user_id)
"""
_REFERENCES_SQL = """
SELECT user_id, target_item_id, text FROM read_parquet($references)
WHERE split = 'test' AND trim(text) <> '' AND list_contains($ids, user_id)
"""
_TITLES_SQL = "SELECT item_id, title, year FROM read_parquet($items) WHERE list_contains($ids, item_id)"


def gather(
    *,
    dataset: str,
    title: str,
    metrics: Path,
    predictions: Mapping[str, Path],
    windows: Path,
    items: Path,
    references: Path | None = None,
    facts: Mapping[str, str | int | float] | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    receipts: Sequence[Receipt] = (),
    users: int = 12,
) -> Report:
    """Read what the page shows.

    Args:
        dataset: The dataset partition.
        title: The dataset's name for people.
        metrics: Parquet file of `evaluation_metrics`.
        predictions: Parquet file of `predictions` for each method.
        windows: Parquet file of `interaction_windows`.
        items: Parquet file of `items`.
        references: Parquet file of `reasoning_labels`, where there is one.
        facts: Further facts of the dataset by name, shown in this order.
        training: The student's training curve, as in `Report`.
        receipts: The steps that the report was made from.
        users: Test rows in the sample, those with an explanation first.
    """
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for row in query("SELECT method, metric, value, low, high, n FROM read_parquet($metrics)", metrics=metrics).to_pylist():
        by_method.setdefault(row["method"], {})[row["metric"]] = row
    population = {metric: row["value"] for metric, row in by_method.pop("population", {}).items()}
    methods = [_method(name, measured) for name, measured in by_method.items()]
    return Report(
        dataset=dataset,
        title=title,
        facts=tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in (facts or {}).items()),
        methods=tuple(sorted(methods, key=lambda method: (method.auc is None, -(method.auc or 0.0), method.name))),
        test_rows=int(population.get("test_rows", 0)),
        liked_share=population.get("liked_share"),
        rows_in=int(population.get("rows_in", 0)),
        dropped=tuple((name.removeprefix("dropped_"), int(n)) for name, n in population.items() if name.startswith("dropped_")),
        cases=_cases(predictions, windows, items, references, users) if predictions else (),
        training=training,
        receipts=receipts,
    )


def _method(name: str, measured: Mapping[str, Mapping[str, Any]]) -> Method:
    def value(metric: str, column: str = "value") -> Any:
        return measured[metric][column] if metric in measured else None

    return Method(
        name=name,
        floor=name in FLOORS,
        rows=int(value("auc", "n") or 0),
        low=value("auc", "low"),
        high=value("auc", "high"),
        bertscore_low=value("bertscore_f1", "low"),
        bertscore_high=value("bertscore_f1", "high"),
        bertscore_floor=value("bertscore_f1_shuffled_floor"),
        **{metric: value(metric) for metric in ("auc", "coverage", "accuracy", "brier", "bertscore_f1")},
        **{metric: int(value(metric) or 0) for metric in ("missing_rows", "extra_rows", "explained_rows")},
    )


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _cases(
    predictions: Mapping[str, Path], windows: Path, items: Path, references: Path | None, users: int
) -> list[dict[str, Any]]:
    files = list(predictions.values())
    picked = query(_CASES_SQL, predictions=files, windows=windows, users=users).to_pylist()
    ids = [row["user_id"] for row in picked]
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in query(_SCORES_SQL, predictions=files, ids=ids).to_pylist():
        answers.setdefault((row["user_id"], row["target_item_id"]), []).append(row | {"floor": row["method"] in FLOORS})
    reasons = query(_REFERENCES_SQL, references=references, ids=ids).to_pylist() if references else []
    texts = {(row["user_id"], row["target_item_id"]): _cut(row["text"], _TEXT_CHARACTERS) for row in reasons}
    item_ids = {item for row in picked for item in (row["target_item_id"], *row["history_item_ids"])}
    titles: dict[str, str] = {
        row["item_id"]: _cut(row["title"], _TITLE_CHARACTERS) + (f" ({row['year']})" if row["year"] else "")
        for row in query(_TITLES_SQL, items=items, ids=sorted(item_ids)).to_pylist()
    }

    def shown(item: str, liked: bool) -> dict[str, Any]:
        return {"title": titles.get(item, item), "liked": liked}

    order = list(predictions)
    cases: list[dict[str, Any]] = []
    for row in picked:
        key = (row["user_id"], row["target_item_id"])
        scores = sorted(answers.get(key, []), key=lambda answer: order.index(answer["method"]))
        cases.append(
            {
                "user_id": row["user_id"],
                "history": [shown(*pair) for pair in zip(row["history_item_ids"], row["history_liked"], strict=True)],
                "target": shown(row["target_item_id"], row["label"]),
                "scores": scores,
                "explanations": [
                    (answer["method"], _cut(answer["explanation"], _TEXT_CHARACTERS))
                    for answer in scores
                    if answer["explanation"] is not None
                ],
                "reference": texts.get(key),
            }
        )
    return cases
