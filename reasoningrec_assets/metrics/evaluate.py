"""Every metric of every method on one test population, as a table; the arithmetic belongs to `ranking` and `text`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.calibration import calibration_error, recalibrated
from reasoningrec_assets.metrics.explanations import Row, Texts, explanation_figures, flagged, swapped_figures
from reasoningrec_assets.metrics.intervals import Interval, mean_interval
from reasoningrec_assets.metrics.ranking import auc_interval
from reasoningrec_assets.sql import query, statements

_SQL = statements(__file__)


def evaluate(
    predictions: Mapping[str, Path],
    *,
    dataset: str,
    windows: Path,
    rows_in: int = 0,
    dropped: Mapping[str, int] | None = None,
    texts: Texts | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """Rows of `evaluation_metrics`: every method, under the name that its file's rows carry, and the ``population``.

    The population is the test split of the windows; a method that lacks rows, or has others, says so in the table, and never
    changes what another method is scored on. ``auc``, ``accuracy`` and ``brier``, with 95 % intervals over users, are
    computed on the rows that it covers; the AUC is null where those have one class only. Explanations are counted, and measured
    by `explanation_figures` where ``texts`` are given. ``rows_in`` and ``dropped`` (see `left_out`) are copied.

    PermanentError where a file has what `problem_of` finds: another method's rows, a row twice, another label than the windows, or
    a score that is no finite number.
    """
    truth = query(_SQL["truth"], windows=windows)
    for name, path in predictions.items():
        if problem := problem_of(name, path, windows):
            where, remedy = f"method {name}, {path}", "Materialize them again, from the current interaction_windows"
            raise PermanentError("evaluate a method's predictions", where=where, problem=problem, remedy=remedy)
    draws = {"replicates": replicates, "seed": seed}
    flags = flagged([*predictions.values()], windows, texts) if texts and predictions else None
    found = [("population", row) for row in _population(truth, rows_in, dropped or {}, draws)]
    for name, path in predictions.items():
        scored = query(_SQL["predictions"], predictions=path, windows=windows)
        covered = scored.filter(scored["known"])  # what lies outside of the population is counted, and nothing else
        found += [(name, row) for row in _ranking(covered, truth.num_rows, scored.num_rows - covered.num_rows, draws)]
        found += [(name, row) for row in _figures(covered, path, windows)]
        if explained := covered.num_rows - covered["explanation"].null_count:
            found.append((name, ("explained_rows", explained, covered.num_rows)))
            found += [(name, row) for row in explanation_figures(name, flags, texts, draws)] if flags and texts else []
            found += [(name, row) for row in swapped_figures(path, windows, draws)]
    told = ((name, metric, n, value if isinstance(value, Interval) else Interval(value)) for name, (metric, value, n) in found)
    rows = [{"dataset": dataset, "method": method, "metric": metric, "n": n} | vars(value) for method, metric, n, value in told]
    return pa.Table.from_pylist(rows, schema=TABLES["evaluation_metrics"].arrow())


def left_out(figures: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """What each stage left out, by reason, from the figures that the stages' receipts hold, by asset."""
    cleaning = figures["cleaned_interactions"]
    counts = {name.removeprefix("dropped_"): value for name, value in cleaning.items() if name.startswith("dropped_")}
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


def problem_of(method: str, predictions: Path, windows: Path) -> str | None:
    """What is wrong with a method's test and validation rows, all in one sentence; None where they can be evaluated."""
    found = query(_SQL["problems"], method=method, predictions=predictions, windows=windows)
    return "; ".join(found["problem"].to_pylist()) or None


def _population(truth: pa.Table, rows_in: int, dropped: Mapping[str, int], draws: Mapping[str, int]) -> Iterator[Row]:
    yield "rows_in", rows_in, rows_in
    for reason, rows in dropped.items():
        yield f"dropped_{reason}", rows, rows_in
    labels, users = truth["label"].to_numpy(), truth["user_id"].to_numpy()
    yield "test_rows", len(labels), len(labels)
    yield "liked_share", mean_interval(labels, groups=users, **draws), len(labels)
    if len(np.unique(labels)) == 1:
        yield "one_class_only", 1, len(labels)


def _ranking(covered: pa.Table, test_rows: int, extra_rows: int, draws: Mapping[str, int]) -> Iterator[Row]:
    rows, columns = covered.num_rows, ("user_id", "label", "score", "probability")
    users, labels, scores, probabilities = (covered[column].to_numpy() for column in columns)
    auc = auc_interval(labels, scores, groups=users, **draws)
    yield "auc", auc, rows
    if len(np.unique(labels)) == 1:
        yield "one_class_only", 1, rows
    if auc.left_out:
        yield "auc_replicates_left_out", auc.left_out, rows
    # A score of exactly 0 says No.
    yield "accuracy", mean_interval((scores > 0) == labels, groups=users, **draws), rows
    # Brier 1950: 0 is best, 0.25 is a constant one half.
    yield "brier", mean_interval((probabilities - labels) ** 2, groups=users, **draws), rows
    yield "coverage", rows / test_rows if test_rows else None, test_rows
    yield "missing_rows", test_rows - rows, test_rows
    yield "extra_rows", extra_rows, rows + extra_rows


def _figures(covered: pa.Table, predictions: Path, windows: Path) -> Iterator[Row]:
    """What needs no interval, or needs the validation rows too: a threshold, a temperature, and what they give on test rows."""
    valid = query(_SQL["valid"], predictions=predictions, windows=windows)
    figures = query(_SQL["figures"], predictions=predictions, windows=windows).to_pylist()[0]
    for metric, value in figures.items():
        yield metric, value, figures["users_with_both_classes"] if metric == "auc_per_user" else covered.num_rows
    labels, scores, stated = (covered[column].to_numpy() for column in ("label", "score", "probability"))
    if not len(labels):
        return
    yield "ece", calibration_error(labels, stated), len(labels)
    if fitted := recalibrated(valid["score"].to_numpy(), valid["label"].to_numpy(), scores):
        probabilities, temperature, shift = fitted
        yield from (("temperature", temperature, valid.num_rows), ("prior_shift", shift, valid.num_rows))
        yield "brier_recalibrated", float(((probabilities - labels) ** 2).mean()), len(labels)
        yield "ece_recalibrated", calibration_error(labels, probabilities), len(labels)
