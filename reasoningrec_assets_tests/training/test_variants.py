from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.settings import SamplingSettings
from reasoningrec_assets.training.student import build_splits
from reasoningrec_assets.training.variants import VARIANTS

SAMPLING = SamplingSettings(k=4, valid_rows=3, explained_rows=0, seed=1)


@pytest.fixture
def tables(tmp_path):
    return write_tables(tmp_path)


def write_tables(folder, flipped=()):
    """Six users with a history of three items, whose last three events are the targets; a flipped user likes the opposite."""
    interactions, windows = [], []
    for user in range(6):
        for position in range(6):
            liked = (user + position + (user in flipped and 0 < position < 3)) % 2 == 0
            row = {"user_id": f"u{user}", "item_id": f"i{position}", "rating": 4.0, "liked": liked}
            interactions.append({"dataset": "ml100k", **row, "timestamp": position, "position": position})
        for split, at in (("train", 3), ("valid", 4), ("test", 5)):
            row = {"dataset": "ml100k", "split": split, "user_id": f"u{user}", "target_item_id": f"i{at}", "target_rating": 4.0}
            row |= {"label": (user + at) % 2 == 0, "target_time": at, "profile_item_ids": [], "profile_liked": []}
            shown = {
                "history_item_ids": [f"i{n}" for n in range(at - 3, at)],
                "history_liked": [(user + n) % 2 == 0 for n in range(at - 3, at)],
            }
            windows.append(row | shown)
    items = [
        {"dataset": "ml100k", "item_id": f"i{n}", "title": f"Movie {n}", "genres": [], "brand": None, "price": None, "year": None}
        for n in range(6)
    ]
    made = {}
    for name, rows, schema in (
        ("interaction_windows", windows, TABLES["interaction_windows"]),
        ("items", items, TABLES["items"]),
        ("cleaned_interactions", interactions, TABLES["cleaned_interactions"]),
    ):
        made[name] = folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.arrow()), made[name])
    return made


def rows_of(tables, variant):
    read = {table: tables[table] for table in VARIANTS[variant].inputs}
    return build_splits(registry.get("ml100k"), VARIANTS[variant], SAMPLING, read).table.to_pylist()


def test_a_variant_without_reasoning_draws_its_own_balanced_rows(tables):
    rows = rows_of(tables, "titles")
    train = [row for row in rows if row["split"] == "train"]
    drawn = [row for row in train if row["target_item_id"] == "i3"]
    assert sorted(row["label"] for row in drawn) == [False, False, True, True]
    # what such a user had rated just before is a target too, after what came before it
    assert sorted((row["user_id"], row["target_item_id"]) for row in train if row not in drawn) == sorted(
        (row["user_id"], earlier) for row in drawn for earlier in ("i1", "i2")
    )
    assert all(row["input"].count("\n- ") == int(row["target_item_id"][1:]) for row in train)
    assert {split: sum(row["split"] == split for row in rows) for split in ("valid", "test")} == {"valid": 3, "test": 6}
    assert all(row["output"] in {"Prediction: Yes", "Prediction: No"} and "liked 1 of" not in row["input"] for row in rows)


def test_how_the_draw_of_rows_went_is_reported(tables):
    read, said = {table: tables[table] for table in VARIANTS["titles"].inputs}, []
    output = build_splits(
        registry.get("ml100k"), VARIANTS["titles"], SAMPLING.model_copy(update={"k": 20}), read, log=said.append
    )
    assert (output.metrics["train_requested"], output.metrics["train_taken"], output.metrics["train_short_by"]) == (20, 6, 14)
    assert any("14 fewer than K = 20" in line for line in said)


def test_a_grounded_row_says_what_training_events_say_and_no_target(tables):
    rows = rows_of(tables, "grounded")
    for row in rows:
        history = row["input"].split("\n\n")[0]
        shown = history.count("\n- ")
        assert f"likes a movie: {history.count('- liked')} of {shown}." in row["input"]
    # items 3 to 5 are targets of everybody: no event of theirs is a training event, so each has the prior's share
    targets = [row for row in rows if row["target_item_id"] in {"i3", "i4", "i5"}]
    assert len({row["input"].split("Others find the target")[1] for row in targets}) == 1


@pytest.mark.parametrize("cut_dates", [None, (date(1970, 1, 2), date(1970, 1, 3), date(1970, 1, 4))])
def test_what_is_said_of_an_earlier_target_does_not_know_its_label(tmp_path, tables, cut_dates):
    dataset = registry.get("ml100k").model_copy(update={"cut_dates": cut_dates})
    hinted = VARIANTS["grounded"]

    def said(made):
        rows = build_splits(dataset, hinted, SAMPLING, made).table.to_pylist()
        return {
            (row["user_id"], row["target_item_id"]): row["input"].split("Others")[1] for row in rows if row["split"] == "train"
        }

    before = said(tables)
    users = {int(user[1:]) for user, _ in before}
    assert (len(users), len(before)) == (4, 12)
    (tmp_path / "flipped").mkdir()
    assert said(write_tables(tmp_path / "flipped", {min(users)})) == before
    (tmp_path / "others").mkdir()
    assert said(write_tables(tmp_path / "others", {min({*range(6)} - users)})) != before, "what the others like is to be said"


def test_a_collaborative_row_says_what_the_factorisation_expects(tables):
    assert all("model of everyone's ratings expects it to be" in row["input"] for row in rows_of(tables, "collaborative"))


def test_tallrec_rows_show_bare_titles_and_the_liked_ones_first(tables):
    for row in rows_of(tables, "tallrec"):
        tags = [line.split(":")[0] for line in row["input"].splitlines() if line.startswith("- ")]
        assert tags == sorted(tags, reverse=True)
        assert len(tags) == 3


def test_a_variant_reads_what_it_shows_and_has_what_differs_for_itself():
    no_profile, no_description, k64 = (VARIANTS[name] for name in ("no_profile", "no_description", "k64"))
    assert "user_profiles" not in no_profile.inputs
    assert no_profile.asset("reasoning_labels") == "study/no_profile/reasoning_labels"
    assert "item_descriptions" not in no_description.inputs
    assert no_description.asset("user_profiles") == "study/no_description/user_profiles"
    assert k64.asset("user_profiles") == "user_profiles"
    assert k64.asset("reasoning_labels") == "study/k64/reasoning_labels"
    assert VARIANTS["label_only"].inputs == ("interaction_windows", "items", "item_descriptions", "user_profiles")
