"""Every metric of every method on one test population.

What belongs here: which rows count, and the table of results. What doesn't: a metric's arithmetic (`ranking`, `text`) or
how a page shows it. The population is the test split of the windows; a method that lacks rows, or has others, says so
in the table, and never changes what another method is scored on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import EVALUATION_METRICS
from reasoningrec_assets.metrics.intervals import Interval, mean_interval
from reasoningrec_assets.metrics.ranking import auc_interval, hits, squared_errors
from reasoningrec_assets.metrics.text import TextScores, TextSettings, bertscore, deranged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

POPULATION = "population"

_TEST_SQL = """
SELECT user_id, target_item_id, label FROM read_parquet($windows) WHERE split = 'test'
ORDER BY user_id, target_item_id
"""
_METHODS_SQL = "SELECT DISTINCT method FROM read_parquet($predictions)"
_PREDICTIONS_SQL = """
WITH test AS (SELECT user_id, target_item_id, label FROM read_parquet($windows) WHERE split = 'test'),
scored AS (SELECT * FROM read_parquet($predictions) WHERE split = 'test')
SELECT test.label IS NOT NULL AS known, scored.label IS DISTINCT FROM test.label AS disagrees,
    count(*) OVER (PARTITION BY user_id, target_item_id) > 1 AS repeated,
    user_id, target_item_id, test.label, scored.explanation,
    coalesce(scored.score, 'nan'::DOUBLE) AS score, coalesce(scored.probability, 'nan'::DOUBLE) AS probability
FROM scored LEFT JOIN test USING (user_id, target_item_id)
ORDER BY user_id, target_item_id
"""
_REFERENCES_SQL = """
SELECT user_id, target_item_id, text FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> ''
"""


@dataclass
class _Rows:
    """The result table while it grows."""

    dataset: str
    rows: list[dict[str, str | int | float | None]] = field(default_factory=list[dict[str, "str | int | float | None"]])

    def add(self, method: str, metric: str, value: float | Interval | None, n: int) -> None:
        interval = value if isinstance(value, Interval) else Interval(None if value is None else float(value))
        self.rows.append(
            {
                "dataset": self.dataset,
                "method": method,
                "metric": metric,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "n": n,
            }
        )


@dataclass(frozen=True)
class _Method:
    """A method's rows within the population, ordered by user and item; explanations are None where not asked for."""

    name: str
    keys: list[tuple[str, str]]
    users: NDArray[np.object_]
    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    explanations: list[str | None]
    extra_rows: int


