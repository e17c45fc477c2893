"""Stacks: logistic regression on the floor's five features and other methods' log-odds, fitted on validation rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reasoningrec_assets.baselines.features import FEATURES, Task, predictions_table, window_features

KEY = ["split", "user_id", "target_item_id"]


def stack(windows: Path, interactions: Path, stacked: Mapping[str, Path]) -> pa.Table:
    """Rows of `predictions` of every valid and test row that all stacked methods scored; the valid ones were fitted on."""
    table = window_features(windows, interactions)
    for name, path in stacked.items():
        scores = pq.read_table(path, columns=[*KEY, "score"]).rename_columns([*KEY, name])
        table = table.join(scores, KEY, join_type="inner")
    table = table.sort_by([(name, "ascending") for name in KEY])
    values = np.column_stack([table[name].to_numpy() for name in (*FEATURES, *stacked)])
    valid = table["split"].to_numpy() == "valid"
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        values[valid], table["label"].to_numpy()[valid]
    )
    return predictions_table(Task("ml100k", "stack", {}), table, model.decision_function(values))
