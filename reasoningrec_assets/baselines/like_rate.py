"""The like-rate floor: how much of the shown history the user liked, and nothing else."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from reasoningrec_assets.baselines.features import SHOWN, predictions_table
from reasoningrec_assets.sql import query

_RATES_SQL = f"{SHOWN} SELECT * FROM shown WHERE split <> 'train' ORDER BY split, user_id, target_item_id"


def like_rate(dataset_name: str, windows: Path) -> pa.Table:
    """Score every valid and test row by the log-odds of its history's smoothed like rate; rows of `predictions`."""
    # Nothing is trained; the rate is smoothed with two pseudo-events at the train targets' like rate, so a short history is
    # trusted less, and an empty one gets that rate itself.
    rows = query(_RATES_SQL, windows=windows)
    rates = rows["like_rate"].to_numpy()
    return predictions_table(dataset_name, "like_rate", rows, np.log(rates / (1.0 - rates)))