def evaluate(
    predictions: Mapping[str, Path],
    *,
    dataset: str,
    windows: Path,
    rows_in: int,
    dropped: Mapping[str, int],
    references: Path | None = None,
    text: TextSettings | None = None,
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
        text: Encoder of BERTScore; None leaves the text metrics out.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap and of the shuffled references.

    Returns:
        Rows in the `evaluation_metrics` schema.

    Raises:
        PermanentError: A file holds another method's rows, a row twice, another label than the windows, or a score
            that is not a number.
    """
    import pyarrow as pa

    truth = _query(_TEST_SQL, windows=windows)
    population = set(zip(truth["user_id"].to_pylist(), truth["target_item_id"].to_pylist(), strict=True))
    result = _Rows(dataset)
    _add_population(result, truth, rows_in, dropped, replicates, seed)

    methods = [_read_method(name, path, windows) for name, path in predictions.items()]
    for method in methods:
        _add_ranking(result, method, len(population), replicates, seed)
    if references is not None and text is not None:
        table = _query(_REFERENCES_SQL, references=references)
        known = {(row["user_id"], row["target_item_id"]): row["text"] for row in table.to_pylist()}
        _add_text(result, methods, known, text, replicates, seed)
    else:
        for method in methods:
            _add_explained(result, method)
    return pa.Table.from_pylist(result.rows, schema=EVALUATION_METRICS.arrow())


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
    counts["train_row_without_reasoning"] = figures["sft_splits"]["train_rows_without_reasoning"]
    counts["history_line_over_context_in_training"] = figures["lora_model"]["history_lines_dropped"]
    counts["history_line_over_context_in_scoring"] = figures["predictions"]["history_lines_dropped"]
    return {reason: int(count) for reason, count in counts.items()}


def metrics_by_name(table: pa.Table) -> dict[str, float]:
    """The defined values of an `evaluation_metrics` table as ``<method>_<metric>``, for plots over time."""
    return {f"{row['method']}_{row['metric']}": row["value"] for row in table.to_pylist() if row["value"] is not None}


def _query(sql: str, **files: Path) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        return connection.sql(sql, params={name: str(path) for name, path in files.items()}).to_arrow_table()


def _add_population(result: _Rows, truth: pa.Table, rows_in: int, dropped: Mapping[str, int], replicates: int, seed: int) -> None:
    labels = truth["label"].to_numpy()
    result.add(POPULATION, "rows_in", rows_in, rows_in)
    for reason, rows in dropped.items():
        result.add(POPULATION, f"dropped_{reason}", rows, rows_in)
    result.add(POPULATION, "test_rows", len(labels), len(labels))
    users = truth["user_id"].to_numpy()
    liked_share = mean_interval(labels, groups=users, replicates=replicates, seed=seed)
    result.add(POPULATION, "liked_share", liked_share, len(labels))
    if len(set(labels.tolist())) == 1:
        result.add(POPULATION, "one_class_only", 1, len(labels))


def _read_method(name: str, path: Path, windows: Path) -> _Method:
    """Read a method's test rows and hold them against the population."""
    where = f"method {name}, {path}"
    held = set(_query(_METHODS_SQL, predictions=path)["method"].to_pylist())
    if held - {name}:
        raise PermanentError(
            "evaluate a method's predictions",
            where=where,
            problem=f"the file holds rows of {', '.join(sorted(held - {name}))}",
            remedy="Pass each file under the method that its rows name",
        )
    table = _query(_PREDICTIONS_SQL, predictions=path, windows=windows)
    known = table["known"].to_numpy()
    covered = table.filter(table["known"])
    problems = {
        "rows for a user and item that it scores more than once": int(table["repeated"].to_numpy().sum()),
        "rows whose label is not the one in interaction_windows": int(covered["disagrees"].to_numpy().sum()),
    }
    for problem, rows in problems.items():
        if rows:
            raise PermanentError(
                "evaluate a method's predictions",
                where=where,
                problem=f"it has {rows} {problem}",
                remedy="Materialize the predictions again from the current interaction_windows",
            )
    users = covered["user_id"].to_numpy()
    return _Method(
        name=name,
        keys=list(zip(users.tolist(), covered["target_item_id"].to_pylist(), strict=True)),
        users=users,
        labels=covered["label"].to_numpy(),
        scores=covered["score"].to_numpy(),
        probabilities=covered["probability"].to_numpy(),
        explanations=covered["explanation"].to_pylist(),
        extra_rows=int((~known).sum()),
    )


def _add_ranking(result: _Rows, method: _Method, test_rows: int, replicates: int, seed: int) -> None:
    name, labels, rows = method.name, method.labels, len(method.labels)
    auc = auc_interval(labels, method.scores, groups=method.users, replicates=replicates, seed=seed, method=name)
    result.add(name, "auc", auc, rows)
    if len(set(labels.tolist())) == 1:
        result.add(name, "one_class_only", 1, rows)
    if auc.left_out:
        result.add(name, "auc_replicates_left_out", auc.left_out, rows)
    right = hits(labels, method.scores, method=name)
    errors = squared_errors(labels, method.probabilities, method=name)
    result.add(name, "accuracy", mean_interval(right, groups=method.users, replicates=replicates, seed=seed), rows)
    result.add(name, "brier", mean_interval(errors, groups=method.users, replicates=replicates, seed=seed), rows)
    result.add(name, "coverage", rows / test_rows if test_rows else None, test_rows)
    result.add(name, "missing_rows", test_rows - rows, test_rows)
    result.add(name, "extra_rows", method.extra_rows, rows + method.extra_rows)


def _add_explained(result: _Rows, method: _Method) -> list[int]:
    explained = [row for row, text in enumerate(method.explanations) if text is not None]
    if explained:
        result.add(method.name, "explained_rows", len(explained), len(method.keys))
    return explained


def _add_text(
    result: _Rows,
    methods: list[_Method],
    references: Mapping[tuple[str, str], str],
    text: TextSettings,
    replicates: int,
    seed: int,
) -> None:
    """Text metrics of all methods, from one call of `bertscore`: the encoder is loaded once, not twice a method."""
    candidates: list[str] = []
    targets: list[str] = []
    spans: list[tuple[_Method, list[int], int]] = []
    for method in methods:
        explained = _add_explained(result, method)
        if not explained:
            continue
        both = [row for row in explained if method.keys[row] in references]
        result.add(method.name, "explained_without_reference", len(explained) - len(both), len(explained))
        own = [references[method.keys[row]] for row in both]
        # The same derangement as `text.shuffled_reference_floor`; a single row has none, and so no floor.
        shuffled = [own[int(row)] for row in deranged(len(own), seed)] if len(own) > 1 else []
        written = [method.explanations[row] or "" for row in both]
        spans.append((method, both, len(shuffled)))
        candidates += written + written[: len(shuffled)]
        targets += own + shuffled
    scores = bertscore(
        candidates,
        targets,
        encoder=text.encoder,
        num_layers=text.num_layers,
        batch_size=text.batch_size,
        device=text.device,
    )
    start = 0
    for method, both, shuffled_rows in spans:
        users = method.users[both]
        for metric, column in zip(TextScores._fields, scores, strict=True):
            values = column[start : start + len(both)]
            interval = mean_interval(values, groups=users, replicates=replicates, seed=seed)
            result.add(method.name, f"bertscore_{metric}", interval, len(both))
        start += len(both)
        floor = mean_interval(
            scores.f1[start : start + shuffled_rows], groups=users[:shuffled_rows], replicates=replicates, seed=seed
        )
        result.add(method.name, "bertscore_f1_shuffled_floor", floor, shuffled_rows)
        start += shuffled_rows
