"""Models of a few features and no language: logistic regression, gradient boosting, and the stack with a student's log-odds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasoningrec_assets.baselines.features import FEATURES, Made, Task, predictions_table, task_features, taught
from reasoningrec_assets.sql import query

_KEY = ["split", "user_id", "target_item_id"]
_SCORES_SQL = f"SELECT {', '.join(_KEY)}, score FROM read_parquet($scored)"


def logistic_regression(task: Task) -> Made:
    """Logistic regression on the five features; its coefficients are among the metrics."""
    table = task_features(task)
    return fitted(task, table, FEATURES, taught(task, table), regression())


def gradient_boosting(task: Task) -> Made:
    """The same features and rows in boosted trees of scikit-learn's histogram kind."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = task_features(task)
    model = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    return fitted(task, table, FEATURES, taught(task, table), model)


def stack(task: Task) -> Made:
    """Logistic regression on the five features and a student's log-odds, fitted on the validation rows that it scored."""
    return stacked(task, {"student": task.tables["predictions"]})


def stacked(task: Task, methods: Mapping[str, Path]) -> Made:
    """The same on the log-odds of several methods, on the rows that all of them scored."""
    table = task_features(task)
    for name, scored in methods.items():
        scores = query(_SCORES_SQL, scored=scored).rename_columns([*_KEY, name])
        table = table.join(scores, _KEY, join_type="inner")
    table = table.sort_by([(name, "ascending") for name in _KEY])
    return fitted(task, table, (*FEATURES, *methods), table["split"].to_numpy() == "valid", regression())


def regression() -> Any:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # lbfgs on a convex loss draws no random number: the same rows give the same bits
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))


def fitted(task: Task, table: pa.Table, names: tuple[str, ...], learned: NDArray[np.bool_], model: Any) -> Made:
    """Fit a classifier of scikit-learn on the rows learned, and score the valid and test rows by its decision function."""
    features = np.column_stack([table[name].to_numpy() for name in names])
    asked = table["split"].to_numpy() != "train"
    labels, inputs = table["label"].to_numpy()[learned], features[asked]
    likes, rows = int(labels.sum()), len(labels)
    one_class = likes in {0, rows}
    metrics = {"train_rows": float(rows), "train_likes": float(likes), "one_class_only": float(one_class)}
    if one_class:
        # there is nothing to fit: every row gets the smoothed log-odds of the labels, 0 where there are none
        scores = np.full(len(inputs), np.log((likes + 1.0) / (rows - likes + 1.0)))
    else:
        model.fit(features[learned], labels)
        # scikit-learn refuses an input without rows
        scores = model.decision_function(inputs) if len(inputs) else np.empty(0)
        if hasattr(model, "steps"):  # each coefficient is per standard deviation of its feature
            weights = model[-1]
            metrics |= {f"coefficient_{name}": float(value) for name, value in zip(names, weights.coef_[0], strict=True)}
            metrics["intercept"] = float(weights.intercept_[0])
    return predictions_table(task, table.filter(pa.array(asked)), scores), metrics
