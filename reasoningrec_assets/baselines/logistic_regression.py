"""The logistic-regression floor: the five features of `features`, all train rows, no language model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reasoningrec_assets.baselines.features import FEATURES, predictions_table, window_features


def logistic_regression(
    dataset_name: str, windows: Path, interactions: Path, *, cut: int | None = None
) -> tuple[pa.Table, dict[str, float]]:
    """Fit on all train rows, score every valid and test row by the decision function; rows of `predictions`, and metrics."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = window_features(windows, interactions, cut=cut)
    is_train = table["split"].to_numpy() == "train"
    features = np.column_stack([table[name].to_numpy() for name in FEATURES])
    train_labels, inputs = table["label"].to_numpy()[is_train], features[~is_train]
    likes, rows = int(train_labels.sum()), len(train_labels)
    one_class = likes in {0, rows}
    metrics = {"train_rows": float(rows), "train_likes": float(likes), "one_class_only": float(one_class)}
    if one_class:
        # There is nothing to fit: every row gets the smoothed log-odds of the train labels, 0 where there are none.
        scores = np.full(len(inputs), np.log((likes + 1.0) / (rows - likes + 1.0)))
    else:
        # lbfgs on a convex loss draws no random number: the same rows give the same bits.
        model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
        weights: Any = model.fit(features[is_train], train_labels)[-1]
        # Each coefficient is per standard deviation of its feature.
        metrics |= {f"coefficient_{name}": float(value) for name, value in zip(FEATURES, weights.coef_[0], strict=True)}
        metrics["intercept"] = float(weights.intercept_[0])
        # The pipeline refuses an input without rows.
        scores = model.decision_function(inputs) if len(inputs) else np.empty(0)
    return predictions_table(dataset_name, "logistic_regression", table.filter(pa.array(~is_train)), scores), metrics
