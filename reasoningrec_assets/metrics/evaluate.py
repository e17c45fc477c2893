"""Every metric of every method on one test population.

What belongs here: which rows count, and the table of results. What doesn't: a metric's arithmetic (`ranking`, `text`) or
how a page shows it. The population is the test split of the windows; a method that lacks rows, or has others, says so
in the table, and never changes what another method is scored on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from numpy.typing import ArrayLike

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import EVALUATION_METRICS
from reasoningrec_assets.metrics.intervals import Interval, mean_interval
from reasoningrec_assets.metrics.ranking import auc_interval, checked
from reasoningrec_assets.metrics.text import BertScore, TextScores, deranged
from reasoningrec_assets.sql import query

_POPULATION = "population"

_TEST_SQL = "SELECT user_id, label FROM read_parquet($windows) WHERE split = 'test' ORDER BY user_id, target_item_id"
_METHODS_SQL = "SELECT DISTINCT method FROM read_parquet($predictions)"
_PREDICTIONS_SQL = """
WITH test AS (SELECT user_id, target_item_id, label FROM read_parquet($windows) WHERE split = 'test'),
scored AS (SELECT * FROM read_parquet($predictions) WHERE split = 'test')
SELECT test.label IS NOT NULL AS known, scored.label <> test.label AS disagrees,
    count(*) OVER (PARTITION BY user_id, target_item_id) > 1 AS repeated,
    user_id, target_item_id, test.label, scored.explanation,
    coalesce(scored.score, 'nan'::DOUBLE) AS score, coalesce(scored.probability, 'nan'::DOUBLE) AS probability
FROM scored LEFT JOIN test USING (user_id, target_item_id)
ORDER BY user_id, target_item_id
"""
_REFERENCES_SQL = "SELECT * FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> ''"


@dataclass
class _Results:
    """The result table while it grows."""

    dataset: str
    replicates: int
    seed: int
    rows: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    def add(self, method: str, metric: str, value: float | Interval | None, n: int) -> None:
        found = value if isinstance(value, Interval) else Interval(value)
        row = {"dataset": self.dataset, "method": method, "metric": metric, "n": n}
        self.rows.append({**row, "value": found.value, "low": found.low, "high": found.high})

    def add_mean(self, method: str, metric: str, values: ArrayLike, users: pa.ChunkedArray) -> None:
        interval = mean_interval(values, groups=users.to_numpy(), replicates=self.replicates, seed=self.seed)
        self.add(method, metric, interval, len(users))

    def add_one_class(self, method: str, labels: pa.ChunkedArray) -> None:
        if len(labels.unique()) == 1:
            self.add(method, "one_class_only", 1, len(labels))


def evaluate(
    predictions: Mapping[str, Path],
    *,
    dataset: str,
    windows: Path,
    rows_in: int,
    dropped: Mapping[str, int],
    references: Path | None = None,
    text: BertScore | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """Evaluate all methods on the test rows of the windows.

    For each method: ``auc``, ``accuracy``, ``brier`` with 95 % intervals over users, ``coverage`` (share of the test rows that it
    scored), ``missing_rows`` and ``extra_rows``; the first three are computed on the covered rows, and their ``n`` says
    how many those are. Where those rows have one class only, the AUC is null and ``one_class_only`` is 1; bootstrap replicates
    with one class are counted in ``auc_replicates_left_out``. For a method that explains: ``explained_rows``, and against the
    teacher's reasoning, on the rows that have both, ``bertscore_precision``, ``bertscore_recall``, ``bertscore_f1`` and
    ``bertscore_f1_shuffled_floor``; an explanation that was asked for and came back empty scores 0, and one without a
    reference is counted in ``explained_without_reference``. Method ``population``: ``rows_in``, ``dropped_<reason>``,
    ``test_rows``, ``liked_share``.

    Args:
        predictions: Parquet file of `predictions` for each method, under the name that its rows carry.
        dataset: The dataset partition.
        windows: Parquet file of `interaction_windows`; its test labels are the truth.
        rows_in: Raw rows that the dataset started with.
        dropped: Rows dropped on the way, for each reason, as `left_out` names them.
        references: Parquet file of `reasoning_labels`; None leaves the text metrics out.
        text: BERTScore with its encoder; None leaves the text metrics out.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap and of the shuffled references.

    Returns:
        Rows in the `evaluation_metrics` schema.

    Raises:
        PermanentError: A file holds another method's rows, a row twice, another label than the windows, or a score
            that is not a number.
    """
    truth = query(_TEST_SQL, windows=windows)
    methods = {name: _read(name, path, windows) for name, path in predictions.items()}
    known: dict[tuple[str, str], str] = {}
    if references is not None and text is not None:
        rows = query(_REFERENCES_SQL, references=references).to_pylist()
        known = {(row["user_id"], row["target_item_id"]): row["text"] for row in rows}

    results = _Results(dataset, replicates, seed)
    results.add(_POPULATION, "rows_in", rows_in, rows_in)
    for reason, rows in dropped.items():
        results.add(_POPULATION, f"dropped_{reason}", rows, rows_in)
    results.add(_POPULATION, "test_rows", truth.num_rows, truth.num_rows)
    results.add_mean(_POPULATION, "liked_share", truth["label"].to_numpy(), truth["user_id"])
    results.add_one_class(_POPULATION, truth["label"])
    for name, (rows, extra_rows) in methods.items():
        _add_ranking(results, name, rows, truth.num_rows, extra_rows)
        explained = rows.filter(rows["explanation"].is_valid())
        if explained.num_rows:
            results.add(name, "explained_rows", explained.num_rows, rows.num_rows)
        if explained.num_rows and references is not None and text is not None:
            _add_text(results, name, explained, known, text)
    return pa.Table.from_pylist(results.rows, schema=EVALUATION_METRICS.arrow())


def left_out(figures: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """What each stage left out, by reason, from the figures that the stages' receipts hold.

    Args:
        figures: The figures of each asset by name.
    """
    counts = {
        name.removeprefix("dropped_"): value
        for name, value in figures["cleaned_interactions"].items()
        if name.startswith("dropped_")
    }
    counts["item_without_title"] = figures["items"]["items_without_title"]
    counts["user_without_window"] = figures["interaction_windows"]["users_below_four_rows"]
    for asset in ("item_descriptions", "user_profiles", "reasoning_labels"):
        counts[f"{asset}_without_text"] = figures[asset]["generation_empty"] + figures[asset]["generation_failed"]
    counts["history_line_over_context_in_training"] = figures["lora_model"]["history_lines_dropped"]
    counts["history_line_over_context_in_scoring"] = figures["predictions"]["history_lines_dropped"]
    return {reason: int(count) for reason, count in counts.items()}


def metrics_by_name(table: pa.Table) -> dict[str, float]:
    """The defined values of an `evaluation_metrics` table as ``<method>_<metric>``, for plots over time."""
    return {f"{row['method']}_{row['metric']}": row["value"] for row in table.to_pylist() if row["value"] is not None}


def _read(name: str, path: Path, windows: Path) -> tuple[pa.Table, int]:
    """A method's rows within the population, ordered by user and item, and how many it has outside."""
    found = query(_PREDICTIONS_SQL, predictions=path, windows=windows)
    covered = found.filter(found["known"])
    foreign = {*query(_METHODS_SQL, predictions=path)["method"].to_pylist()} - {name}
    repeated, disagreeing = sum(found["repeated"].to_pylist()), sum(covered["disagrees"].to_pylist())
    problems = {
        f"the file holds rows of {', '.join(sorted(foreign))}": len(foreign),
        f"it has {repeated} rows for a user and item that it scores more than once": repeated,
        f"it has {disagreeing} rows whose label is not the one in interaction_windows": disagreeing,
    }
    for problem in (problem for problem, rows in problems.items() if rows):
        raise PermanentError(
            "evaluate a method's predictions",
            where=f"method {name}, {path}",
            problem=problem,
            remedy="Materialize the method's predictions again, from the current interaction_windows",
        )
    return covered, found.num_rows - covered.num_rows


