"""All methods side by side: their figures in one row each, and DeLong's test of each against the floors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.comparison import delong
from reasoningrec_assets.sql import query, statements

# methods without a language model, which every one is held against
FLOORS = ("like_rate", "logistic_regression", "logistic_regression_mf")
_SQL = statements(__file__)


def leaderboard(evaluated: pa.Table, predictions: Mapping[str, Path], dataset: str, windows: Path) -> pa.Table:
    """Rows of ``leaderboard``, best AUC first, from a table of `evaluate` and the files that it was made from.

    A method is compared with a floor on the test rows that both scored; the p values of all methods against one floor are
    corrected by Holm's method. They are null where a floor is missing, is the method itself, or the rows have one class.
    """
    figures: dict[str, dict[str, Any]] = {}
    for row in evaluated.to_pylist():
        figures.setdefault(row["method"], {"method": row["method"], "dataset": dataset})[row["metric"]] = row["value"]
        if row["metric"] == "auc":
            figures[row["method"]] |= {"rows": row["n"], "low": row["low"], "high": row["high"]}
    figures.pop("population", None)
    for floor in (floor for floor in FLOORS if floor in predictions):
        found = {name: _compared(path, predictions[floor], windows) for name, path in predictions.items() if name != floor}
        tested = {name: one for name, one in found.items() if one is not None}
        corrected = holm([one.p for one in tested.values()])
        for (name, one), p in zip(tested.items(), corrected, strict=True):
            figures[name] |= {f"above_{floor}": one.difference, f"p_{floor}": one.p, f"p_holm_{floor}": p}
    rows = sorted(figures.values(), key=lambda row: (row["auc"] is None, -(row["auc"] or 0.0), row["method"]))
    return pa.Table.from_pylist(rows, schema=TABLES["leaderboard"].arrow())


def holm(ps: Sequence[float]) -> list[float]:
    """P values corrected for so many tests by Holm's step-down method (1979), in their order."""
    return query(_SQL["holm"], ps=[*ps])["corrected"].to_pylist()


def _compared(method: Path, floor: Path, windows: Path) -> Any:
    rows = query(_SQL["pairs"], method=method, floor=floor, windows=windows)
    return delong(*(rows[name].to_numpy() for name in ("label", "score", "floor_score")), groups=rows["user_id"].to_numpy())
