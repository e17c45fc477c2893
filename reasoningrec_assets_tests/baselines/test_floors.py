from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from reasoningrec_assets.baselines.feature_models import gradient_boosting, logistic_regression, regression, stack
from reasoningrec_assets.baselines.features import Task, window_features
from reasoningrec_assets.baselines.like_rate import item_like_rate, like_rate
from reasoningrec_assets.baselines.matrix_factorisation import factorise
from reasoningrec_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Data

    from reasoningrec_assets.baselines.features import Made


FEATURES = ("like_rate", "item_like_rate", "item_popularity", "last_label", "recent_like_rate")


def task(data: Data, method: str, **more: Path) -> Task:
    windows, interactions = data.write()
    return Task("toy", method, {"interaction_windows": windows, "cleaned_interactions": interactions, **more})


def by_row(table: pa.Table) -> dict[tuple[str, str], dict[str, object]]:
    return {(row["split"], row["user_id"]): row for row in table.to_pylist()}


def check_form(table: pa.Table, data: Data, method: str) -> None:
    assert table.schema == TABLES["predictions"].arrow()
    found = by_row(table)
    windows = {(row["split"], row["user_id"]): row for row in data.windows if row["split"] != "train"}
    assert found.keys() == windows.keys()
    for key, row in found.items():
        assert (row["dataset"], row["method"], row["explanation"]) == ("toy", method, None)
        assert (row["target_item_id"], row["label"]) == (windows[key]["target_item_id"], windows[key]["label"])
        assert row["probability"] == pytest.approx(1 / (1 + math.exp(-row["score"])), abs=1e-12)


def test_like_rate_is_the_log_odds_of_the_smoothed_history(data: Data) -> None:
    table = like_rate(task(data, "like_rate"))[0]
    check_form(table, data, "like_rate")
    train = [row["label"] for row in data.windows if row["split"] == "train"]
    prior = (sum(train) + 0.5) / (len(train) + 1)
    history = data.window("u07", "test")["history_liked"]
    rate = (sum(history) + 2 * prior) / (len(history) + 2)
    assert by_row(table)["test", "u07"]["score"] == pytest.approx(math.log(rate / (1 - rate)))


def test_like_rate_of_an_empty_history_is_the_train_like_rate(data: Data) -> None:
    window = data.window("u07", "test")
    window["history_item_ids"], window["history_liked"] = [], []
    train = [row["label"] for row in data.windows if row["split"] == "train"]
    assert by_row(like_rate(task(data, "like_rate"))[0])["test", "u07"]["probability"] == pytest.approx(
        (sum(train) + 0.5) / (len(train) + 1)
    )


def test_logistic_regression_equals_sklearn_on_standardised_features(data: Data) -> None:
    table, metrics = logistic_regression(task(data, "logistic_regression"))
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
    # what is kept in the receipt is enough to score a new row
    for row in rows[-2:]:
        known = ((row[name] - metrics[f"mean_{name}"]) / metrics[f"deviation_{name}"] for name in FEATURES)
        parts = (metrics[f"coefficient_{name}"] * value for name, value in zip(FEATURES, known, strict=True))
        assert found[row["split"], row["user_id"]]["score"] == pytest.approx(metrics["intercept"] + sum(parts))
    assert (metrics["train_rows"], metrics["one_class_only"]) == (30, 0)
    assert metrics["train_likes"] == sum(row["label"] for row in train)


def test_with_factors_the_estimate_of_a_factorisation_is_a_sixth_feature(data: Data) -> None:
    asked = dataclasses.replace(task(data, "m"), factors=True)
    table = logistic_regression(asked)[0]
    check_form(table, data, "m")
    factors = factorise(asked.tables["interaction_windows"], asked.tables["cleaned_interactions"])
    known = window_features(*data.write()).append_column("factors", factors["score"]).to_pylist()
    columns = (*FEATURES, "factors")
    train, rest = ([row for row in known if (row["split"] == "train") is wanted] for wanted in (True, False))
    model = regression().fit([[row[name] for name in columns] for row in train], [row["label"] for row in train])
    found = by_row(table)
    for row, expected in zip(rest, model.decision_function([[row[name] for name in columns] for row in rest]), strict=True):
        assert found[row["split"], row["user_id"]]["score"] == pytest.approx(expected, abs=1e-9)


def test_logistic_regression_is_deterministic(data: Data) -> None:
    first, second = (logistic_regression(task(data, "logistic_regression"))[0] for _ in range(2))
    assert first.equals(second)


def test_held_out_labels_do_not_change_the_scores(data: Data) -> None:
    before = [like_rate(task(data, "like_rate"))[0]["score"], logistic_regression(task(data, "logistic_regression"))[0]["score"]]
    for row in data.windows:
        if row["split"] != "train":
            row["label"] = not row["label"]
    after = [like_rate(task(data, "like_rate"))[0]["score"], logistic_regression(task(data, "logistic_regression"))[0]["score"]]
    assert before == after


