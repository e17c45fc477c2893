"""The like-rate floor: how much of the shown history the user liked, and nothing else."""

import numpy as np

from reasoningrec_assets.baselines.features import SHOWN, Made, Task, predictions_table, task_features
from reasoningrec_assets.sql import query

_RATES_SQL = f"{SHOWN} SELECT * FROM shown WHERE split <> 'train' ORDER BY split, user_id, target_item_id"


def like_rate(task: Task) -> Made:
    """The log-odds of the history's smoothed like rate."""
    # Nothing is trained; the rate is smoothed with two pseudo-events at the train targets' like rate, so a short history is
    # trusted less, and an empty one gets that rate itself.
    rows = query(_RATES_SQL, windows=task.tables["interaction_windows"])
    rates = rows["like_rate"].to_numpy()
    return predictions_table(task, rows, np.log(rates / (1.0 - rates))), {}


def item_like_rate(task: Task) -> Made:
    """The log-odds of the target item's smoothed like rate among training events."""
    table = task_features(task)
    rows = table.filter(table["split"].to_numpy() != "train")
    rates = rows["item_like_rate"].to_numpy()
    return predictions_table(task, rows, np.log(rates / (1.0 - rates))), {}