def _add_ranking(results: _Results, name: str, covered: pa.Table, test_rows: int, extra_rows: int) -> None:
    rows, users = covered.num_rows, covered["user_id"]
    labels, scores = checked(covered["label"].to_numpy(), covered["score"].to_numpy(), name)
    _, probabilities = checked(labels, covered["probability"].to_numpy(), name)
    auc = auc_interval(labels, scores, groups=users.to_numpy(), replicates=results.replicates, seed=results.seed, method=name)
    results.add(name, "auc", auc, rows)
    results.add_one_class(name, covered["label"])
    if auc.left_out:
        results.add(name, "auc_replicates_left_out", auc.left_out, rows)
    # A score of exactly 0 says No.
    results.add_mean(name, "accuracy", (scores > 0) == labels, users)
    # Brier 1950: 0 is best, 0.25 is a constant one half.
    results.add_mean(name, "brier", (probabilities - labels) ** 2, users)
    results.add(name, "coverage", rows / test_rows if test_rows else None, test_rows)
    results.add(name, "missing_rows", test_rows - rows, test_rows)
    results.add(name, "extra_rows", extra_rows, rows + extra_rows)


def _add_text(results: _Results, name: str, explained: pa.Table, known: Mapping[tuple[str, str], str], text: BertScore) -> None:
    keys = zip(explained["user_id"].to_pylist(), explained["target_item_id"].to_pylist(), strict=True)
    own = [known.get(key) for key in keys]
    both = explained.filter(pa.array([reference is not None for reference in own]))
    results.add(name, "explained_without_reference", explained.num_rows - both.num_rows, explained.num_rows)
    written, users = both["explanation"].to_pylist(), both["user_id"]
    references = [reference for reference in own if reference is not None]
    for metric, values in zip(TextScores._fields, text.score(written, references), strict=True):
        results.add_mean(name, f"bertscore_{metric}", values, users)
    # A single row has no other row's reference to be held against, and so no floor.
    shuffled = [references[row] for row in deranged(len(references), results.seed)]
    floor = text.score(written[: len(shuffled)], shuffled).f1
    results.add_mean(name, "bertscore_f1_shuffled_floor", floor, users.slice(0, len(shuffled)))
