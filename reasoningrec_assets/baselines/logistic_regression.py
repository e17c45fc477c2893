"""The logistic-regression floor: five features, all train rows, no language model.

What belongs here: fitting and scoring. What doesn't: the features, see `features`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasoningrec_assets.baselines.features import FEATURES, window_features
from reasoningrec_assets.baselines.predictions import predictions_table


def _design(rows: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The features, shape (rows, 5), and the labels, shape (rows,)."""
    return np.column_stack([rows[name].to_numpy() for name in FEATURES]), rows["label"].to_numpy()


def _fitted_scores(
    train: tuple[NDArray[np.float64], NDArray[np.bool_]], inputs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.pipeline import make_pipeline  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.preprocessing import StandardScaler  # pyright: ignore[reportMissingTypeStubs]

    # lbfgs on a convex loss draws no random number: the same rows give the same bits.
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    model.fit(*train)
    weights: Any = model[-1]
    metrics = {f"coefficient_{name}": float(value) for name, value in zip(FEATURES, weights.coef_[0], strict=True)}
    metrics["intercept"] = float(weights.intercept_[0])
    return (model.decision_function(inputs) if len(inputs) else inputs[:, 0]), metrics


def logistic_regression(dataset_name: str, windows: Path, interactions: Path) -> tuple[pa.Table, dict[str, float]]:
    """Fit on all train rows, score every valid and test row by the decision function.

    Where the train rows have one class only (or there are none), there is nothing to fit: every row gets the smoothed
    log-odds of the train labels, and the metrics say ``one_class_only`` = 1.

    Args:
        dataset_name: The dataset partition.
        windows: Parquet file of `interaction_windows`.
        interactions: Parquet file of `cleaned_interactions`.

    Returns:
        Rows in the `predictions` schema, and metrics: train_rows, train_likes, one_class_only, and where a model was
        fitted its intercept and ``coefficient_<feature>`` (per standard deviation).
    """
    table = window_features(windows, interactions)
    is_train = table["split"].to_numpy() == "train"
    train_inputs, train_labels = _design(table.filter(pa.array(is_train)))
    scored = table.filter(pa.array(~is_train))
    inputs, _ = _design(scored)

    likes, rows = int(train_labels.sum()), len(train_labels)
    one_class = likes in {0, rows}
    metrics = {"train_rows": float(rows), "train_likes": float(likes), "one_class_only": float(one_class)}
    if one_class:
        scores = np.full(len(inputs), np.log((likes + 1.0) / (rows - likes + 1.0)))
    else:
        scores, fitted = _fitted_scores((train_inputs, train_labels), inputs)
        metrics |= fitted
    return predictions_table(dataset_name, "logistic_regression", scored, scores), metrics
