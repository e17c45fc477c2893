from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from reasoningrec_assets.baselines.features import FEATURES, window_features
from reasoningrec_assets.baselines.like_rate import like_rate
from reasoningrec_assets.baselines.logistic_regression import logistic_regression
from reasoningrec_assets.lake.schemas import PREDICTIONS

if TYPE_CHECKING:
    import pyarrow as pa
    from conftest import Data


def by_row(table: pa.Table) -> dict[tuple[str, str], dict[str, object]]:
    return {(row["split"], row["user_id"]): row for row in table.to_pylist()}


def check_form(table: pa.Table, data: Data, method: str) -> None:
    assert table.schema == PREDICTIONS.arrow()
    found = by_row(table)
    windows = {(row["split"], row["user_id"]): row for row in data.windows if row["split"] != "train"}
    assert found.keys() == windows.keys()
    for key, row in found.items():
        assert (row["dataset"], row["method"], row["explanation"]) == ("toy", method, None)
        assert (row["target_item_id"], row["label"]) == (windows[key]["target_item_id"], windows[key]["label"])
        assert row["probability"] == pytest.approx(1 / (1 + math.exp(-row["score"])), abs=1e-12)


def test_like_rate_is_the_log_odds_of_the_smoothed_history(data: Data) -> None:
    windows, _ = data.write()
    table = like_rate("toy", windows)
    check_form(table, data, "like_rate")
    train = [row["label"] for row in data.windows if row["split"] == "train"]
    prior = (sum(train) + 0.5) / (len(train) + 1)
    history = data.window("u07", "test")["history_liked"]
    rate = (sum(history) + 2 * prior) / (len(history) + 2)
    assert by_row(table)["test", "u07"]["score"] == pytest.approx(math.log(rate / (1 - rate)))


def test_like_rate_of_an_empty_history_is_the_train_like_rate(data: Data) -> None:
    window = data.window("u07", "test")
    window["history_item_ids"], window["history_liked"] = [], []
    windows, _ = data.write()
    train = [row["label"] for row in data.windows if row["split"] == "train"]
    assert by_row(like_rate("toy", windows))["test", "u07"]["probability"] == pytest.approx((sum(train) + 0.5) / (len(train) + 1))


def test_logistic_regression_equals_sklearn_on_standardised_features(data: Data) -> None:
    table, metrics = logistic_regression("toy", *data.write())
    check_form(table, data, "logistic_regression")
    rows = window_features(*data.write()).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    scaler = StandardScaler().fit([[row[name] for name in FEATURES] for row in train])
    model = LogisticRegression(max_iter=1000).fit(
        scaler.transform([[row[name] for name in FEATURES] for row in train]), [row["label"] for row in train]
    )
    found = by_row(table)
    for row in rows:
        if row["split"] != "train":
            expected = model.decision_function(scaler.transform([[row[name] for name in FEATURES]]))[0]
            assert found[row["split"], row["user_id"]]["score"] == pytest.approx(expected, abs=1e-9)
    assert [metrics[f"coefficient_{name}"] for name in FEATURES] == pytest.approx(model.coef_[0].tolist())
    assert metrics["intercept"] == pytest.approx(model.intercept_[0])
    assert (metrics["train_rows"], metrics["one_class_only"]) == (30, 0)
    assert metrics["train_likes"] == sum(row["label"] for row in train)


def test_logistic_regression_is_deterministic(data: Data) -> None:
    first, second = (logistic_regression("toy", *data.write())[0] for _ in range(2))
    assert first.equals(second)


def test_held_out_labels_do_not_change_the_scores(data: Data) -> None:
    before = [like_rate("toy", data.write()[0])["score"], logistic_regression("toy", *data.write())[0]["score"]]
    for row in data.windows:
        if row["split"] != "train":
            row["label"] = not row["label"]
    after = [like_rate("toy", data.write()[0])["score"], logistic_regression("toy", *data.write())[0]["score"]]
    assert before == after


@pytest.mark.parametrize("label", [True, False])
def test_one_class_in_train_scores_every_row_with_the_prior(data: Data, label: bool) -> None:
    for row in data.windows:
        if row["split"] == "train":
            row["label"] = label
    table, metrics = logistic_regression("toy", *data.write())
    check_form(table, data, "logistic_regression")
    assert set(table["score"].to_pylist()) == {math.log(31) if label else -math.log(31)}
    assert metrics == {"train_rows": 30, "train_likes": 30 if label else 0, "one_class_only": 1}
    assert np.isfinite(like_rate("toy", data.write()[0])["score"].to_numpy()).all()


def test_no_rows_to_score_and_no_rows_to_train_on(data: Data) -> None:
    everything = list(data.windows)
    data.windows[:] = [row for row in everything if row["split"] == "train"]
    assert logistic_regression("toy", *data.write())[0].num_rows == 0
    assert like_rate("toy", data.write()[0]).num_rows == 0
    data.windows[:] = [row for row in everything if row["split"] != "train"]
    table, metrics = logistic_regression("toy", *data.write())
    assert set(table["probability"].to_pylist()) == {0.5}
    assert metrics["one_class_only"] == 1
