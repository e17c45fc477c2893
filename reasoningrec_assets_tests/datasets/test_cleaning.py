from __future__ import annotations

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import cleaning
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import write_table


def _sequence(user, items, start=0):
    return [(user, item, 4, start + n) for n, item in enumerate(items)]


def _run(dataset, path, **options):
    interactions, counts, _ = cleaning.clean(dataset, {"ratings": path}, **options)
    return interactions.read_all(), counts


def _ids(table):
    return [(row["user_id"], row["item_id"]) for row in table.to_pylist()]


def test_rows_come_in_schema_order_by_user_and_time(make_dataset, udata):
    path = udata(
        [
            ("b", "1", 4, 9),
            ("a", "4", 5, 3),
            ("b", "2", 1, 8),
            ("a", "3", 3, 1),
            ("a", "2", 2, 2),
            ("b", "3", 3, 7),
            ("b", "4", 4, 6),
            ("a", "1", 1, 4),
        ]
    )
    table, _ = _run(make_dataset(), path)
    assert table.schema.names == TABLES["cleaned_interactions"].arrow().names
    assert _ids(table) == [("a", "3"), ("a", "2"), ("a", "4"), ("a", "1"), ("b", "4"), ("b", "3"), ("b", "2"), ("b", "1")]
    assert table["position"].to_pylist() == [0, 1, 2, 3] * 2
    assert set(table["dataset"].to_pylist()) == {"tiny"}


def test_ties_in_time_keep_the_order_of_the_file(make_dataset, udata):
    items = ["9", "3", "7", "1", "5", "2"]
    table, _ = _run(make_dataset(), udata([("u", item, 4, 100) for item in items]))
    assert table["item_id"].to_pylist() == items


@pytest.mark.parametrize(
    ("rule", "liked"),
    [({"liked_above": 3}, [False, False, True, True]), ({"liked_above": None, "liked_at_least": 3}, [False, True, True, True])],
)
def test_the_like_rule_is_strict_or_not(make_dataset, udata, rule, liked):
    table, _ = _run(make_dataset(**rule), udata([("u", str(n), rating, n) for n, rating in enumerate([2, 3, 3.5, 5])]))
    assert table["liked"].to_pylist() == liked


# The pair (u, x) three times; among equal times the file's order decides.
REPEATS = [("u", "x", 1, 5), ("u", "x", 5, 9), ("u", "a", 4, 6), ("u", "x", 2, 9), ("u", "b", 4, 7), ("u", "c", 4, 8)]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("last", [("a", 4), ("b", 4), ("c", 4), ("x", 2)]),
        ("first", [("x", 1), ("a", 4), ("b", 4), ("c", 4)]),
        ("keep", [("x", 1), ("a", 4), ("b", 4), ("c", 4), ("x", 5), ("x", 2)]),
    ],
)
def test_repeated_pairs_follow_the_rule(make_dataset, udata, rule, kept):
    table, counts = _run(make_dataset(), udata(REPEATS), repeated_pairs=rule)
    assert [(row["item_id"], row["rating"]) for row in table.to_pylist()] == kept
    assert counts["dropped_repeated_pair"] == len(REPEATS) - len(kept)


def test_the_default_keeps_the_last_of_a_pair(make_dataset, udata):
    table, _ = _run(make_dataset(), udata(REPEATS))
    assert table["item_id"].to_pylist() == ["a", "b", "c", "x"]


