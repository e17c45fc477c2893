"""Target, history and profile of each user's examples, cut from `cleaning`'s rows by one of two protocols."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reasoningrec_assets.datasets.cleaning import MIN_SEQUENCE
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import Reader, connect, execute, query, statements, stream

# So many users are cut at once: DuckDB cannot spill the lists that it gathers of them.
USERS_AT_ONCE = 100_000
_SQL = statements(__file__)
# Counts that say something under one protocol alone.
_LEAVE_LAST_OUT_COUNTS = {"users_below_four_rows", "users_with_short_history"}
_TEMPORAL_COUNTS = {"targets_without_history", "targets_over_limit", "windows_with_short_history", "train", "valid", "test"}


def build(dataset: Dataset, interactions: Path, scratch: Path | None = None) -> tuple[Reader, dict[str, int]]:
    """The windows of the dataset, sorted by split (train, valid, test), user id and time, to be read once; and counts.

    Leave-last-out (paper section 4): with s a user's items in time order and H the history length, the targets are s[-3]
    (train), s[-2] (valid) and s[-1] (test), each with the H items before it, or as many as there are. Profile items are the
    first ``min(profile_items, n - profile_skip_last)``, none where that is not positive. ``users_with_short_history`` have
    fewer than H items before the train target.
    Global-temporal, where the dataset has cut dates: each split is what happened from its cut to the next one, at most
    ``targets_per_user`` rows of a user, each with the H events before the split's cut. So no row knows an event of its own
    split, a user's rows of one split share a history, and one without an event before the cut has no row. Profile items are
    the first ``profile_items`` before the train cut. PermanentError where a split has no row.

    Under both, a profile item is never an item that is one of the user's targets.
    """
    connection = connect(temp_directory=scratch)
    train, valid, test = dataset.cuts or (2**62,) * 3
    history, temporal = dataset.history_length, bool(dataset.cuts)
    values: dict[str, Any] = {"interactions": interactions, "shortest": MIN_SEQUENCE, "at_once": USERS_AT_ONCE}
    values |= {"train": train, "valid": valid, "test": test, "most": dataset.targets_per_user if temporal else 1}
    values |= {"profile": dataset.profile_items, "skip": 0 if temporal else dataset.profile_skip_last}
    values |= {"history": history, "reach": 2**62 if temporal else history + 3}
    execute(_SQL["users"], on=connection, **values)
    sql = _SQL["cut"].format(targets=_SQL["temporal" if temporal else "leave_last_out"])
    for number, users in enumerate(query(_SQL["ranges"], on=connection).to_pylist()):
        execute(f"{'INSERT INTO cut' if number else 'CREATE TABLE cut AS'} {sql}", on=connection, **values, **users)
    counts = query(_SQL["counts"], on=connection, **values).to_pylist()[0]
    days = zip(("train", "valid", "test"), dataset.cut_dates or (), strict=False)
    if empty := [f"{split} ({day})" for split, day in days if not counts[split]]:
        first, last = query(_SQL["days"], interactions=interactions).to_pylist()[0].values()
        where = f"dataset {dataset.name}, split {', '.join(empty)}"
        problem = "no user has an event from its day on and another before it"
        remedy = f"Set cut_dates between {first} and {last}, where the data begins and ends, with users on both sides"
        raise PermanentError("cut the windows by time", where=where, problem=problem, remedy=remedy)
    other = _LEAVE_LAST_OUT_COUNTS if temporal else _TEMPORAL_COUNTS
    counts = {name: count for name, count in counts.items() if name not in other} | {"targets_per_user": values["most"]}
    return stream(_SQL["windows"], on=connection, dataset=dataset.name, most=values["most"]), counts


def window_name(row: Mapping[str, Any]) -> str:
    """What names one row of ``interaction_windows``, and of every table that has one row for each: split, user and target."""
    return "/".join(quote(row[name], safe="") for name in ("split", "user_id", "target_item_id"))
