from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reasoningrec_assets.baselines.features import window_features
from reasoningrec_assets.datasets import cleaning, windows
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.evaluate import left_out

DAY = 86_400
CUTS = (date(1970, 1, 3), date(1970, 1, 5), date(1970, 1, 7))  # days 2, 4 and 6


def _write(dataset, events, path, rule="last"):
    """Cleans (user, item, rating, day) events into a `cleaned_interactions` at path."""
    ratings = path.with_suffix(".data")
    ratings.write_text("".join(f"{u}\t{i}\t{r:g}\t{int(day * DAY)}\n" for u, i, r, day in events))
    pq.write_table(cleaning.clean(dataset, {"ratings": ratings}, repeated_pairs=rule)[0].read_all(), path)
    return path


def _oracle(events, dataset, rule):
    """The definition in plain Python: each split from its cut to the next, seen from what was before its cut."""
    rows = []
    for split, start, stop in (("train", 2, 4), ("valid", 4, 6), ("test", 6, 10**9)):
        for user in sorted({event[0] for event in events}):
            s = sorted((event for event in events if event[0] == user), key=lambda event: event[3])
            if rule == "last":
                s = [event for n, event in enumerate(s) if event[1] not in {later[1] for later in s[n + 1 :]}]
            later = [event for event in s if start <= event[3] < stop]
            later = [event for n, event in enumerate(later) if event[1] not in {other[1] for other in later[:n]}]
            past = [event for event in s if event[3] < start]
            if len(s) < 4 or not past:
                continue
            targets = {event[1] for event in s if event[3] >= 2}
            head = [event for event in s[: dataset.profile_items] if event[3] < 2 and event[1] not in targets]
            for target in later[: dataset.targets_per_user]:
                history = past[-dataset.history_length :]
                rows.append(
                    (
                        split,
                        user,
                        target[1],
                        target[2] > 3,
                        [e[1] for e in history],
                        [e[2] > 3 for e in history],
                        [e[1] for e in head],
                    )
                )
    return rows


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("pqrstuvwxyz"), st.sampled_from([0.5, 3, 3.5, 5]), st.integers(0, 8)),
    min_size=4,
    max_size=60,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    events=EVENTS,
    history=st.integers(1, 6),
    profile=st.integers(0, 5),
    most=st.integers(1, 4),
    rule=st.sampled_from(["last", "keep"]),
)
def test_windows_equal_the_definition_for_any_events(make_dataset, events, history, profile, most, rule):
    dataset = make_dataset(cut_dates=CUTS, history_length=history, profile_items=profile, targets_per_user=most)
    expected = _oracle(events, dataset, rule)
    with tempfile.TemporaryDirectory() as folder:
        try:
            interactions = _write(dataset, events, Path(folder) / "i.parquet", rule)
        except PermanentError:
            assert not expected
            return
        if {row[0] for row in expected} != {"train", "valid", "test"}:
            with pytest.raises(PermanentError, match="cut_dates"):
                windows.build(dataset, interactions)
            return
        reader, counts = windows.build(dataset, interactions)
        table = reader.read_all()
    assert table.schema.names == TABLES["interaction_windows"].arrow().names
    names = ("split", "user_id", "target_item_id", "label", "history_item_ids", "history_liked", "profile_item_ids")
    assert [tuple(row[name] for name in names) for row in table.to_pylist()] == expected
    assert counts["windows"] == len(expected)
    assert counts["targets_per_user"] == most


FULL = [
    *(("u", item, 5, 1) for item in "abcd"),
    *(("u", f"t{n}", 5, 2 + n * 0.5) for n in range(12)),
    *(("new", item, 1, 6) for item in "vwxyz"),
]


def test_users_without_a_past_have_no_row_and_are_counted(make_dataset, tmp_path):
    dataset = make_dataset(cut_dates=CUTS, targets_per_user=3)
    reader, counts = windows.build(dataset, _write(dataset, FULL, tmp_path / "i.parquet"))
    assert set(reader.read_all()["user_id"].to_pylist()) == {"u"}
    assert (counts["targets_without_history"], counts["targets_over_limit"], counts["windows"]) == (5, 3, 9)
    written = {"generation_empty": 1.0, "generation_failed": 2.0}
    figures = dict.fromkeys(("item_descriptions", "user_profiles", "reasoning_labels"), written)
    figures |= {
        "cleaned_interactions": {"dropped_repeated_pair": 4},
        "items": {"items_without_title": 0},
        "interaction_windows": counts,
    }
    figures |= {key: {"history_lines_dropped": 0.0} for key in ("lora_model", "predictions")}
    said = left_out(figures)
    assert (said["targets_without_history"], said["targets_over_limit"], said["repeated_pair"]) == (5, 3, 4)


def test_a_split_without_rows_names_the_dates_that_the_data_has(make_dataset, tmp_path):
    dataset = make_dataset(cut_dates=(date(1970, 1, 3), date(1980, 1, 1), date(1980, 1, 2)))
    with pytest.raises(PermanentError, match=r"valid \(1980-01-01\), test .* between 1970-01-02 and 1970-01-08"):
        windows.build(dataset, _write(dataset, FULL, tmp_path / "i.parquet"))


def test_cut_dates_must_go_up(make_dataset):
    with pytest.raises(ValidationError, match="must go up"):
        make_dataset(cut_dates=(CUTS[1], CUTS[0], CUTS[2]))


def test_the_floors_count_nothing_that_happened_after_the_cut(make_dataset, tmp_path):
    dataset = make_dataset(cut_dates=CUTS)

    def rates(extra):
        interactions = _write(dataset, FULL + extra, tmp_path / "i.parquet")
        pq.write_table(windows.build(dataset, interactions)[0].read_all(), tmp_path / "w.parquet")
        table = window_features(tmp_path / "w.parquet", interactions, cut=dataset.cuts[0])
        return dict(zip(table["target_item_id"].to_pylist(), table["item_like_rate"].to_pylist(), strict=True))

    # users of one period only, so that they have no target and no rule about their own rows leaves them out
    after = [("later", item, 1, 7) for item in ("t0", "p", "q", "r")]
    before = [("early", item, 1, 1) for item in ("t0", "p", "q", "r")]
    assert rates(after) == rates([])
    assert rates(before)["t0"] < rates([])["t0"]
