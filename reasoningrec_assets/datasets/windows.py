"""Target, history and profile of each user's examples, cut from `cleaning`'s rows by one of two protocols."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reasoningrec_assets.datasets.cleaning import MIN_SEQUENCE
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import connect, execute, query, stream

if TYPE_CHECKING:
    import pyarrow as pa

# So many users are cut at once: DuckDB cannot spill the lists that it gathers of them.
USERS_AT_ONCE = 100_000
_USERS_SQL = """
CREATE TABLE users AS
SELECT user_id, count(*) AS n, (row_number() OVER (ORDER BY user_id) - 1) // $at_once AS part
FROM read_parquet($interactions) GROUP BY user_id
"""
_RANGES_SQL = "SELECT min(user_id) AS first, max(user_id) AS last FROM users GROUP BY part ORDER BY part"
_LEAVE_LAST_OUT_SQL = "SELECT *, ['train', 'valid', 'test'][4 - back] AS split FROM events WHERE back <= 3"
_TEMPORAL_SQL = """
SELECT *, CASE WHEN "timestamp" < $valid THEN 'train' WHEN "timestamp" < $test THEN 'valid' ELSE 'test' END AS split
FROM events WHERE "timestamp" >= $train
-- with repeated pairs kept, the first time after the cut counts
QUALIFY row_number() OVER (PARTITION BY split, user_id, item_id ORDER BY position) = 1
"""
# In both protocols a row knows what its user did before the first target of its split: the rows at positions below `seen`.
# The last `reach` rows are all of a user's that a target or a history can be, however long the sequence is.
_CUT_SQL = """
WITH events AS (
    SELECT events.*, (n - position)::BIGINT AS back FROM read_parquet($interactions) AS events JOIN users USING (user_id)
    WHERE user_id BETWEEN $first AND $last AND n >= $shortest AND (n - position <= $reach OR position < $profile)
), targets AS (
    SELECT *, min(position) OVER same AS seen, row_number() OVER (same ORDER BY position) AS place
    FROM ({targets}) WINDOW same AS (PARTITION BY split, user_id)
), pasts AS (
    SELECT split, user_id, list(item_id ORDER BY position) AS item_ids, list(liked ORDER BY position) AS liked
    FROM events JOIN (SELECT split, user_id, seen FROM targets WHERE place = 1) USING (user_id)
    WHERE position >= seen - $history AND position < seen GROUP BY split, user_id
), heads AS (
    SELECT user_id, list(item_id ORDER BY position) AS item_ids, list(liked ORDER BY position) AS liked
    FROM events ANTI JOIN targets USING (user_id, item_id)
    WHERE position < $profile AND back > $skip AND "timestamp" < $train GROUP BY user_id
)
SELECT targets.*, pasts.item_ids AS history_item_ids, pasts.liked AS history_liked,
    coalesce(heads.item_ids, []) AS profile_item_ids, coalesce(heads.liked, []) AS profile_liked
FROM targets LEFT JOIN pasts ON pasts.split = targets.split AND pasts.user_id = targets.user_id AND place <= $most
LEFT JOIN heads ON heads.user_id = targets.user_id AND place <= $most
"""
_COUNTS_SQL = """
SELECT count(DISTINCT user_id) AS users, count(*) AS windows,
    (SELECT count(*) FROM users WHERE n < $shortest) AS users_below_four_rows,
    (SELECT count(*) FROM cut WHERE seen = 0) AS targets_without_history,
    (SELECT count(*) FROM cut WHERE seen > 0 AND place > $most) AS targets_over_limit,
    count(DISTINCT user_id) FILTER (len(profile_item_ids) = 0) AS users_without_profile_items,
    count(*) FILTER (split = 'train' AND seen < $history) AS users_with_short_history,
    count(*) FILTER (seen < $history) AS windows_with_short_history,
    count(*) FILTER (split = 'train') AS train, count(*) FILTER (split = 'valid') AS valid, count(*) FILTER (split = 'test') AS test,
    count(*) FILTER (split = 'train' AND liked) AS train_liked, count(*) FILTER (split = 'valid' AND liked) AS valid_liked,
    count(*) FILTER (split = 'test' AND liked) AS test_liked
