"""All methods side by side: their figures in one row each, and DeLong's tests against the floors and against the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.comparison import delong
from reasoningrec_assets.metrics.evaluate import evaluate, problem_of
from reasoningrec_assets.sql import Table, query, statements

# methods without a language model, which every one is held against
FLOORS = ("like_rate", "logistic_regression", "logistic_regression_mf")
_SQL = statements(__file__)


def leaderboard(predictions: Mapping[str, Path], *, dataset: str, windows: Path, **more: Any) -> Table:
    """Rows of ``leaderboard``, best AUC first: what `evaluate`, which takes ``more``, finds of each method, and the tests.

    A method is compared with a floor, or with the best, on the test rows that both scored; the p values of all methods against
    one are corrected by Holm's method. They are null where that one is missing, is the method itself, or the rows have one
    class. The best has the highest AUC of those that scored the most rows, so that a few easy rows make none.
    A method with a ``problem``, see `problem_of`, has a row that says so and no figure, and takes part in nothing.
    """
    figures: dict[str, dict[str, Any]] = {}
    problems = {name: problem_of(name, path, windows) for name, path in predictions.items()}
    sound = {name: path for name, path in predictions.items() if not problems[name]}
    for row in evaluate(sound, dataset=dataset, windows=windows, **more).to_pylist():
        figures.setdefault(row["method"], {"method": row["method"], "dataset": dataset})[row["metric"]] = row["value"]
        if row["metric"] == "auc":
            figures[row["method"]] |= {"rows": row["n"], "low": row["low"], "high": row["high"]}
    figures.pop("population", None)
    rivals = {floor: floor for floor in FLOORS if floor in figures}
    if figures:
        rivals["best"] = max(figures, key=lambda name: (figures[name]["rows"], figures[name]["auc"] or 0.0))
    for column, rival in rivals.items():
        others = {name: path for name, path in sound.items() if name != rival}
        tested = {name: one for name, path in others.items() if (one := _compared(path, sound[rival], windows))}
        for (name, one), p in zip(tested.items(), holm([one.p for one in tested.values()]), strict=True):
            figures[name] |= {f"above_{column}": one.difference, f"p_{column}": one.p, f"p_holm_{column}": p}
    broken = {name: {"method": name, "dataset": dataset, "problem": problem} for name, problem in problems.items() if problem}
    figures |= {name: {"rows": 0, "auc": None, **row} for name, row in broken.items()}
    rows = sorted(figures.values(), key=lambda row: (row["auc"] is None, -(row["auc"] or 0.0), row["method"]))
    return TABLES["leaderboard"].table(rows)


def holm(ps: Sequence[float]) -> list[float]:
    """P values corrected for so many tests by Holm's step-down method (1979), in their order."""
    return query(_SQL["holm"], ps=[*ps])["corrected"].to_pylist()


def _compared(method: Path, floor: Path, windows: Path) -> Any:
    rows = query(_SQL["pairs"], method=method, floor=floor, windows=windows)
    return delong(*(rows[name].to_numpy() for name in ("label", "score", "floor_score")), groups=rows["user_id"].to_numpy())
