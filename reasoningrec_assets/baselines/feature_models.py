"""Models of a few features and no language: logistic regression, gradient boosting, and the stack with a student's log-odds."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasoningrec_assets.baselines.features import SQL, Made, Task, predictions_table, taught, window_features
from reasoningrec_assets.baselines.matrix_factorisation import factorise
from reasoningrec_assets.sql import query

_KEY = ["split", "user_id", "target_item_id"]


def logistic_regression(task: Task) -> Made:
    """Logistic regression on the task's features; its coefficients are among the metrics."""
    return fitted(task, _features(task), regression())


def gradient_boosting(task: Task) -> Made:
    """The same features and rows in boosted trees of scikit-learn's histogram kind."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    return fitted(task, _features(task), model)


def stack(task: Task) -> Made:
    """Logistic regression on two log-odds, a student's and `logistic_regression`'s, fitted on the validation rows that the student scored."""
    # Train rows have weighed the features already: the few rows here would weigh each of them anew, and worse.
    floor, known = logistic_regression(task)
    scores = query(SQL["student"], scored=task.tables["predictions"])
    both = floor.select([*_KEY, "label", "score"]).rename_columns({"score": "floor"}).join(scores, _KEY, join_type="inner")
    table = both.sort_by([(name, "ascending") for name in _KEY])
    rows, weights = fitted(task, table, regression(), table["split"].to_numpy() == "valid")
    return rows, {f"floor_{name}": value for name, value in known.items()} | weights


def _features(task: Task) -> pa.Table:
    table = window_features(task.tables["interaction_windows"], task.tables["cleaned_interactions"], cut=task.cut)
    if not task.factors:
        return table
    # its training events hold no target of any split, so the train rows' estimates are as honest as the others'
    expected = factorise(task.tables["interaction_windows"], task.tables["cleaned_interactions"], cut=task.cut, seed=task.seed)
    return table.append_column("matrix_factorisation", expected["score"])  # both in the order of the key


def regression() -> Any:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # lbfgs on a convex loss draws no random number: the same rows give the same bits
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))


def fitted(task: Task, table: pa.Table, model: Any, learned: NDArray[np.bool_] | None = None) -> Made:
    """Fit a classifier on the float64 columns of the rows `learned`, by default those `taught`, and score valid and test rows."""
    learned = taught(task, table) if learned is None else learned
    names = [field.name for field in table.schema if pa.types.is_float64(field.type)]
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
        if hasattr(model, "steps"):  # each coefficient is per standard deviation of its feature, less its mean
            scaler, weights = model
            known = {"mean": scaler.mean_, "deviation": scaler.scale_, "coefficient": weights.coef_[0]}
            for kind, values in known.items():
                metrics |= {f"{kind}_{name}": float(value) for name, value in zip(names, values, strict=True)}
            metrics["intercept"] = float(weights.intercept_[0])
    return predictions_table(task, table.filter(pa.array(asked)), scores), metrics
