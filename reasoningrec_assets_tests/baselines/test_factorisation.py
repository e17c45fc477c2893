from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reasoningrec_assets.baselines.features import Task
from reasoningrec_assets.baselines.matrix_factorisation import factorise, matrix_factorisation
from reasoningrec_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from conftest import Data


def two_tastes(data: Data, *, users: int = 60, length: int = 20) -> None:
    """Half the users like even items, the others odd ones: no user's and no item's rate tells anything."""
    draw = np.random.default_rng(1)
    data.interactions, data.windows = [], []
    for number in range(users):
        items = [int(item) for item in draw.permutation(40)[:length]]
        for position, item in enumerate(items):
            row = {"dataset": "d", "user_id": f"u{number:02d}", "item_id": f"i{item}", "rating": 1.0, "timestamp": 0}
            data.interactions.append(row | {"liked": item % 2 == number % 2, "position": position})
        for split, at in (("train", length - 3), ("valid", length - 2), ("test", length - 1)):
            history = data.interactions[-length:][:at]
            row = {
                "dataset": "d",
                "split": split,
                "user_id": f"u{number:02d}",
                "target_item_id": f"i{items[at]}",
                "target_rating": 1.0,
            }
            row |= {"label": items[at] % 2 == number % 2, "target_time": 0, "profile_item_ids": [], "profile_liked": []}
            shown = {"history_item_ids": [one["item_id"] for one in history], "history_liked": [one["liked"] for one in history]}
            data.windows.append(row | shown)


def test_it_finds_tastes_that_no_rate_shows_and_no_target_is_learnt_from(data: Data) -> None:
    two_tastes(data)
    scored = factorise(*data.write()).to_pylist()
    labels, scores = [row["label"] for row in scored], [row["score"] for row in scored]
    assert roc_auc_score(labels, scores) > 0.9
    for row in data.interactions:
        row["liked"] = row["liked"] ^ (row["position"] >= 17)
    assert [row["score"] for row in factorise(*data.write()).to_pylist()] == scores, "an event from the train target on was used"


def test_an_unseen_user_and_item_get_the_mean_and_equal_seeds_equal_scores(data: Data) -> None:
    two_tastes(data)
    data.windows[-1] |= {"user_id": "new", "target_item_id": "never rated"}
    windows, interactions = data.write()
    task = Task("toy", "matrix_factorisation", {"interaction_windows": windows, "cleaned_interactions": interactions})
    table, _ = matrix_factorisation(task)
    assert table.schema == TABLES["predictions"].arrow()
    assert table.num_rows == 120
    events = [row["liked"] for row in data.interactions if row["position"] < 17 or row["user_id"] == data.windows[-2]["user_id"]]
    (new,) = [row for row in table.to_pylist() if row["user_id"] == "new"]
    assert new["probability"] == pytest.approx(np.mean(events), abs=0.02)
    assert matrix_factorisation(task)[0] == table
    assert matrix_factorisation(dataclasses.replace(task, seed=1))[0]["score"] != table["score"]
