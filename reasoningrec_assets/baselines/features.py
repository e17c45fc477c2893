"""What the floors share: five features in SQL, and the form of their predictions. No target event is ever counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.sql import query, statements

# Pseudo-events at the prior that a rate is smoothed with: few for a user's own history, more for an item, whose events are
# other users'. Recent means the last five, but never more than half of what is shown: with H=4 it would repeat the like rate.
SMOOTHING: dict[str, Any] = {"history_pseudo_events": 2.0, "item_pseudo_events": 20.0, "recent_items": 5}


@dataclass(frozen=True)
class Task:
    """What a baseline is asked: to score every valid and test row of the windows, under the name of its method.

    `tables` are the files that it reads, by table; with an ``sft_splits`` among them it is trained on its train rows alone.
    `cut`: the first cut of global-temporal windows, in seconds. `factors`: a factorisation's log-odds are a sixth feature.
    """

    dataset: str
    method: str
    tables: Mapping[str, Path]
    cut: int | None = None
    factors: bool = False
    seed: int = 0  # of what begins with random numbers


Made = tuple[pa.Table, dict[str, float]]  # rows of `predictions`, and metrics
SQL = statements(__file__)


def window_features(windows: Path | Sequence[Path], interactions: Path, *, cut: int | None = None) -> pa.Table:
    """The five features of every window as float64, without nulls, after its split, user_id, target_item_id and label.

    ``like_rate``: share liked in the shown history, smoothed; ``item_like_rate``: share of the target item's training
    events that were likes, smoothed; ``item_popularity``: log(1 + number of those events); ``last_label``: 1 where the
    latest history item was liked; ``recent_like_rate``: share liked among the last five (of a history shorter than ten, its
    later half). An empty history and an unseen item take the like rate of the train targets. Rows are ordered by the key.
    ``windows`` in several files are one table. ``cut`` is the first cut of global-temporal windows, in seconds.
    """
    return query(SQL["features"].format(**SQL), windows=windows, interactions=interactions, cut=cut, **SMOOTHING)


def taught(task: Task, table: pa.Table) -> NDArray[np.bool_]:
    """Which rows of a table a method is trained on, shape (rows,): see `Task`."""
    train = table["split"].to_numpy() == "train"
    if "sft_splits" not in task.tables:
        return train
    rows = query("SELECT user_id, target_item_id FROM read_parquet($only) WHERE split = 'train'", only=task.tables["sft_splits"])
    chosen, asked = (zip(one["user_id"].to_pylist(), one["target_item_id"].to_pylist(), strict=True) for one in (rows, table))
    return train & np.fromiter(map({*chosen}.__contains__, asked), dtype=bool, count=len(train))


def predictions_table(task: Task, rows: pa.Table, scores: NDArray[np.float64]) -> pa.Table:
    """Rows of `predictions` without explanations, from the log-odds of liking, finite, of each row's key and label."""
    same = dict.fromkeys(("explanation", "swapped_score", "swapped_explanation"), None)
    same |= {"dataset": task.dataset, "method": task.method}
    columns = {name: rows[name] for name in ("split", "user_id", "target_item_id", "label")}
    columns |= {name: [value] * rows.num_rows for name, value in same.items()}
    # tanh form of the logistic function: exact at 0, and it can't overflow.
    columns |= {"score": scores, "probability": 0.5 * (1.0 + np.tanh(0.5 * scores))}
    return pa.table(columns, schema=TABLES["predictions"].arrow())
