"""The like-rate floor: how much of the shown history the user liked, and nothing else."""

import numpy as np

from reasoningrec_assets.baselines.features import SMOOTHING, SQL, Made, Task, predictions_table, task_features
from reasoningrec_assets.sql import query


def like_rate(task: Task) -> Made:
    """The log-odds of the history's smoothed like rate."""
    # smoothed with two pseudo-events at the train targets' like rate: a short history is trusted less, an empty one gets that
    rows = query(SQL["rates"].format(**SQL), windows=task.tables["interaction_windows"], **SMOOTHING)
    rates = rows["like_rate"].to_numpy()
    return predictions_table(task, rows, np.log(rates / (1.0 - rates))), {}


def item_like_rate(task: Task) -> Made:
    """The log-odds of the target item's smoothed like rate among training events."""
    table = task_features(task)
    rows = table.filter(table["split"].to_numpy() != "train")
    rates = rows["item_like_rate"].to_numpy()
    return predictions_table(task, rows, np.log(rates / (1.0 - rates))), {}
