"""The content model and the sequential ones: each finds a taste that only it can see, and what they may not look at."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from reasoningrec_assets.baselines import sequential
from reasoningrec_assets.baselines.content import content
from reasoningrec_assets.baselines.features import Task
from reasoningrec_assets.baselines.sequential import caser, sasrec
from reasoningrec_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from conftest import Data


def tastes(data: Data, users: int = 400) -> None:
    """Half the users like even items and dislike odd ones, the others the reverse: the history says which half."""
    data.windows, data.interactions, draw = [], [], random.Random(0)
    for number in range(users):
        for split, at in (("train", 6), ("valid", 7), ("test", 8)):
            items = draw.sample(range(12), at + 1)
            liked = [item % 2 == number % 2 for item in items]
            row = {
                "dataset": "d",
                "split": split,
                "user_id": f"u{number:03d}",
                "target_item_id": f"i{items[-1]}",
                "label": liked[-1],
            }
            row |= {"history_item_ids": [f"i{item}" for item in items[:-1]], "history_liked": liked[:-1]}
            data.windows.append(row | {"target_rating": 1.0, "target_time": 0, "profile_item_ids": [], "profile_liked": []})


def auc_of_test_rows(table: pa.Table) -> float:
    rows = [row for row in table.to_pylist() if row["split"] == "test"]
    return roc_auc_score([row["label"] for row in rows], [row["score"] for row in rows])


@pytest.mark.parametrize("method", [sasrec, caser])
def test_a_sequence_tells_the_taste_and_only_train_labels_are_learnt(data: Data, method) -> None:
    tastes(data)
    task = Task("toy", "m", dict(zip(("interaction_windows", "cleaned_interactions"), data.write(), strict=True)))
    table, metrics = method(task)
    assert table.schema == TABLES["predictions"].arrow()
    assert metrics["train_rows"] == 400
    assert auc_of_test_rows(table) > 0.9
    for row in data.windows:
        row["label"] = row["label"] ^ (row["split"] != "train")
    data.write()
    assert method(task)[0]["score"] == table["score"]


def test_an_empty_history_and_rows_of_other_users_do_not_disturb(data: Data) -> None:
    tastes(data, users=40)
    for row in data.windows[:6]:
        row["history_item_ids"], row["history_liked"] = [], []
    for method in (sasrec, caser):
        tables = dict(zip(("interaction_windows", "cleaned_interactions"), data.write(), strict=True))
        scores = method(Task("toy", "m", tables))[0]["score"].to_numpy()
        assert (abs(scores) < 50).all()


def test_every_training_event_is_learnt_from_and_no_target(data: Data, monkeypatch) -> None:
    windows, interactions = data.write()
    task = Task("toy", "m", {"interaction_windows": windows, "cleaned_interactions": interactions})
    first = {row["user_id"]: row["target_item_id"] for row in data.windows if row["split"] == "train"}
    at = {(row["user_id"], row["item_id"]): row["position"] for row in data.interactions}
    # of the events before a user's train target, all but the first, which has nothing before it
    events = sum(max(0, at[user, item] - 1) for user, item in first.items())
    assert sasrec(task)[1]["train_rows"] == events + len(first)
    before = sasrec(task)[0]["score"]
    for row in data.interactions:
        row["liked"] ^= at[row["user_id"], row["item_id"]] > at[row["user_id"], first[row["user_id"]]]
    data.write()
    assert sasrec(task)[0]["score"] == before
    for row in data.interactions:
        row["liked"] ^= at[row["user_id"], row["item_id"]] < at[row["user_id"], first[row["user_id"]]]
    data.write()
    assert sasrec(task)[0]["score"] != before
    monkeypatch.setattr(sequential, "EVENTS", 5)
    assert sasrec(task)[1]["train_rows"] == 5 + len(first)


def test_words_of_liked_items_tell_the_taste(data: Data) -> None:
    tastes(data)
    words = {0: "space robots", 1: "wedding romance"}
    rows = [{"dataset": "d", "item_id": f"i{n}", "title": f"{words[n % 2]} {n}", "genres": []} for n in range(12)]
    items = data.folder / "items.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["items"].arrow()), items)
    table, metrics = content(Task("toy", "content", {"interaction_windows": data.write()[0], "items": items}))
    assert auc_of_test_rows(table) > 0.95
    assert metrics["coefficient_cosine_liked"] > 0 > metrics["coefficient_cosine_disliked"]