def test_every_dropped_row_is_counted_with_its_reason(make_dataset, udata):
    rows = [
        *_sequence("few", "abcd"),  # 4 raw rows, below 5
        *_sequence("repeats", "aaaabc"),  # passes on raw rows, then 3 rows are left
        *_sequence("one", "abcdde"),  # one repeat, 5 rows left
        *_sequence("two", "abcdef"),
        *_sequence("three", "abcdefg"),
    ]
    table, counts = _run(make_dataset(min_ratings=5, sample_users=2, sample_seed=7), udata(rows))
    drawn = sorted(["one", "two", "three"], key=lambda user: hashlib.md5(f"7:{user}".encode()).hexdigest())[:2]
    left = {"one": 5, "two": 6, "three": 7}
    assert set(table["user_id"].to_pylist()) == set(drawn)
    assert counts == {
        "rows_in": 29,
        "rows_out": sum(left[user] for user in drawn),
        "users_in": 5,
        "users_out": 2,
        "items_out": len(set(table["item_id"].to_pylist())),
        "dropped_user_below_min_ratings": 4,
        "dropped_repeated_pair": 4,
        "dropped_user_below_four_rows": 3,
        "dropped_identical_sequence": 0,
        "dropped_not_sampled": sum(size for user, size in left.items() if user not in drawn),
        "users_with_identical_sequence": 0,
    }
    assert counts["rows_in"] - counts["rows_out"] == sum(value for name, value in counts.items() if name.startswith("dropped_"))


def test_users_with_the_same_items_ratings_and_times_are_counted_and_one_is_kept_where_asked(make_dataset, udata):
    events = [event for user in ("b", "a", "c") for event in _sequence(user, "vwxyz")]
    events += [*_sequence("other", "vwxyy"), *((user, item, 4, 9) for user in ("d", "e") for item in "vwxyz")]
    # a row twice is no reason to take two users for one
    events += [
        *_sequence("p", "abcd"),
        ("p", "e", 4, 7),
        ("p", "e", 4, 7),
        *_sequence("q", "abcd"),
        ("q", "f", 4, 7),
        ("q", "f", 4, 7),
    ]
    table, counts = _run(make_dataset(), udata(events))
    assert set(table["user_id"].to_pylist()) == {*"abcdepq", "other"}
    assert (counts["users_with_identical_sequence"], counts["dropped_identical_sequence"]) == (5, 0)
    table, counts = _run(make_dataset(one_user_per_sequence=True), udata(events))
    assert set(table["user_id"].to_pylist()) == {*"adpq", "other"}
    assert (counts["users_with_identical_sequence"], counts["dropped_identical_sequence"]) == (5, 15)
    # what a repeat gave up makes no difference
    twice = [*_sequence("x", "abcd"), *_sequence("y", "abcd"), _sequence("y", "abcd")[-1]]
    assert _run(make_dataset(), udata(twice))[1]["users_with_identical_sequence"] == 2
    assert counts["rows_in"] - counts["rows_out"] == 15 + counts["dropped_repeated_pair"]


def test_one_more_user_moves_at_most_one_place_in_the_sample(make_dataset, udata):
    dataset = make_dataset(sample_users=10)
    rows = [event for n in range(40) for event in _sequence(f"u{n}", "abcd")]
    before = set(_run(dataset, udata(rows))[0]["user_id"].to_pylist())
    after = set(_run(dataset, udata(list(reversed(_sequence("new", "abcd"))) + rows))[0]["user_id"].to_pylist())
    other = set(_run(make_dataset(sample_users=10, sample_seed=1), udata(rows))[0]["user_id"].to_pylist())
    assert len(before) == len(after) == 10
    assert len(before - after) <= 1
    assert other != before


def test_nobody_left_names_the_setting_and_the_largest_count(make_dataset, udata):
    with pytest.raises(PermanentError, match="min_ratings") as caught:
        cleaning.clean(make_dataset(min_ratings=9), {"ratings": udata(_sequence("u", "abcdef") + _sequence("v", "ab"))})
    assert "the most that any user has is 6" in str(caught.value)


def test_only_short_sequences_is_an_error_too(make_dataset, udata):
    with pytest.raises(PermanentError, match="the longest sequence has 3"):
        cleaning.clean(make_dataset(), {"ratings": udata(_sequence("u", "aaaabc"))})


def test_hostile_ids_pass_through_unchanged(make_dataset, udata):
    users = ["'; DROP TABLE events; --", '"q"', "NULL", "ü", "007"]
    table, counts = _run(make_dataset(), udata([event for user in users for event in _sequence(user, ["00", "0", "'", "%"])]))
    assert set(table["user_id"].to_pylist()) == set(users)
    assert (counts["rows_out"], counts["items_out"]) == (20, 4)


