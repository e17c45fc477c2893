"""Recommendations of the tiny student: what is recommended, what it costs, and where candidates come from."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.sql import query
from reasoningrec_assets.training.recommend import _SQL, source_identity
from reasoningrec_assets_tests.assets.conftest import DEMO


def recommended(pipeline, **settings):
    """The rows by user, and the receipt, after one run of the asset alone."""
    config = {"recommendations": {"config": {"recommendations": settings}}}
    pipeline.run(selection='key:"recommendations"', config=config)
    receipt = pipeline.lake.newest("recommendations", DEMO)
    rows = defaultdict(list)
    for row in read_rows(pipeline.lake.path_of(receipt)):
        rows[row["user_id"]].append(row)
    return dict(rows), receipt


def test_only_users_with_a_new_event_are_asked_again(pipeline, monkeypatch):
    pipeline.run(
        selection='+key:"recommendations"', config={"recommendations": {"config": {"recommendations": {"candidates": 6}}}}
    )
    first, receipt = recommended(pipeline, candidates=6)
    assert receipt.sequence == 1  # the same settings: reused
    counted = {"users": 24, "users_asked": 24, "users_without_candidate": 0, "users_unknown": 0}
    assert receipt.metrics.items() >= counted.items()
    # what the answers cost, and what their prompts lost, over all the groups of users that are asked together
    assert receipt.metrics["generation_requests"] == receipt.metrics["generation_calls"] == 24
    assert receipt.metrics["generation_completion_tokens"] > 0
    assert receipt.metrics["history_lines_dropped"] == 0
    assert not [name for name in receipt.metrics if name.endswith(("_share", "_per_second"))], "no sum of shares"

    events = read_rows(pipeline.lake.path_of(pipeline.lake.newest("cleaned_interactions", DEMO)))
    rated = defaultdict(set)
    for event in events:
        rated[event["user_id"]].add(event["item_id"])
    for user, rows in first.items():
        assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
        assert not rated[user] & {row["item_id"] for row in rows}
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        assert all(row["probability"] == pytest.approx(1 / (1 + math.exp(-row["score"]))) for row in rows)
        assert [row["explanation"] is None for row in rows] == [False, True, True, True, True]
        for flag in ("titles_unknown", "not_english"):
            assert [row[flag] is None for row in rows] == [False, True, True, True, True]
        assert all(row["copied"] is None or 0 <= row["copied"] <= 1 for row in rows)
        assert {row["candidates"] for row in rows} == {6}

    raw = pipeline.lake.root / "raw" / "ml100k" / "u.data"
    unseen = next(item for item in map(str, range(1, 41)) if item not in rated["7"])
    raw.write_text(raw.read_text(encoding="latin-1") + f"7\t{unseen}\t5\t999999999\n", encoding="latin-1")
    pipeline.run(selection='key:"raw_dataset" or key:"cleaned_interactions"')
    second, receipt = recommended(pipeline, candidates=6)
    assert receipt.metrics["users_asked"] == 1
    assert [user for user in first if first[user] != second[user]] == ["7"]
    assert unseen not in {row["item_id"] for row in second["7"]}

    # a run for someone whose rows are known loads nothing, and leaves the others theirs
    with monkeypatch.context() as patched:
        patched.setattr(store, "load_causal_model", None)
        third, receipt = recommended(pipeline, candidates=6, users=["3", "nobody"])
    assert third == second
    nobody = dict.fromkeys(("users_asked", "users_without_candidate", "users_let_go"), 0)
    assert receipt.metrics == nobody | {"users": 24, "users_unknown": 1}

    # one that asks someone anew leaves the others theirs, but where these were made with other settings lets them go, and counts them
    pipeline.run(
        selection='key:"recommendations"',
        config={"recommendations": {"config": {"force": True, "recommendations": {"candidates": 6, "users": ["3"]}}}},
    )
    receipt = pipeline.lake.newest("recommendations", DEMO)
    assert (receipt.metrics["users_asked"], receipt.metrics["users_let_go"]) == (1, 0)
    assert {row["user_id"] for row in read_rows(pipeline.lake.path_of(receipt))} == {*second}
    few, receipt = recommended(pipeline, candidates=5, users=["3"])
    assert ([*few], receipt.metrics["users_let_go"]) == (["3"], 23)
    second, _ = recommended(pipeline, candidates=6)
    assert {*second} == {*third}

    # a rating of long ago, outside of what a prompt shows, counts as rated
    best = second["9"][0]["item_id"]
    raw.write_text(raw.read_text(encoding="latin-1") + f"9\t{best}\t5\t100\n", encoding="latin-1")
    pipeline.run(selection='key:"raw_dataset" or key:"cleaned_interactions"')
    fourth, receipt = recommended(pipeline, candidates=6)
    assert receipt.metrics["users_asked"] == 1
    assert best not in {row["item_id"] for row in fourth["9"]}

    # rows that were lost are made again, for everyone
    pipeline.lake.path_of(receipt).unlink()
    fifth, receipt = recommended(pipeline, candidates=6)
    assert receipt.metrics["users_asked"] == 24
    assert {*fifth} == {*fourth}


def test_what_was_left_out_and_who_got_nothing_is_counted_and_said(pipeline):
    pipeline.run(
        selection='+key:"recommendations"', config={"recommendations": {"config": {"recommendations": {"users": ["1"]}}}}
    )
    events = read_rows(pipeline.lake.path_of(pipeline.lake.newest("cleaned_interactions", DEMO)))
    rated = {event["item_id"] for event in events if event["user_id"] == "2"}
    free = [str(item) for item in range(1, 41) if str(item) not in rated][:2]
    source = pipeline.lake.root / "mine.parquet"
    pairs = [("2", free[0]), ("2", free[1]), ("3", "no such item"), *(("4", e["item_id"]) for e in events if e["user_id"] == "4")]
    pq.write_table(pa.table({"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs]}), source)
    config = {"recommendations": {"source": str(source), "users": ["2", "3", "4", "5"]}, "training": {"max_tokens": 330}}
    messages = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dg.DagsterLogManager, "info", lambda _, message, *more, **known: messages.append(message))
        pipeline.run(selection='key:"recommendations"', config={"recommendations": {"config": config}})
    receipt = pipeline.lake.newest("recommendations", DEMO)
    assert {row["user_id"] for row in read_rows(pipeline.lake.path_of(receipt))} == {"2"}
    assert (receipt.metrics["users_asked"], receipt.metrics["users_without_candidate"]) == (4, 3)
    (said,) = [message for message in messages if "3 users get no row" in message]
    assert said.endswith("such as for 3")
    assert receipt.metrics["history_lines_dropped"] > 0


def test_a_source_that_there_is_not_or_that_holds_something_else_is_refused(tmp_path):
    (table := tmp_path / "table.csv").write_text("user_id,item_id\n1,2\n")
    pq.write_table(pa.table({"user": ["1"], "item_id": ["2"]}), other := tmp_path / "other.parquet")
    for source in ("popularr", "users", "missing.parquet", str(tmp_path), str(table), str(other)):
        with pytest.raises(
            PermanentError, match="none of popular, co_liked, and no Parquet file with user_id and item_id"
        ) as told:
            source_identity(source)
        assert source in str(told.value)


def write(folder, events, items):
    paths = {"events": folder / "events.parquet", "items": folder / "items.parquet"}
    counts = Counter()
    rows = []
    for user, item, liked in events:
        common = {"dataset": "d", "rating": 5.0, "timestamp": 0}
        rows.append(common | {"user_id": user, "item_id": item, "liked": liked, "position": counts[user]})
        counts[user] += 1
    known = [{"dataset": "d", "item_id": item, "title": item, "genres": genres, "brand": brand} for item, genres, brand in items]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["cleaned_interactions"].arrow()), paths["events"])
    pq.write_table(pa.Table.from_pylist(known, schema=TABLES["items"].arrow()), paths["items"])
    return paths


EVENTS = [
    ("u", "d1", True),
    ("u", "c1", False),
    *((f"v{n}", "d2", True) for n in range(2)),
    *((f"v{n}", "c2", True) for n in range(5)),
    ("v0", "d1", True),
    ("v0", "c3", True),
    ("v1", "b2", True),
    ("v1", "d3", False),
]
CATALOGUE = [
    *((f"d{n}", ["Drama"], None) for n in (1, 2, 3)),
    *((f"c{n}", ["Comedy"], None) for n in (1, 2, 3)),
    ("b2", [], "Acme"),
]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("popular", ["d2", "d3", "c2", "b2", "c3"]),  # the liked genre before what more people like, then by likes and id
        ("co_liked", ["c2", "c3", "d2"]),  # what v0 likes, who likes d1 too
    ],
)
def test_candidates_are_the_best_of_what_was_not_rated(tmp_path, source, expected):
    paths = write(tmp_path, EVENTS, CATALOGUE)
    chosen = _SQL["chosen"].format(source=_SQL[source])
    values = paths | {"users": ["u"], "history_length": 12}
    assert query(chosen, candidates=10, **values).to_pylist() == [{"user_id": "u", "item_ids": expected}]
    assert query(chosen, candidates=1, **values)["item_ids"].to_pylist() == [expected[:1]]


def drawn(events, users, items, seed):
    """Events with a few items that nearly everyone has rated and many that hardly anyone has, about half of them liked."""
    draw = np.random.default_rng(seed)
    shares = 1 / np.arange(1, items + 1)
    pairs = zip(draw.integers(users, size=events), draw.choice(items, size=events, p=shares / shares.sum()), strict=True)
    rated = dict.fromkeys((f"u{user}", f"i{item}") for user, item in pairs)
    return [(*pair, liked) for pair, liked in zip(rated, draw.random(len(rated)) < 0.5, strict=True)]


@pytest.mark.parametrize("candidates", [1, 5, 1_000])
def test_co_liked_items_are_those_of_every_pair_counted_by_itself(tmp_path, candidates):
    events = drawn(6_000, 120, 700, 0)
    known = [f"i{item}" for item in range(0, 700, 3)]
    paths = write(tmp_path, events, [(item, [], None) for item in known])
    likes, rated = defaultdict(list), defaultdict(set)
    for user, item, liked in events:
        rated[user].add(item)
        if liked:
            likes[user].append(item)
    asked = [f"u{user}" for user in range(0, 120, 2)]
    expected = {}
    for user in asked:
        weights = Counter()
        for item in likes[user][-4:]:
            for other in likes:
                weights.update(likes[other] if item in likes[other] and other != user else [])
        free = [item for item in weights if item in set(known) - rated[user]]
        if free:
            expected[user] = sorted(free, key=lambda item: (-weights[item], item))[:candidates]
    chosen = _SQL["chosen"].format(source=_SQL["co_liked"])
    found = query(chosen, users=asked, candidates=candidates, history_length=4, **paths).to_pylist()
    assert {row["user_id"]: row["item_ids"] for row in found} == expected


def test_co_liked_items_of_many_users_are_counted_once_for_all(tmp_path):
    paths = write(tmp_path, drawn(150_000, 2_000, 1_000, 1), [(f"i{item}", [], None) for item in range(1_000)])
    begun = time.process_time()
    chosen = _SQL["chosen"].format(source=_SQL["co_liked"])
    users = [f"u{user}" for user in range(2_000)]
    assert query(chosen, users=users, candidates=20, history_length=12, **paths).num_rows == 2_000
    assert time.process_time() - begun < 10  # every like of every such person for every user: twice that and more


def test_a_declared_table_of_candidates(tmp_path):
    paths = write(tmp_path, EVENTS, CATALOGUE)
    pairs = [("u", "d2"), ("u", "d1"), ("u", "no such item"), ("v0", "b2"), ("u", "b2"), ("u", "b2")]
    source = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs]}), source)
    chosen = _SQL["chosen"].format(source=_SQL["table"])
    found = query(chosen, users=["u"], candidates=10, source=source, **paths).to_pylist()
    assert found == [{"user_id": "u", "item_ids": ["b2", "d2"]}]
