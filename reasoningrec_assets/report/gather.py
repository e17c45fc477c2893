"""What the page shows, read from the lake's Parquet files into plain dataclasses.

What belongs here: the dataclasses, and the queries that fill them. What doesn't: sentences, drawings or HTML, see
`page`. Costs, lineage and the training curve come from receipts, which this package doesn't know: the caller passes them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

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
class Shown:
    """An item of a history, and whether the user liked it."""

    title: str
    liked: bool


@dataclass(frozen=True)
class MethodScore:
    """A method's answer for one row."""

    method: str
    floor: bool
    score: float
    probability: float


@dataclass(frozen=True)
class UserCase:
    """One test row in full: ``explanations`` are (method, text) pairs, ``reference`` is the teacher's reasoning."""

    user_id: str
    history: tuple[Shown, ...]
    target: Shown
    scores: tuple[MethodScore, ...]
    explanations: tuple[tuple[str, str], ...]
    reference: str | None


@dataclass(frozen=True)
class Epoch:
    """One epoch of the student's training; None where it was not measured."""

    epoch: float
    train_loss: float | None
    valid_auc: float | None


@dataclass(frozen=True)
class Cost:
    """What a step took; None where it generates nothing."""

    asset: str
    seconds: float
    generated_tokens: int | None = None
    cache_hits: int | None = None


@dataclass(frozen=True)
class Version:
    """Which version of an asset the report was made from."""

    asset: str
    data_version: str


@dataclass(frozen=True)
class Report:
    """Everything on the page. ``methods`` are sorted by AUC, best first, those without one last."""

    dataset: str
    title: str
    facts: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]
    test_rows: int
    liked_share: float | None
    rows_in: int
    dropped: tuple[tuple[str, int], ...]
    cases: tuple[UserCase, ...] = ()
    training: tuple[Epoch, ...] = ()
    costs: tuple[Cost, ...] = ()
    lineage: tuple[Version, ...] = ()


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
    training: Sequence[Epoch] = (),
    costs: Sequence[Cost] = (),
    lineage: Sequence[Version] = (),
    floors: Collection[str] = FLOORS,
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
        training: The student's training curve.
        costs: What each step took.
        lineage: The versions that the report was made from.
        floors: Methods that need no language model, and are marked so.
        users: Test rows in the sample, those with an explanation first.
    """
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _rows("SELECT method, metric, value, low, high, n FROM read_parquet($metrics)", metrics=str(metrics)):
        by_method.setdefault(row["method"], {})[row["metric"]] = row
    population = by_method.pop("population", {})
    methods = [_method(name, measured, name in floors) for name, measured in by_method.items()]
    return Report(
        dataset=dataset,
        title=title,
        facts=tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in (facts or {}).items()),
        methods=tuple(sorted(methods, key=lambda method: (method.auc is None, -(method.auc or 0.0), method.name))),
        test_rows=int(_value(population, "test_rows") or 0),
        liked_share=_value(population, "liked_share"),
        rows_in=int(_value(population, "rows_in") or 0),
        dropped=tuple(
            (name.removeprefix("dropped_"), int(row["value"])) for name, row in population.items() if name.startswith("dropped_")
        ),
        cases=_cases(predictions, windows, items, references, floors, users),
        training=tuple(training),
        costs=tuple(costs),
        lineage=tuple(lineage),
    )


def _rows(sql: str, **params: object) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        return connection.sql(sql, params=params).to_arrow_table().to_pylist()


def _value(measured: Mapping[str, Mapping[str, Any]], metric: str, column: str = "value") -> float | None:
    return measured[metric][column] if metric in measured else None


def _method(name: str, measured: Mapping[str, Mapping[str, Any]], floor: bool) -> Method:
    return Method(
        name=name,
        floor=floor,
        rows=int(_value(measured, "auc", "n") or 0),
        auc=_value(measured, "auc"),
        low=_value(measured, "auc", "low"),
        high=_value(measured, "auc", "high"),
        coverage=_value(measured, "coverage"),
        missing_rows=int(_value(measured, "missing_rows") or 0),
        extra_rows=int(_value(measured, "extra_rows") or 0),
        accuracy=_value(measured, "accuracy"),
        brier=_value(measured, "brier"),
        explained_rows=int(_value(measured, "explained_rows") or 0),
        bertscore_f1=_value(measured, "bertscore_f1"),
        bertscore_low=_value(measured, "bertscore_f1", "low"),
        bertscore_high=_value(measured, "bertscore_f1", "high"),
        bertscore_floor=_value(measured, "bertscore_f1_shuffled_floor"),
    )


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _cases(
    predictions: Mapping[str, Path],
    windows: Path,
    items: Path,
    references: Path | None,
    floors: Collection[str],
    users: int,
) -> tuple[UserCase, ...]:
    if not predictions:
        return ()
    files = [str(path) for path in predictions.values()]
    picked = _rows(_CASES_SQL, predictions=files, windows=str(windows), users=users)
    user_ids = [row["user_id"] for row in picked]
    scores: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _rows(_SCORES_SQL, predictions=files, ids=user_ids):
        scores.setdefault((row["user_id"], row["target_item_id"]), []).append(row)
    reasons = _rows(_REFERENCES_SQL, references=str(references), ids=user_ids) if references else []
    texts = {(row["user_id"], row["target_item_id"]): row["text"] for row in reasons}
    item_ids = {item for row in picked for item in (row["target_item_id"], *row["history_item_ids"])}
    titles: dict[str, str] = {
        row["item_id"]: _cut(row["title"], _TITLE_CHARACTERS) + (f" ({row['year']})" if row["year"] else "")
        for row in _rows(_TITLES_SQL, items=str(items), ids=sorted(item_ids))
    }

    def shown(item: str, liked: bool) -> Shown:
        return Shown(titles.get(item, item), liked)

    order = {name: place for place, name in enumerate(predictions)}
    cases: list[UserCase] = []
    for row in picked:
        key = (row["user_id"], row["target_item_id"])
        answers = sorted(scores.get(key, []), key=lambda answer: order.get(answer["method"], len(order)))
        cases.append(
            UserCase(
                user_id=row["user_id"],
                history=tuple(
                    shown(item, liked) for item, liked in zip(row["history_item_ids"], row["history_liked"], strict=True)
                ),
                target=shown(row["target_item_id"], row["label"]),
                scores=tuple(
                    MethodScore(answer["method"], answer["method"] in floors, answer["score"], answer["probability"])
                    for answer in answers
                ),
                explanations=tuple(
                    (answer["method"], _cut(answer["explanation"], _TEXT_CHARACTERS))
                    for answer in answers
                    if answer["explanation"] is not None
                ),
                reference=_cut(texts[key], _TEXT_CHARACTERS) if key in texts else None,
            )
        )
    return tuple(cases)