def test_items_are_those_rated_and_an_unknown_one_is_called_by_its_id(make_dataset, udata, tmp_path):
    dataset = make_dataset()
    table, _ = _run(dataset, udata(_sequence("u", ["2", "9", "1", "3"])))
    interactions = tmp_path / "in [1].parquet"
    pq.write_table(table, interactions)
    movies = tmp_path / "movies.dat"
    movies.write_text("1::One (1990)::Drama\n2::Two (1991)::War|Drama\n2::Again (1992)::War\n3::::Drama\n4::Four::Drama\n")
    items, counts = cleaning.read_items(dataset, {"items": movies}, interactions)
    assert items.schema.names == TABLES["items"].arrow().names
    assert [(row["item_id"], row["title"], row["year"], row["genres"]) for row in items.to_pylist()] == [
        ("1", "One", 1990, ["Drama"]),
        ("2", "Two", 1991, ["War", "Drama"]),
        ("3", "3", None, ["Drama"]),
        ("9", "9", None, []),
    ]
    assert counts == {"items": 4, "items_without_title": 2}


METADATA = [
    {"asin": "a", "title": "Fine", "brand": "Acme", "price": "$3.99 - $24.99", "description": ["Soft &amp; warm.", "<b>New</b>"]},
    {"asin": "a", "title": "The same item again"},
    {"asin": "b", "title": "<script>" + "x" * 600 + "</script>", "brand": "<a href=x>", "price": ".a-box{color:red}"},
    {"asin": "c", "title": "T-Shirt &amp; Tie\u0007", "brand": "A&eacute;", "price": "$5", "description": "Plain."},
    {"asin": "e", "title": ["a", "list"], "brand": {"name": "x"}, "description": []},
    {"asin": "unknown", "title": "Never rated", "brand": "B\u0000", "price": ""},
    {"title": "Of no item"},
]


@pytest.fixture
def amazon_files(tmp_path):
    """Ratings of one user for a, b, c, d and e, twice for c, of another for a alone, and metadata for all but d."""
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("".join(f"{item},u,5,{n}\n" for n, item in enumerate("abccde")) + "a,v,1,1\n")
    metadata = tmp_path / "meta.json"
    metadata.write_text("".join(json.dumps(row) + "\n" for row in METADATA))
    return {"ratings": ratings, "metadata": metadata}


def _report(dataset, files, tmp_path):
    interactions, *told = cleaning.clean(dataset, files)
    write_table(TABLES["cleaned_interactions"], interactions, tmp_path / "interactions.parquet", dataset=dataset.name)
    table = cleaning.report(dataset, files, tmp_path / "interactions.parquet", *told)
    write_table(TABLES["cleaning_report"], table, tmp_path / "report.parquet", dataset=dataset.name)
    items, _ = cleaning.read_items(dataset, files, tmp_path / "interactions.parquet")
    return {row["rule"]: row for row in table.to_pylist()}, {row["item_id"]: row for row in items.to_pylist()}


def test_the_report_has_a_row_for_each_rule_with_the_rows_that_it_met(make_dataset, amazon_files, tmp_path):
    rules, items = _report(make_dataset(adapter="amazon", min_ratings=2), amazon_files, tmp_path)
    assert {rule: row["rows"] for rule, row in rules.items()} == {
        "user_below_min_ratings": 1,
        "repeated_pair": 1,
        "user_below_four_rows": 0,
        "identical_sequence": 0,
        "not_sampled": 0,
        "title_page_dump": 1,
        "title_too_long": 1,
        "title_nested": 1,
        "title_html_entities": 1,
        "title_control_characters": 1,
        "brand_page_dump": 1,
        "brand_too_long": 0,
        "brand_nested": 1,
        "brand_html_entities": 1,
        "brand_control_characters": 1,
        "about_page_dump": 0,
        "about_too_long": 0,
        "about_nested": 0,
        "about_html_entities": 1,
        "about_control_characters": 0,
        "price_no_amount": 1,
        "price_range": 1,
        "about_list": 2,
        "row_without_asin": 1,
        "row_of_no_rated_item": 1,
        "row_repeated": 1,
        "item_without_title": 2,
        "item_without_row": 1,
    }
    assert rules["user_below_min_ratings"]["examples"] == ["user v, 1 ratings"]
    assert rules["repeated_pair"]["examples"] == ["user u, item c"]
    assert rules["not_sampled"]["examples"] == []
    assert rules["title_page_dump"]["examples"] == ["<script>" + "x" * 112]
    assert rules["item_without_title"]["examples"] == ["b", "e"]
    assert rules["price_range"]["examples"] == ["$3.99 - $24.99"]
    assert rules["title_too_long"]["what"] == "taken as missing"
    assert {item: (row["title"], row["brand"], row["price"], row["about"]) for item, row in items.items()} == {
        "a": ("Fine", "Acme", "$3.99 - $24.99", "Soft & warm. <b>New</b>"),
        "b": ("b", None, None, None),
        "c": ("T-Shirt & Tie", "Aé", "$5", "Plain."),
        "d": ("d", None, None, None),
        "e": ("e", None, None, None),
    }


