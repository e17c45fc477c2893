from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import sampling
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES


def _row(user, label, split="train"):
    return {
        "dataset": "tiny",
        "split": split,
        "user_id": user,
        "target_item_id": f"i{user}",
        "target_rating": 5.0 if label else 1.0,
        "label": label,
        "target_time": 1,
        "history_item_ids": ["h"],
        "history_liked": [True],
        "profile_item_ids": [],
        "profile_liked": [],
    }


def _write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["interaction_windows"].arrow()), path)
    return path


def _users(choice):
    return choice[0]["user_id"].to_pylist()


def _population(liked, disliked):
    train = [_row(f"l{n}", True) for n in range(liked)] + [_row(f"d{n}", False) for n in range(disliked)]
    return train + [_row(f"v{n}", n % 4 > 0, "valid") for n in range(40)]


@pytest.mark.parametrize(("liked", "disliked"), [(30, 0), (0, 30)])
def test_one_class_alone_is_refused_with_the_rule_that_makes_it(tmp_path, liked, disliked):
    windows = _write(tmp_path / "w.parquet", _population(liked, disliked))
    with pytest.raises(PermanentError, match=f"{liked} are liked and {disliked} disliked. Set liked_at_least or liked_above"):
        sampling.choose_train(windows, 16, 42)


@pytest.mark.parametrize(
    ("liked", "disliked", "k", "taken_liked", "taken_disliked", "filled_up", "short_by"),
    [
        (50, 50, 16, 8, 8, 0, 0),
        (300, 47, 256, 209, 47, 81, 0),  # beauty at K=256
        (5, 50, 16, 5, 11, 3, 0),
        (5, 6, 16, 5, 6, 0, 5),
        (30, 30, 7, 3, 4, 0, 0),
    ],
)
def test_half_of_each_class_and_the_other_fills_up(
    tmp_path, liked, disliked, k, taken_liked, taken_disliked, filled_up, short_by
):
    said = []
    choice = sampling.choose_train(_write(tmp_path / "w.parquet", _population(liked, disliked)), k, 42, said.append)
    assert len(said) == bool(filled_up or short_by)
    assert all(f"took {taken_liked} liked and {taken_disliked} disliked, {short_by} fewer" in line for line in said)
    labels = choice[0]["label"].to_pylist()
    assert (labels.count(True), labels.count(False)) == (taken_liked, taken_disliked)
    assert set(choice[0]["split"].to_pylist()) == {"train"}
    assert choice[0].schema.names == TABLES["interaction_windows"].arrow().names
    assert choice[1] == {
        "requested": k,
        "taken": taken_liked + taken_disliked,
        "liked": taken_liked,
        "disliked": taken_disliked,
        "liked_available": liked,
        "disliked_available": disliked,
        "filled_up": filled_up,
        "short_by": short_by,
    }


def test_the_draw_ignores_the_order_of_the_file_and_follows_the_seed(tmp_path):
    rows = _population(60, 60)
    first = _users(sampling.choose_train(_write(tmp_path / "a.parquet", rows), 20, 42))
    random.Random(0).shuffle(rows)
    path = _write(tmp_path / "b.parquet", rows)
    assert _users(sampling.choose_train(path, 20, 42)) == first
    assert _users(sampling.choose_train(path, 20, 43)) != first


def test_a_smaller_draw_is_part_of_a_larger_one(tmp_path):
    path = _write(tmp_path / "w.parquet", _population(60, 60))
    assert set(_users(sampling.choose_train(path, 20, 42))) < set(_users(sampling.choose_train(path, 40, 42)))


def test_one_more_user_replaces_at_most_one_row(tmp_path):
    before = set(_users(sampling.choose_train(_write(tmp_path / "a.parquet", _population(60, 60)), 20, 42)))
    after = set(_users(sampling.choose_train(_write(tmp_path / "b.parquet", _population(61, 60)), 20, 42)))
    assert len(before - after) <= 1


def test_a_sample_takes_its_split_at_natural_prevalence(tmp_path):
    path = _write(tmp_path / "w.parquet", _population(5, 5))
    rows = sampling.choose_sample(path, "valid", 20, 42)
    assert rows["split"].to_pylist() == ["valid"] * 20
    liked = rows["label"].to_pylist().count(True)
    # 30 of 40 are liked; a balanced draw would take 10.
    assert liked >= 13


def test_all_of_a_split_where_no_more_is_there(tmp_path):
    assert sampling.choose_sample(_write(tmp_path / "w.parquet", _population(5, 5)), "valid", 100, 42).num_rows == 40


def test_earlier_targets_see_only_what_came_before_them():
    row = {"user_id": "u", "target_item_id": "e", "label": True}
    row |= {"history_item_ids": ["a", "b", "a", "e", "c", "d"], "history_liked": [True, False, True, True, False, True]}
    found = [(one["target_item_id"], one["label"], one["history_item_ids"]) for one in sampling.earlier_targets(row, 2)]
    assert found == [("c", False, ["a", "b", "a", "e"]), ("d", True, ["a", "b", "a", "e", "c"])]
    # an item that was rated before, and the target itself, would stand in a history
    assert [one["target_item_id"] for one in sampling.earlier_targets(row, 9)] == ["b", "c", "d"]
    assert sampling.earlier_targets(row, 0) == []
    assert sampling.earlier_targets(row | {"history_item_ids": [], "history_liked": []}, 3) == []
