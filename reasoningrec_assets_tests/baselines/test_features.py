from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from reasoningrec_assets.baselines.features import window_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Data

FEATURES = ("like_rate", "item_like_rate", "item_popularity", "last_label", "recent_like_rate")
Features = dict[tuple[str, str], dict[str, Any]]


def computed(data: Data) -> Features:
    return {(row["split"], row["user_id"]): row for row in window_features(*data.write()).to_pylist()}


def oracle(data: Data) -> Features:
    """The same features, one plain loop each."""
    train = [row["label"] for row in data.windows if row["split"] == "train"]
    prior = (sum(train) + 0.5) / (len(train) + 1)
    targets: dict[str, set[str]] = {}
    for row in data.windows:
        targets.setdefault(row["user_id"], set()).add(row["target_item_id"])
    counted: dict[str, list[bool]] = {}
    for user in {row["user_id"] for row in data.interactions}:
        for row in sorted((row for row in data.interactions if row["user_id"] == user), key=lambda row: row["position"]):
            if row["item_id"] in targets.get(user, set()):
                break
            counted.setdefault(row["item_id"], []).append(row["liked"])
    found: Features = {}
    for row in data.windows:
        history, events = row["history_liked"], counted.get(row["target_item_id"], [])
        recent = history[-min(5, math.ceil(len(history) / 2)) :] if history else []
        found[row["split"], row["user_id"]] = {
            "like_rate": (sum(history) + 2 * prior) / (len(history) + 2),
            "item_like_rate": (sum(events) + 20 * prior) / (len(events) + 20),
            "item_popularity": math.log(1 + len(events)),
            "last_label": float(history[-1]) if history else prior,
            "recent_like_rate": sum(recent) / len(recent) if recent else prior,
        }
    return found


def test_features_equal_a_plain_python_oracle(data: Data) -> None:
    found, expected = computed(data), oracle(data)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert {name: found[key][name] for name in values} == pytest.approx(values, abs=1e-12), key
    # The fixture must show more than one case of each kind.
    assert len({round(row["item_popularity"], 6) for row in found.values()}) > 3
    assert any(not row["history_liked"] for row in data.windows)


def test_recent_is_the_last_five_of_a_long_history(data: Data) -> None:
    window = data.window("u10", "test")
    window["history_item_ids"] = [f"i{number}" for number in range(12)]
    window["history_liked"] = [True] * 7 + [False, False, True, False, False]
    assert computed(data)["test", "u10"]["recent_like_rate"] == pytest.approx(1 / 5)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_no_target_label_reaches_a_feature(data: Data, split: str) -> None:
    """A target's label is flipped in the interactions, where item counts come from, for every user at once."""
    before = computed(data)
    flipped = {(row["user_id"], row["target_item_id"]) for row in data.windows if row["split"] == split}
    for row in data.interactions:
        if (row["user_id"], row["item_id"]) in flipped:
            row["liked"] = not row["liked"]
    assert computed(data) == before


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_labels_of_the_windows_change_only_the_label_column(data: Data, split: str) -> None:
    before = computed(data)
    for row in data.windows:
        if row["split"] == split:
            row["label"] = not row["label"]
    after = computed(data)
    assert [[row[name] for name in FEATURES] for row in after.values()] == [
        [row[name] for name in FEATURES] for row in before.values()
    ]
    assert {key for key in after if after[key]["label"] != before[key]["label"]} == {key for key in after if key[0] == split}


def test_a_training_event_does_reach_its_item(data: Data) -> None:
    before = computed(data)
    user = next(row["user_id"] for row in data.windows if row["split"] == "train" and len(row["history_item_ids"]) > 4)
    event = next(row for row in data.interactions if row["user_id"] == user and row["position"] == 0)
    event["liked"] = not event["liked"]
    changed = {key for key, row in computed(data).items() if row != before[key]}
    of_item = {(row["split"], row["user_id"]) for row in data.windows if row["target_item_id"] == event["item_id"]}
    assert changed == of_item
    assert changed


def test_a_user_without_windows_counts_with_every_event(data: Data) -> None:
    data.interactions += [
        data.interactions[0] | {"user_id": "alone", "item_id": "i3", "liked": True, "position": place} for place in (0, 1)
    ]
    assert {key: row["item_popularity"] for key, row in computed(data).items()} == pytest.approx(
        {key: row["item_popularity"] for key, row in oracle(data).items()}
    )


@pytest.mark.parametrize("change", [lambda data: data.windows.clear(), lambda data: data.interactions.clear()])
def test_empty_inputs_give_finite_features(data: Data, change: Callable[[Data], None]) -> None:
    change(data)
    rows = computed(data)
    assert len(rows) == len(data.windows)
    assert all(math.isfinite(row[name]) for row in rows.values() for name in FEATURES)


def test_rows_are_ordered_and_typed(data: Data) -> None:
    table = window_features(*data.write())
    keys = list(zip(table["split"].to_pylist(), table["user_id"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert [table.schema.field(name).type for name in FEATURES] == [pa.float64()] * 5
    assert table.column_names == ["split", "user_id", "target_item_id", "label", *FEATURES]