def test_every_reason_that_a_rating_is_left_out_for_has_examples(make_dataset, udata):
    rows = [
        *(event for user in "wxyz" for event in _sequence(user, "ab")),  # below 5
        *_sequence("repeats", "aaaabc"),
        *_sequence("one", "abcdde"),
        *_sequence("twin", "abcdefg"),
        *_sequence("twine", "abcdefg"),
    ]
    dataset = make_dataset(min_ratings=5, one_user_per_sequence=True, sample_users=1)
    reader, counts, details = cleaning.clean(dataset, {"ratings": udata(rows)})
    left = {*reader.read_all()["user_id"].to_pylist()}
    found = json.loads(details["dropped"])
    assert found.keys() == {
        name.removeprefix("dropped_") for name, rows in counts.items() if name.startswith("dropped_") and rows
    }
    assert found == {
        "user_below_min_ratings": ["user w, 2 ratings", "user x, 2 ratings", "user y, 2 ratings"],
        "repeated_pair": ["user one, item d", "user repeats, item a"],
        "user_below_four_rows": ["user repeats, 6 ratings"],
        "identical_sequence": ["user twine, 7 ratings"],
        "not_sampled": ["user one, 6 ratings" if left == {"twin"} else "user twin, 7 ratings"],
    }


def test_at_most_three_examples_each_another_one(make_dataset, amazon_files, tmp_path):
    rows = [{"asin": f"x{n}", "price": f".css{n % 5}"} for n in range(50)]
    amazon_files["metadata"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules, _ = _report(make_dataset(adapter="amazon"), amazon_files, tmp_path)
    assert (rules["price_no_amount"]["rows"], rules["price_no_amount"]["examples"]) == (50, [".css0", ".css1", ".css2"])


def test_without_metadata_every_item_is_called_by_its_id_and_counted(make_dataset, amazon_files, tmp_path):
    rules, items = _report(make_dataset(adapter="amazon"), {"ratings": amazon_files["ratings"]}, tmp_path)
    assert rules["item_without_row"]["rows"] == 5
    assert {item: row["title"] for item, row in items.items()} == {item: item for item in "abcde"}


def test_movielens_is_reported_too(make_dataset, udata, tmp_path):
    movies = tmp_path / "movies.dat"
    movies.write_text("1::One (1990)::Drama\n1::Again::Drama\n2::::War\n9::Nine::War\n")
    rules, _ = _report(make_dataset(), {"ratings": udata(_sequence("u", "1234")), "items": movies}, tmp_path)
    assert {rule: row["rows"] for rule, row in rules.items() if row["rows"]} == {
        "row_of_no_rated_item": 1,
        "row_repeated": 1,
        "item_without_title": 1,
        "item_without_row": 2,
    }


def test_nobody_left_in_a_set_of_reviews_alone_names_the_file(make_dataset, tmp_path):
    path = tmp_path / "reviews.json"
    path.write_text('{"reviewerID": "u", "asin": "a", "overall": 5, "unixReviewTime": 1}\n')
    with pytest.raises(PermanentError, match=r"reviews\.json.*no user has"):
        cleaning.clean(make_dataset(adapter="amazon", min_ratings=9), {"reviews": path})