FROM cut WHERE seen > 0 AND place <= $most
"""
# Counts that say something under one protocol alone.
_LEAVE_LAST_OUT_COUNTS = {"users_below_four_rows", "users_with_short_history"}
_TEMPORAL_COUNTS = {"targets_without_history", "targets_over_limit", "windows_with_short_history", "train", "valid", "test"}
_WINDOWS_SQL = """
SELECT $dataset AS dataset, split, user_id, item_id AS target_item_id, rating AS target_rating, liked AS label,
    "timestamp" AS target_time, history_item_ids, history_liked, profile_item_ids, profile_liked
FROM cut WHERE seen > 0 AND place <= $most ORDER BY list_position(['train', 'valid', 'test'], split), user_id, position
"""
_DAYS_SQL = 'SELECT to_timestamp(min("timestamp"))::DATE, to_timestamp(max("timestamp"))::DATE FROM read_parquet($interactions)'


def build(
    dataset: Dataset, interactions: Path, temp_directory: Path | None = None
) -> "tuple[pa.RecordBatchReader, dict[str, int]]":
    """The windows of the dataset, sorted by split (train, valid, test), user id and time, to be read once; and counts.

    Leave-last-out (paper section 4): with s a user's items in time order and H the history length, the targets are s[-3]
    (train), s[-2] (valid) and s[-1] (test), each with the H items before it, or as many as there are::

        s       ... -7 -6 -5 -4 -3 -2 -1        H = 4
        train       [h  h  h  h] T
        valid          [h  h  h  h] T
        test              [h  h  h  h] T

    Profile items are the first ``min(profile_items, n - profile_skip_last)``, none where that is not positive.
    ``users_with_short_history`` have fewer than H items before the train target.

    Global-temporal, where the dataset has cut dates: each split is what happened from its cut to the next one, at most
    ``targets_per_user`` rows of a user; they see the user as the cut found them::

        events    h h h | T T . . | T T T | T ->        each T of a split has the H events before the split's cut
                      train     valid   test

    So no row knows an event of its own split, a user's rows of one split share one history, and a user without an event
    before the cut has no row. Profile items are the first ``profile_items`` before the train cut. PermanentError where a
    split has no row.

    Under both, a profile item is never an item that is one of the user's targets.
    """
    connection = connect(temp_directory=temp_directory)
    train, valid, test = dataset.cuts or (2**62,) * 3
    history, temporal = dataset.history_length, bool(dataset.cuts)
    values: dict[str, Any] = {"interactions": interactions, "shortest": MIN_SEQUENCE, "at_once": USERS_AT_ONCE}
    values |= {"train": train, "valid": valid, "test": test, "most": dataset.targets_per_user if temporal else 1}
    values |= {"profile": dataset.profile_items, "skip": 0 if temporal else dataset.profile_skip_last}
    values |= {"history": history, "reach": 2**62 if temporal else history + 3}
    execute(_USERS_SQL, on=connection, **values)
    sql = _CUT_SQL.format(targets=_TEMPORAL_SQL if temporal else _LEAVE_LAST_OUT_SQL)
    for number, users in enumerate(query(_RANGES_SQL, on=connection).to_pylist()):
        execute(f"{'INSERT INTO cut' if number else 'CREATE TABLE cut AS'} {sql}", on=connection, **values, **users)
    counts = query(_COUNTS_SQL, on=connection, **values).to_pylist()[0]
    days = zip(("train", "valid", "test"), dataset.cut_dates or (), strict=False)
    if empty := [f"{split} ({day})" for split, day in days if not counts[split]]:
        first, last = query(_DAYS_SQL, interactions=interactions).to_pylist()[0].values()
        raise PermanentError(
            "cut the windows by time",
            where=f"dataset {dataset.name}, split {', '.join(empty)}",
            problem="no user has an event from its day on and another before it",
            remedy=f"Set cut_dates between {first} and {last}, where the data begins and ends, with users on both sides",
        )
    other = _LEAVE_LAST_OUT_COUNTS if temporal else _TEMPORAL_COUNTS
    counts = {name: count for name, count in counts.items() if name not in other} | {"targets_per_user": values["most"]}
    return stream(_WINDOWS_SQL, on=connection, dataset=dataset.name, most=values["most"]), counts


def window_name(row: Mapping[str, Any]) -> str:
    """What names one row of ``interaction_windows``, and of every table that has one row for each: split, user and target."""
    return "/".join(quote(row[name], safe="") for name in ("split", "user_id", "target_item_id"))
