from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoningrec_assets.datasets import cleaning, windows
from reasoningrec_assets.lake.schemas import TABLES


def _build(dataset, path):
    reader, counts = windows.build(dataset, path)
    return reader.read_all(), counts


def _interactions(path: Path, users: dict[str, int]) -> Path:
    """Users with so many rows each; items are named after their position, odd positions are liked."""
    rows = [
        {
            "dataset": "tiny",
            "user_id": user,
            "item_id": f"i{n}",
            "rating": 5.0 if n % 2 else 1.0,
            "liked": bool(n % 2),
            "timestamp": 100 + n,
            "position": n,
        }
        for user, size in users.items()
        for n in range(size)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["cleaned_interactions"].arrow()), path)
    return path


def _names(*positions):
    return [f"i{n}" for n in positions]


def test_the_worked_example_of_the_paper(make_dataset, tmp_path):
    table, counts = _build(make_dataset(history_length=4), _interactions(tmp_path / "i.parquet", {"u": 10}))
    assert table.schema.names == TABLES["interaction_windows"].arrow().names
    train, valid, test = table.to_pylist()
    assert (train["split"], train["target_item_id"], train["history_item_ids"]) == ("train", "i7", _names(3, 4, 5, 6))
    assert (valid["split"], valid["target_item_id"], valid["history_item_ids"]) == ("valid", "i8", _names(4, 5, 6, 7))
    assert (test["split"], test["target_item_id"], test["history_item_ids"]) == ("test", "i9", _names(5, 6, 7, 8))
    assert train["history_liked"] == [True, False, True, False]
    assert (test["label"], test["target_rating"], test["target_time"]) == (True, 5.0, 109)
    assert all(
        row["profile_item_ids"] == _names(0, 1, 2) and row["profile_liked"] == [False, True, False]
        for row in (train, valid, test)
    )
    assert counts["windows"] == 3


def test_rows_are_sorted_by_split_then_user_and_short_users_left_out(make_dataset, tmp_path):
    table, counts = _build(make_dataset(), _interactions(tmp_path / "i.parquet", {"b": 4, "a": 8, "c": 3}))
    keys = [(row["split"], row["user_id"]) for row in table.to_pylist()]
    assert keys == [("train", "a"), ("train", "b"), ("valid", "a"), ("valid", "b"), ("test", "a"), ("test", "b")]
    assert counts == {
        "users": 2,
        "windows": 6,
        "users_below_four_rows": 1,
        "users_without_profile_items": 0,
        "users_with_short_history": 1,
        "train_liked": 2,
        "valid_liked": 0,
        "test_liked": 2,
        "targets_per_user": 1,
    }


def test_users_taken_a_few_at_once_give_the_same_windows(make_dataset, tmp_path, monkeypatch):
    path = _interactions(tmp_path / "i.parquet", {f"u{n}": 3 + n for n in range(12)})
    whole = _build(make_dataset(), path)
    monkeypatch.setattr(windows, "USERS_AT_ONCE", 5)
    assert _build(make_dataset(), path) == whole


def test_no_two_rows_have_one_name():
    rows = [
        {"split": "test", "user_id": "a", "target_item_id": "b/c"},
        {"split": "test", "user_id": "a/b", "target_item_id": "c"},
    ]
    assert len({windows.window_name(row) for row in rows}) == 2


def test_the_shortest_user_has_one_item_of_history(make_dataset, tmp_path):
    table, _ = _build(make_dataset(history_length=20), _interactions(tmp_path / "i.parquet", {"u": 4}))
    assert [row["history_item_ids"] for row in table.to_pylist()] == [_names(0), _names(0, 1), _names(0, 1, 2)]


def test_no_profile_where_the_last_items_are_all_there_is(make_dataset, tmp_path):
    dataset = make_dataset(profile_items=15, profile_skip_last=7)
    table, counts = _build(dataset, _interactions(tmp_path / "i.parquet", {"seven": 7, "nine": 9}))
    profiles = {row["user_id"]: row["profile_item_ids"] for row in table.to_pylist()}
    assert profiles == {"seven": [], "nine": _names(0, 1)}
    assert counts["users_without_profile_items"] == 1


def test_a_repeated_target_is_no_profile_item(make_dataset, udata, tmp_path):
    # The first three items come again as the three targets; only "d" is left for the profile.
    events = [("u", item, 4, n) for n, item in enumerate("abcdabc")]
    path = tmp_path / "i.parquet"
    dataset = make_dataset(profile_items=4)
    pq.write_table(cleaning.clean(dataset, {"ratings": udata(events)}, repeated_pairs="keep")[0].read_all(), path)
    table, _ = _build(dataset, path)
    assert table["target_item_id"].to_pylist() == ["a", "b", "c"]
    assert table["profile_item_ids"].to_pylist() == [["d"]] * 3


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("pqrstuv"), st.sampled_from([0.5, 3, 3.5, 5]), st.integers(0, 5)),
    min_size=4,
    max_size=60,
)


def _oracle(events, dataset, rule):
    """The definition in plain Python, for the rows that `_flat` makes of a table."""
    expected = []
    for split, back in (("train", 3), ("valid", 2), ("test", 1)):
        for user in sorted({event[0] for event in events}):
            s = sorted((event for event in events if event[0] == user), key=lambda event: event[3])
            if rule == "last":
                s = [event for n, event in enumerate(s) if event[1] not in {later[1] for later in s[n + 1 :]}]
            if len(s) >= 4:
                cut, targets = len(s) - back, {event[1] for event in s[-3:]}
                head = [
                    event
                    for event in s[: max(0, min(dataset.profile_items, len(s) - dataset.profile_skip_last))]
                    if event[1] not in targets
                ]
                past = s[max(0, cut - dataset.history_length) : cut]
                expected.append(
                    (
                        split,
                        user,
                        *s[cut][1:],
                        [e[1] for e in past],
                        [e[2] > 3 for e in past],
                        [e[1] for e in head],
                        [e[2] > 3 for e in head],
                    )
                )
    return expected


def _flat(row):
    assert row["label"] == (row["target_rating"] > 3)
    names = (
        "split",
        "user_id",
        "target_item_id",
        "target_rating",
        "target_time",
        "history_item_ids",
        "history_liked",
        "profile_item_ids",
        "profile_liked",
    )
    return tuple(row[name] for name in names)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    events=EVENTS,
    history=st.integers(1, 6),
    profile=st.integers(0, 5),
    skip=st.integers(3, 7),
    rule=st.sampled_from(["last", "keep"]),
)
def test_windows_equal_the_definition_for_any_events(make_dataset, events, history, profile, skip, rule):
    dataset = make_dataset(history_length=history, profile_items=profile, profile_skip_last=skip)
    expected = _oracle(events, dataset, rule)
    if not expected:
        return
    with tempfile.TemporaryDirectory() as folder:
        ratings, interactions = Path(folder) / "u.data", Path(folder) / "i.parquet"
        ratings.write_text("".join(f"{u}\t{i}\t{r:g}\t{t}\n" for u, i, r, t in events))
        pq.write_table(cleaning.clean(dataset, {"ratings": ratings}, repeated_pairs=rule)[0].read_all(), interactions)
        table, counts = _build(dataset, interactions)
    rows = table.to_pylist()
    assert [_flat(row) for row in rows] == expected
    assert counts["windows"] == len(expected)
    targets = {(row["user_id"], row["target_item_id"]) for row in rows}
    assert not any((row["user_id"], item) in targets for row in rows for item in row["profile_item_ids"])
    if rule == "last":
        assert not any(row["target_item_id"] in row["history_item_ids"] for row in rows)
