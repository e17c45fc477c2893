"""The like-rate floor: how much of the shown history the user liked, and nothing else."""

import numpy as np

from reasoningrec_assets.baselines.features import SMOOTHING, SQL, Made, Task, predictions_table, window_features
from reasoningrec_assets.sql import Table, query


def like_rate(task: Task) -> Made:
    """The log-odds of the history's smoothed like rate."""
    # smoothed with two pseudo-events at the train targets' like rate: a short history is trusted less, an empty one gets that
    rows = query(SQL["rates"].format(**SQL), windows=task.tables["interaction_windows"], **SMOOTHING)
    return _scored(task, rows, "like_rate")


def item_like_rate(task: Task) -> Made:
    """The log-odds of the target item's smoothed like rate among training events."""
    table = window_features(task.tables["interaction_windows"], task.tables["cleaned_interactions"], cut=task.cut)
    return _scored(task, table.filter(table["split"].to_numpy() != "train"), "item_like_rate")


def _scored(task: Task, rows: Table, rate: str) -> Made:
    rates = rows[rate].to_numpy()
    return predictions_table(task, rows, np.log(rates / (1.0 - rates))), {}
