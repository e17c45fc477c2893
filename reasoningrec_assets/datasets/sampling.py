"""Seeded draws of the windows that are trained on, validated on or explained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.errors import Log, PermanentError
from reasoningrec_assets.sql import Table, query, statements

_SQL = statements(__file__)


def choose_train(windows: Path, k: int, seed: int, log: Log = print) -> tuple[Table, dict[str, int]]:
    """K/2 liked and K/2 disliked rows of the train split (paper section 4), an odd one disliked, sorted by user id; how that went.

    Where one class has too few rows, all of them are taken, and the other fills up as far as it can; PermanentError for one class.
    """
    liked, disliked = query(_SQL["sizes"], windows=windows).to_pylist()[0].values()
    if not liked or not disliked:
        problem = f"of the train rows {liked} are liked and {disliked} disliked"
        remedy = "Set liked_at_least or liked_above in the dataset's record so that its ratings fall on both sides"
        raise PermanentError("draw K rows of both labels", where=str(windows), problem=problem, remedy=remedy)
    take_liked = min(liked, max(k // 2, k - disliked))
    take_disliked = min(disliked, max(k - k // 2, k - liked))
    rows = query(_SQL["train"], windows=windows, seed=seed, liked=take_liked, disliked=take_disliked)
    counts = {"requested": k, "taken": rows.num_rows, "liked": take_liked, "disliked": take_disliked}
    counts |= {"liked_available": liked, "disliked_available": disliked}
    counts |= {"filled_up": max(0, take_liked - k // 2, take_disliked - (k - k // 2)), "short_by": k - rows.num_rows}
    if counts["filled_up"] or counts["short_by"]:
        said = f"the train split has {liked} liked and {disliked} disliked rows: took {take_liked} liked and {take_disliked}"
        log(f"{said} disliked, {counts['short_by']} fewer than K = {k}")
    return rows, counts


def choose_sample(windows: Path, split: Literal["train", "valid", "test"], n: int, seed: int) -> Table:
    """``n`` rows of a split at their natural prevalence, or all where it has fewer; all columns, sorted by user id."""
    return query(_SQL["sample"], windows=windows, split=split, seed=seed, n=n)


def earlier_targets(row: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    """Up to ``most`` of a window's latest history items as targets of windows of their own, each after what came before it."""
    items, liked = row["history_item_ids"], row["history_liked"]
    places = [at for at in range(1, len(items)) if items.index(items[at]) == at and items[at] != row["target_item_id"]]
    return [
        {**row, "target_item_id": items[at], "label": liked[at], "history_item_ids": items[:at], "history_liked": liked[:at]}
        for at in places[len(places) - min(most, len(places)) :]
    ]
