"""Every metric of every method on one test population, as a table; the arithmetic belongs to `ranking` and `text`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.calibration import calibration_error, recalibrated
from reasoningrec_assets.metrics.explanations import Row, Texts, explanation_figures, flagged, swapped_figures
from reasoningrec_assets.metrics.intervals import Interval, mean_interval
from reasoningrec_assets.metrics.ranking import auc_interval
from reasoningrec_assets.sql import Table, query, statements

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
) -> Table:
    """Rows of `evaluation_metrics`: every method, under the name that its file's rows carry, and the ``population``.

    The population is the test split of the windows; a method that lacks rows, or has others, says so in the table, and never
    changes what another method is scored on. ``auc``, ``accuracy`` and ``brier``, with 95 % intervals over users, are
    computed on the rows that it covers; the AUC is null where those have one class only. Explanations are counted, and measured
    by `explanation_figures` where ``texts`` are given. ``rows_in`` and ``dropped`` (see `left_out`) are copied.
    PermanentError where a file has what `problem_of` finds, as a row twice, another label than the windows, or a score of NaN.
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
        measured = [*_figures(path, windows, draws), *swapped_figures(path, windows, draws)]
        if flags and texts and any(metric == "explained_rows" for metric, *_ in measured):
            measured += explanation_figures(name, flags, texts, draws)
        found += [(name, row) for row in measured]
    told = ((name, metric, n, value if isinstance(value, Interval) else Interval(value)) for name, (metric, value, n) in found)
    rows = [{"dataset": dataset, "method": method, "metric": metric, "n": n} | vars(value) for method, metric, n, value in told]
    return TABLES["evaluation_metrics"].table(rows)


def left_out(figures: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """What each stage left out, by reason, from the figures that the stages' receipts hold, by asset."""
    cleaning = figures["cleaned_interactions"]
    counts = {name.removeprefix("dropped_"): value for name, value in cleaning.items() if name.startswith("dropped_")}
    counts["item_without_title"] = figures["items"]["items_without_title"]
    cut = ("targets_without_history", "targets_over_limit")  # under global-temporal alone
    counts |= {name: value for name, value in figures["interaction_windows"].items() if name in cut}
    for asset in ("item_descriptions", "user_profiles", "reasoning_labels"):
        counts[f"{asset}_without_text"] = figures[asset]["generation_empty"] + figures[asset]["generation_failed"]
    counts["history_line_over_context_in_training"] = figures["lora_model"]["history_lines_dropped"]
    counts["history_line_over_context_in_scoring"] = figures["predictions"]["history_lines_dropped"]
    return {reason: int(count) for reason, count in counts.items()}


def problem_of(method: str, predictions: Path, windows: Path) -> str | None:
    """What is wrong with a method's test and validation rows, all in one sentence; None where they can be evaluated."""
    found = query(_SQL["problems"], method=method, predictions=predictions, windows=windows)
    return "; ".join(found["problem"].to_pylist()) or None


def _population(truth: Table, rows_in: int, dropped: Mapping[str, int], draws: Mapping[str, int]) -> Iterator[Row]:
    yield "rows_in", rows_in, rows_in
    for reason, rows in dropped.items():
        yield f"dropped_{reason}", rows, rows_in
    labels, users = truth["label"].to_numpy(), truth["user_id"].to_numpy()
    yield "test_rows", len(labels), len(labels)
    yield "liked_share", mean_interval(labels, groups=users, **draws), len(labels)
    if len(np.unique(labels)) == 1:
        yield "one_class_only", 1, len(labels)


def _figures(predictions: Path, windows: Path, draws: Mapping[str, Any]) -> Iterator[Row]:
    """Of the rows within the population; what lies outside is counted, and nothing else."""
    covered = query(_SQL["predictions"], predictions=predictions, windows=windows)
    users, labels, scores, stated = (covered[name].to_numpy() for name in ("user_id", "label", "score", "probability"))
    auc = auc_interval(labels, scores, groups=users, **draws)
    yield "auc", auc, len(labels)
    if auc.left_out:
        yield "auc_replicates_left_out", auc.left_out, len(labels)
    yield "accuracy", mean_interval((scores > 0) == labels, groups=users, **draws), len(labels)  # exactly 0 says No
    # Brier 1950: 0 is best, 0.25 is a constant one half.
    yield "brier", mean_interval((stated - labels) ** 2, groups=users, **draws), len(labels)
    for row in query(_SQL["figures"], predictions=predictions, windows=windows).to_pylist():
        yield row["metric"], row["value"], row["n"]
    valid = query(_SQL["valid"], predictions=predictions, windows=windows)
    fitted = recalibrated(valid["score"].to_numpy(), valid["label"].to_numpy(), scores)
    if len(labels):
        yield "ece", calibration_error(labels, stated), len(labels)
    if not fitted:
        yield "not_recalibrated", 1, valid.num_rows
    elif len(labels):
        probabilities, temperature, shift = fitted
        yield from (("temperature", temperature, valid.num_rows), ("prior_shift", shift, valid.num_rows))
        yield "brier_recalibrated", float(((probabilities - labels) ** 2).mean()), len(labels)
        yield "ece_recalibrated", calibration_error(labels, probabilities), len(labels)
