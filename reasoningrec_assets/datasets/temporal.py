"""Global-temporal windows: what a model trained on a day could know, and what happened after it. `windows` chooses the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.datasets.cleaning import user_ranges
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import execute, query, stream

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_TARGETS_SQL = """
CREATE TABLE targets AS
WITH splits(split, start, stop) AS (VALUES ('train', $train, $valid), ('valid', $valid, $test), ('test', $test, NULL)),
later AS (
    SELECT splits.*, events.* FROM read_parquet($interactions) AS events
    JOIN splits ON "timestamp" >= start AND ("timestamp" < stop OR stop IS NULL)
    -- with repeated pairs kept, the first time after the cut counts
    QUALIFY row_number() OVER (PARTITION BY split, user_id, item_id ORDER BY position) = 1
)
SELECT *, row_number() OVER (PARTITION BY split, user_id ORDER BY position) AS place FROM later;

CREATE TABLE pasts (split VARCHAR, user_id VARCHAR, item_ids VARCHAR[], liked BOOLEAN[]);
CREATE TABLE heads (user_id VARCHAR, item_ids VARCHAR[], liked BOOLEAN[])
"""
_PASTS_SQL = """
INSERT INTO pasts
WITH wanted AS (SELECT DISTINCT split, start, user_id FROM targets WHERE user_id BETWEEN $first AND $last),
shown AS (
    SELECT split, events.* FROM read_parquet($interactions) AS events
    JOIN wanted ON events.user_id = wanted.user_id AND "timestamp" < start
    WHERE events.user_id BETWEEN $first AND $last
    QUALIFY row_number() OVER (PARTITION BY split, events.user_id ORDER BY position DESC) <= $history
)
SELECT split, user_id, list(item_id ORDER BY position), list(liked ORDER BY position) FROM shown GROUP BY split, user_id;

INSERT INTO heads
SELECT user_id, list(item_id ORDER BY position), list(liked ORDER BY position) FROM read_parquet($interactions) AS events
SEMI JOIN targets ON events.user_id = targets.user_id
ANTI JOIN targets ON events.user_id = targets.user_id AND events.item_id = targets.item_id
WHERE "timestamp" < $train AND position < $profile AND user_id BETWEEN $first AND $last GROUP BY user_id
"""
_CHOSEN_SQL = """
CREATE TABLE chosen AS
SELECT targets.*, pasts.item_ids AS history_item_ids, pasts.liked AS history_liked,
    coalesce(heads.item_ids, []) AS profile_item_ids, coalesce(heads.liked, []) AS profile_liked
FROM targets JOIN pasts USING (split, user_id) LEFT JOIN heads USING (user_id) WHERE place <= $most
"""
_COUNTS_SQL = """
SELECT count(DISTINCT user_id) AS users, count(*) AS windows,
    (SELECT count(*) FROM targets ANTI JOIN pasts USING (split, user_id)) AS targets_without_history,
    (SELECT count(*) FROM targets SEMI JOIN pasts USING (split, user_id) WHERE place > $most) AS targets_over_limit,
    count(DISTINCT user_id) FILTER (len(profile_item_ids) = 0) AS users_without_profile_items,
    count(*) FILTER (len(history_item_ids) < $history) AS windows_with_short_history,
    count(*) FILTER (split = 'train') AS train, count(*) FILTER (split = 'valid') AS valid, count(*) FILTER (split = 'test') AS test,
    count(*) FILTER (split = 'train' AND liked) AS train_liked, count(*) FILTER (split = 'valid' AND liked) AS valid_liked,
    count(*) FILTER (split = 'test' AND liked) AS test_liked
FROM chosen
"""
_WINDOWS_SQL = """
SELECT $dataset AS dataset, split, user_id, item_id AS target_item_id, rating AS target_rating, liked AS label,
    "timestamp" AS target_time, history_item_ids, history_liked, profile_item_ids, profile_liked
FROM chosen ORDER BY start, user_id, position
"""


def build(
    dataset: Dataset, interactions: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[pa.RecordBatchReader, dict[str, int]]:
    """Windows at the dataset's three cuts, sorted by split, user id and time, to be read once; and counts.

    Each split is what happened from its cut to the next one; its rows see the user as the cut found them::

        events    h h h | T T . . | T T T | T ->        each T of a split has the H events before the split's cut
                      train     valid   test

    So no row knows an event of its own split, a user's rows of one split share one history, and a user without an event
    before the cut has no row. Profile items are the first ``profile_items`` before the train cut that are no target.
    PermanentError where a split has no row.
    """
    train, valid, test = dataset.cuts
    bounds = {"train": train, "valid": valid, "test": test, "history": dataset.history_length, "interactions": interactions}
    bounds |= {"profile": dataset.profile_items, "most": dataset.targets_per_user}
    execute(_TARGETS_SQL, on=connection, **bounds)
    for users in user_ranges(interactions, connection):
        execute(_PASTS_SQL, on=connection, **bounds, **users)
    execute(_CHOSEN_SQL, on=connection, **bounds)
    counts = query(_COUNTS_SQL, on=connection, **bounds).to_pylist()[0]
    days = zip(("train", "valid", "test"), dataset.cut_dates or (), strict=True)
    if empty := [f"{split} ({day})" for split, day in days if not counts[split]]:
        sql = 'SELECT to_timestamp(min("timestamp"))::DATE AS first, to_timestamp(max("timestamp"))::DATE AS last FROM read_parquet($path)'
        first, last = query(sql, path=interactions).to_pylist()[0].values()
        raise PermanentError(
            "cut the windows by time",
            where=f"dataset {dataset.name}, split {', '.join(empty)}",
            problem="no user has an event from its day on and another before it",
            remedy=f"Set cut_dates between {first} and {last}, where the data begins and ends, with users on both sides",
        )
    return stream(_WINDOWS_SQL, on=connection, dataset=dataset.name), counts
