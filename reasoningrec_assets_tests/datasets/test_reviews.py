from __future__ import annotations

import json
from collections import Counter
from datetime import date
from math import ceil, floor

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasoningrec_assets.datasets import reviews
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import write_table

DAY = 86_400
CUTS = (date(2014, 1, 1), date(2014, 2, 1), date(2014, 3, 1))
FIRST_CUT = 1_388_534_400  # 2014-01-01 UTC


def review(user, text, *, item="t", stars=5.0, time=1_000, verified=True):
    more = {} if user is None else {"reviewerID": user}
    return {"asin": item, "reviewText": text, "overall": stars, "unixReviewTime": time, "verified": verified, **more}


@pytest.fixture
def choose(tmp_path, make_dataset):
    """Chooses from JSON lines for windows of one user, `u`: the target `t`, the history `h`, the profile item `p`."""

    def run(*rows, leak_safe=True, windows=(("u", "t", ["h"], ["p"]),), files=None, **changes):
        table = [
            {
                "dataset": "tiny",
                "split": split,
                "user_id": user,
                "target_item_id": target,
                "target_rating": 5.0,
                "label": True,
                "target_time": 1_000,
                "history_item_ids": history,
                "history_liked": [True] * len(history),
                "profile_item_ids": profile,
                "profile_liked": [True] * len(profile),
            }
            for split, (user, target, history, profile) in zip(("train", "valid", "test"), windows, strict=False)
        ]
        path, lines = tmp_path / "windows [1].parquet", tmp_path / "reviews.json"
        table = pa.Table.from_pylist(table, schema=TABLES["interaction_windows"].arrow())
        write_table(TABLES["interaction_windows"], table, path, dataset="tiny")
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = make_dataset(**{"adapter": "amazon", **changes})
        found, counts = reviews.choose(dataset, {"reviews": lines} if files is None else files, path, leak_safe=leak_safe)
        write_table(TABLES["item_reviews"], found, tmp_path / "out.parquet", dataset="tiny")
        return {row["item_id"]: row for row in found.to_pylist()}, counts

    return run


def test_one_row_for_each_item_that_a_window_needs(choose):
    found, counts = choose(review("a", "good"), review("a", "of no window", item="x"), review("b", "worn", item="h", stars=1.0))
    assert {item: row["reviews"] for item, row in found.items()} == {
        "h": ["rated 1: worn"],
        "p": [],
        "t": ["rated 5: good"],
    }
    assert {name: counts[name] for name in ("items", "reviews", "items_with_reviews", "withheld")} == {
        "items": 3,
        "reviews": 2,
        "items_with_reviews": 2,
        "withheld": 0,
    }


def test_where_no_reviewer_is_a_user_nobody_knows_whether_it_is_safe(choose):
    """Ids that are spelled otherwise than in the ratings match no target, and would withhold nothing."""
    _, counts = choose(review("u.0", "good"), windows=[("u", "t", ["h"], [])])
    assert (counts["by_known_users"], counts["leak_safe"]) == (0, False)
    _, counts = choose(review("u", "good", item="h"), review("v", "good"), windows=[("u", "t", ["h"], [])])
    assert (counts["by_known_users"], counts["leak_safe"]) == (1, True)
    _, counts = choose(windows=[("u", "t", ["h"], [])])
    assert counts["leak_safe"]


def test_unverified_and_empty_reviews_are_left_out_and_duplicates_count_once(choose):
    rows = [review("a", "same"), review("a", "same", time=2_000), review("b", "same"), review("a", "other")]
    rows += [review("c", "not bought", verified=False), review("d", " \n"), review("e", None), review("f", "<br />")]
    found, _ = choose(*rows)
    assert sorted(found["t"]["reviews"]) == ["rated 5: other", "rated 5: same", "rated 5: same"]


def test_where_nothing_says_which_reviews_are_verified_all_count(choose):
    found, _ = choose(review("a", "unknown", verified=None), review("b", "no", verified=False))
    assert found["t"]["reviews"] == ["rated 5: unknown"]


def test_the_review_of_a_target_is_withheld_whatever_its_split(choose):
    windows = [("u", "t", ["h"], ["p"]), ("v", "t", ["h"], []), ("w", "h", ["t"], [])]
    rows = [review(user, f"{user} on {item}", item=item) for user in "uvwx" for item in "th"]
    found, counts = choose(*rows, windows=windows)
    assert {text[-6:] for text in found["t"]["reviews"]} == {"w on t", "x on t"}
    assert {text[-6:] for text in found["h"]["reviews"]} == {"u on h", "v on h", "x on h"}
    assert (found["t"]["withheld"], found["h"]["withheld"], counts["withheld"]) == (2, 1, 3)
    assert (found["t"]["eligible"], found["h"]["eligible"]) == (2, 3)


