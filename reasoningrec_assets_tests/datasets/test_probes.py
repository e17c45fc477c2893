"""Every probe must find the leak that is planted here, and nothing in windows that are as they should be."""

from __future__ import annotations

import re
import tempfile
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoningrec_assets.datasets import cleaning, probes, windows
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.sql import query

DAY = 86_400
CUTS = (date(1970, 1, 5), date(1970, 1, 7), date(1970, 1, 9))  # days 4, 6 and 8


class Leaky:
    """The windows of ten users and twelve days, as rows that a test may spoil."""

    def __init__(self, dataset, folder, events=None, rule="last"):
        self.folder, self.cuts = folder, dataset.cuts
        self.limit = dataset.targets_per_user if dataset.cuts else 1
        events = events or [
            (user, f"i{user}-{day}", 5 if (user + day) % 2 else 1, day) for user in range(10) for day in range(12)
        ]
        (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{day * DAY}\n" for u, i, r, day in events))
        reader, *_ = cleaning.clean(dataset, {"ratings": folder / "u.data"}, repeated_pairs=rule)
        pq.write_table(reader.read_all(), folder / "interactions.parquet")
        self.rows = windows.build(dataset, folder / "interactions.parquet")[0].read_all().to_pylist()

    def row(self, split, user="3"):
        return next(row for row in self.rows if (row["split"], row["user_id"]) == (split, user))

    def show(self, row, item, where="history"):
        """Puts an item at the end of what the row shows."""
        row[f"{where}_item_ids"] = [*row[f"{where}_item_ids"], item]
        row[f"{where}_liked"] = [*row[f"{where}_liked"], True]

    def figures(self, probe):
        """The one row of a probe's figures."""
        path = self.folder / "windows.parquet"
        pq.write_table(pa.Table.from_pylist(self.rows, schema=TABLES["interaction_windows"].arrow()), path)
        known = {"interaction_windows": path, "cleaned_interactions": self.folder / "interactions.parquet"}
        known |= {"cuts": self.cuts, "targets_per_user": self.limit}
        (found,) = query(probe, **{name: known[name] for name in re.findall(r"\$(\w+)", probe)}).to_pylist()
        return {name: float(value) for name, value in found.items()}

    def found(self):
        """What the probes for forbidden rows count, without the zeros."""
        figures = {name: count for probe in probes.FORBIDDEN.values() for name, count in self.figures(probe).items()}
        return {name: count for name, count in figures.items() if count}


@pytest.fixture(params=["leave-last-out", "global-temporal"])
def leaky(request, make_dataset, tmp_path):
    return Leaky(make_dataset(cut_dates=CUTS if request.param == "global-temporal" else None), tmp_path)


@pytest.fixture
def by_date(make_dataset, tmp_path):
    return Leaky(make_dataset(cut_dates=CUTS, targets_per_user=1), tmp_path)


def test_honest_windows_pass(leaky):
    assert leaky.rows
    assert leaky.found() == {}
    assert leaky.figures(probes.PROBES["repeated_test_rows"]) == {"repeated_test_share": 0}


def test_every_probe_says_what_it_is_for():
    assert all(probe.startswith("-- ") and probe.splitlines()[0].endswith(".") for probe in probes.FORBIDDEN.values())


def test_a_target_in_its_own_history_is_found(leaky):
    row = leaky.row("test")
    leaky.show(row, row["target_item_id"])
    assert leaky.figures(probes.FORBIDDEN["target_not_in_own_history"]) == {"in_history": 1, "in_profile": 0}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_target_of_any_split_in_the_profile_is_found(leaky, split):
    leaky.show(leaky.row("train"), leaky.row(split)["target_item_id"], "profile")
    assert leaky.figures(probes.FORBIDDEN["target_not_in_own_history"]) == {"in_history": 0, "in_profile": 1}


@pytest.mark.parametrize("where", ["history", "profile"])
def test_an_event_after_the_target_is_found(leaky, where):
    leaky.show(leaky.row("train"), "i3-11", where)
    assert leaky.figures(probes.FORBIDDEN["nothing_later_than_target"])["at_or_after_target"] == 1


def test_the_target_itself_counts_as_not_earlier(leaky):
    row = leaky.row("valid")
    leaky.show(row, row["target_item_id"])
    assert leaky.figures(probes.FORBIDDEN["nothing_later_than_target"])["at_or_after_target"] == 1


def test_an_event_on_the_day_of_the_cut_is_found_though_the_target_is_later(by_date):
    row = by_date.row("valid")
    row["target_item_id"], row["target_time"] = "i3-7", 7 * DAY
    assert by_date.found() == {}
    by_date.show(row, "i3-6")
    assert by_date.found() == {"at_or_after_cut": 1}


def test_an_item_that_the_user_never_rated_is_found(leaky):
    leaky.show(leaky.row("test"), "i4-1")
    assert leaky.found() == {"without_event": 1}


def test_with_repeats_kept_the_first_event_makes_an_item_known_and_the_target_is_the_one_at_its_time(make_dataset, tmp_path):
    events = [("u", item, 5, day) for day, item in enumerate("abcdefbg")]
    kept = Leaky(make_dataset(history_length=4), tmp_path, events, rule="keep")
    assert kept.row("train", "u")["history_item_ids"] == ["b", "c", "d", "e"], "b comes again after this target, f"
    assert kept.row("valid", "u")["target_item_id"] == "b", "c to f come after the first b"
    assert kept.found() == {}


def test_an_example_that_stands_in_two_splits_is_found(leaky):
    row = leaky.row("train") | {"split": "test", "user_id": "4"}
    leaky.rows = [*(other for other in leaky.rows if (other["split"], other["user_id"]) != ("test", "4")), row]
    assert leaky.figures(probes.FORBIDDEN["no_example_in_two_splits"]) == {"rows_in_two_splits": 2}
    row["label"] = not row["label"]
    assert leaky.figures(probes.FORBIDDEN["no_example_in_two_splits"]) == {"rows_in_two_splits": 0}


def test_users_with_identical_sequences_are_found_among_the_test_rows(make_dataset, tmp_path):
    events = [(user, f"i{day}" if user < 3 else f"i{user}-{day}", 5, day) for user in range(10) for day in range(8)]
    twins = Leaky(make_dataset(), tmp_path, events)
    assert twins.figures(probes.PROBES["repeated_test_rows"]) == {"repeated_test_share": 0.3}
    assert twins.found() == {}
    alone = Leaky(make_dataset(one_user_per_sequence=True), tmp_path, events)
    assert alone.figures(probes.PROBES["repeated_test_rows"]) == {"repeated_test_share": 0}


def test_one_row_more_than_the_protocol_gives_is_found(by_date):
    assert by_date.found() == {}
    by_date.rows.append(by_date.row("test") | {"target_item_id": "i3-9", "target_time": 9 * DAY})
    assert by_date.found() == {"users_over_limit": 1}
    by_date.limit = 2
    assert by_date.found() == {}


@settings(max_examples=10, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("stuvwxyz"), st.sampled_from([1, 5]), st.integers(0, 11))),
    temporal=st.booleans(),
)
def test_windows_of_any_events_hold_nothing_forbidden(make_dataset, events, temporal):
    """Only an example in two splits can be chance: two users may have rated alike, at different times."""
    steady = [(user, f"{user}{day}", 5 if day % 3 else 1, day) for user in "cd" for day in range(12)]
    with tempfile.TemporaryDirectory() as folder:
        made = Leaky(make_dataset(cut_dates=CUTS if temporal else None, targets_per_user=2), Path(folder), [*events, *steady])
        assert made.found().keys() <= {"rows_in_two_splits"}