@pytest.mark.parametrize("label", [True, False])
def test_one_class_in_train_scores_every_row_with_the_prior(data: Data, label: bool) -> None:
    for row in data.windows:
        if row["split"] == "train":
            row["label"] = label
    table, metrics = logistic_regression(task(data, "logistic_regression"))
    check_form(table, data, "logistic_regression")
    assert set(table["score"].to_pylist()) == {math.log(31) if label else -math.log(31)}
    assert metrics == {"train_rows": 30, "train_likes": 30 if label else 0, "one_class_only": 1}
    assert np.isfinite(like_rate(task(data, "like_rate"))[0]["score"].to_numpy()).all()


def test_no_rows_to_score_and_no_rows_to_train_on(data: Data) -> None:
    everything = list(data.windows)
    data.windows[:] = [row for row in everything if row["split"] == "train"]
    assert logistic_regression(task(data, "logistic_regression"))[0].num_rows == 0
    assert like_rate(task(data, "like_rate"))[0].num_rows == 0
    data.windows[:] = [row for row in everything if row["split"] != "train"]
    table, metrics = logistic_regression(task(data, "logistic_regression"))
    assert set(table["probability"].to_pylist()) == {0.5}
    assert metrics["one_class_only"] == 1


def test_the_items_floor_is_the_log_odds_of_its_smoothed_rate(data: Data) -> None:
    table = item_like_rate(task(data, "item_like_rate"))[0]
    check_form(table, data, "item_like_rate")
    expected = {(row["split"], row["user_id"]): row["item_like_rate"] for row in window_features(*data.write()).to_pylist()}
    for key, row in by_row(table).items():
        assert row["probability"] == pytest.approx(expected[key])


def split_rows(data: Data, users: list[str]) -> Path:
    path = data.folder / "sft_splits.parquet"
    rows = [
        {"split": "train", "user_id": row["user_id"], "target_item_id": row["target_item_id"]}
        for row in data.windows
        if row["split"] == "train" and row["user_id"] in users
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("method", [logistic_regression, gradient_boosting])
def test_trained_on_the_k_rows_no_other_label_counts(data: Data, method: Callable[[Task], Made]) -> None:
    users = [row["user_id"] for row in data.windows if row["split"] == "train"][::2]
    # labels alone are turned below: the features, smoothed by the train split's like rate, have to stay as they are
    others = [row for row in data.windows if row["split"] == "train" and row["user_id"] not in users]
    found = method(task(data, "m", sft_splits=split_rows(data, users)))
    assert found[1]["train_rows"] == len(users)
    likes, dislikes = (next(row for row in others if row["label"] is label) for label in (True, False))
    likes["label"], dislikes["label"] = False, True
    assert method(task(data, "m", sft_splits=split_rows(data, users)))[0]["score"] == found[0]["score"]


def test_a_stack_of_a_perfect_student_is_perfect_and_learns_from_validation_rows_alone(data: Data) -> None:
    rows = [row for row in data.windows if row["split"] != "train"]
    path = data.folder / "predictions.parquet"
    scored = [
        {**{name: row[name] for name in ("split", "user_id", "target_item_id")}, "score": 8.0 * row["label"] - 4} for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(scored), path)
    table, metrics = stack(task(data, "stack", predictions=path))
    test = [row for row in table.to_pylist() if row["split"] == "test"]
    assert all((row["score"] > 0) == row["label"] for row in test)
    assert metrics["train_rows"] == sum(row["split"] == "valid" for row in rows)
    for row in data.windows:
        row["label"] = row["label"] ^ (row["split"] == "test")
    assert stack(task(data, "stack", predictions=path))[0]["score"] == table["score"]
    with_factors = stack(dataclasses.replace(task(data, "stack_mf", predictions=path), factors=True))[1]
    weighed = {name.split("coefficient_")[1] for name in with_factors if name.startswith("floor_coefficient_")}
    assert weighed == {*FEATURES, "matrix_factorisation"}
    assert {name for name in with_factors if name.startswith("coefficient_")} == {"coefficient_floor", "coefficient_student"}


def test_a_student_that_says_nothing_leaves_the_stack_in_the_order_of_the_regression(data: Data) -> None:
    """The regression's own weights come from train rows: fitted anew on the few validation rows, they would rank otherwise."""
    path = data.folder / "predictions.parquet"
    keys = [
        {name: row[name] for name in ("split", "user_id", "target_item_id")} for row in data.windows if row["split"] != "train"
    ]
    pq.write_table(pa.Table.from_pylist([{**key, "score": 0.5} for key in keys]), path)
    stacked, floor = (method(task(data, "m", predictions=path))[0].to_pylist() for method in (stack, logistic_regression))
    by_floor = [row["target_item_id"] for row in sorted(floor, key=lambda row: (row["score"], row["user_id"]))]
    assert [row["target_item_id"] for row in sorted(stacked, key=lambda row: (row["score"], row["user_id"]))] == by_floor