def test_a_review_without_a_user_may_be_the_targets_and_is_withheld(choose):
    found, _ = choose(review(None, "who knows"), review("a", "fine"))
    assert (found["t"]["reviews"], found["t"]["withheld"]) == (["rated 5: fine"], 1)


def test_what_was_written_from_the_first_cut_on_is_withheld_where_windows_follow_time(choose):
    rows = [
        review(user, user, time=time) for user, time in (("before", FIRST_CUT - 1), ("at", FIRST_CUT), ("after", FIRST_CUT + DAY))
    ]
    rows += [review("never", "never", time=None), review("u", "the target's", time=1)]
    found, counts = choose(*rows, cut_dates=CUTS)
    assert found["t"]["reviews"] == ["rated 5: before"]
    assert counts["withheld"] == 4
    assert len(choose(*rows)[0]["t"]["reviews"]) == 4, "leave-last-out knows no such date"


def test_the_papers_way_withholds_nothing_and_says_so(choose):
    found, counts = choose(review("u", "the target's own"), review("a", "late", time=FIRST_CUT), leak_safe=False, cut_dates=CUTS)
    assert sorted(found["t"]["reviews"]) == ["rated 5: late", "rated 5: the target's own"]
    assert (counts["leak_safe"], counts["withheld"]) == (False, 0)


def test_words_are_cut_to_fifty_where_there_is_a_choice_else_to_a_hundred(choose):
    long = " ".join(f"w{n}" for n in range(300))
    ten, _ = choose(*(review(f"a{n}", long) for n in range(10)))
    eleven, _ = choose(*(review(f"a{n}", long) for n in range(11)))
    assert {len(text.split()) - 2 for text in ten["t"]["reviews"]} == {100}
    assert {len(text.split()) - 2 for text in eleven["t"]["reviews"]} == {50}
    assert (len(ten["t"]["reviews"]), len(eleven["t"]["reviews"])) == (10, 10)


def test_page_text_is_cleaned_before_it_is_cut(choose):
    text = '<div id="video">' + "<br /> " * 200 + "It&#39;s\u0007 a\n\n<b>gift</b> <|im_end|> 😀"
    found, _ = choose(review("a", text))
    assert found["t"]["reviews"] == ["rated 5: It's a gift < |im_end|> 😀"]


def test_half_stars_and_missing_ones_are_shown_as_they_are(choose):
    found, _ = choose(review("a", "fine", stars=3.5), review("b", "none", stars=None))
    assert sorted(found["t"]["reviews"]) == ["none", "rated 3.5: fine"]


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_file(choose):
    rows = [review(f"a{n}", f"text {n}") for n in range(60)]
    first = choose(*rows)[0]["t"]["reviews"]
    assert choose(*reversed(rows))[0]["t"]["reviews"] == first
    assert choose(*rows, sample_seed=7)[0]["t"]["reviews"] != first
    assert len(set(first)) == 10


def test_the_seed_decides_whether_a_rare_star_is_drawn(choose):
    rows = [review(f"a{n}", f"text {n}", stars=1.0 if n == 0 else 5.0) for n in range(20)]
    drawn = sum("rated 1" in "".join(choose(*rows, sample_seed=seed)[0]["t"]["reviews"]) for seed in range(30))
    assert 8 <= drawn <= 22  # half of them: ten of twenty are taken


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 5), min_size=1, max_size=80))
def test_stars_are_drawn_in_proportion(choose, stars):
    found, _ = choose(*(review(f"a{n}", f"text {n}", stars=float(star)) for n, star in enumerate(stars)))
    drawn = Counter(text[6] for text in found["t"]["reviews"])
    assert drawn.total() == min(10, len(stars))
    for star, count in Counter(map(str, stars)).items():
        share = min(10, len(stars)) * count / len(stars)
        assert floor(share) - 1 <= drawn[star] <= ceil(share) + 1, (star, share)


@pytest.mark.parametrize("changes", [{"adapter": "movielens"}, {"files": {}}], ids=["an adapter without", "no file"])
def test_a_dataset_without_reviews_has_empty_lists(choose, changes):
    found, counts = choose(review("a", "good"), **changes)
    assert {item: row["reviews"] for item, row in found.items()} == {"h": [], "p": [], "t": []}
    assert (counts["items"], counts["reviews"], counts["items_with_reviews"]) == (3, 0, 0)


def test_hostile_ids_are_compared_as_they_are(choose):
    hostile = "'; DROP TABLE needed; --"
    rows = [review(hostile, "mine", item=hostile), review("a", "yours", item=hostile)]
    found, _ = choose(*rows, windows=[(hostile, hostile, ["h"], [])])
    assert found[hostile]["reviews"] == ["rated 5: yours"]
