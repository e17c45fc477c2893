"""Target, history and profile of each user's examples: leave-last-out here, by dates in `temporal`; both from `cleaning`'s rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reasoningrec_assets.datasets import temporal
from reasoningrec_assets.datasets.cleaning import MIN_SEQUENCE, user_ranges
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.sql import connect, execute, query, stream

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Only the ends of each sequence are gathered: at most H + 3 + profile_items rows per user, however long it is.
_SEQUENCES_SQL = """
WITH events AS (
    SELECT user_id, position, {'item': item_id, 'liked': liked, 'rating': rating, 'time': "timestamp"} AS event
    FROM read_parquet($interactions) WHERE user_id BETWEEN $first AND $last
),
sizes AS (SELECT user_id, count(*) AS n FROM events GROUP BY user_id HAVING count(*) >= $shortest),
ends AS (
    SELECT user_id, any_value(n) AS n,
        list(event ORDER BY position) FILTER (WHERE position >= n - $history - 3) AS tail,
        list(event ORDER BY position) FILTER (WHERE position < least($profile, n - $skip)) AS head
    FROM events JOIN sizes USING (user_id)
    WHERE position >= n - $history - 3 OR position < least($profile, n - $skip)
    GROUP BY user_id
)
SELECT user_id, n, tail, list_filter(
    coalesce(head, []), lambda event: NOT list_contains(list_transform(tail[-3:], lambda target: target.item), event.item)
) AS head FROM ends
"""
_COUNTS_SQL = """
SELECT count(*) AS users, 3 * count(*) AS windows,
    (SELECT count(DISTINCT user_id) FROM read_parquet($interactions)) - count(*) AS users_below_four_rows,
    count(*) FILTER (len(head) = 0) AS users_without_profile_items,
    count(*) FILTER (n < $history + 3) AS users_with_short_history, count(*) FILTER (tail[-3].liked) AS train_liked,
    count(*) FILTER (tail[-2].liked) AS valid_liked, count(*) FILTER (tail[-1].liked) AS test_liked
FROM sequences
"""
_WINDOWS_SQL = """
WITH splits(split, back) AS (VALUES ('train', 3), ('valid', 2), ('test', 1)),
cut AS (
    SELECT split, back, user_id, head, tail[-back] AS target,
        tail[greatest(1, len(tail) - back - $history + 1) : len(tail) - back] AS history
    FROM sequences CROSS JOIN splits
)
SELECT $dataset AS dataset, split, user_id,
    target.item AS target_item_id, target.rating AS target_rating, target.liked AS label, target.time AS target_time,
    list_transform(history, lambda event: event.item) AS history_item_ids,
    list_transform(history, lambda event: event.liked) AS history_liked,
    list_transform(head, lambda event: event.item) AS profile_item_ids,
    list_transform(head, lambda event: event.liked) AS profile_liked
FROM cut ORDER BY back DESC, user_id
"""


def build(
    dataset: Dataset, interactions: Path, temp_directory: Path | None = None
) -> tuple[pa.RecordBatchReader, dict[str, int]]:
    """The windows of the dataset's protocol: `temporal` where it has cut dates, else leave-last-out; and counts."""
    protocol = temporal.build if dataset.cuts else leave_last_out
    reader, counts = protocol(dataset, interactions, connect(temp_directory=temp_directory))
    return reader, {**counts, "targets_per_user": dataset.targets_per_user if dataset.cuts else 1}


def leave_last_out(
    dataset: Dataset, interactions: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[pa.RecordBatchReader, dict[str, int]]:
    """Leave-last-out windows (paper section 4), sorted by split (train, valid, test) and user id, to be read once; and counts.

    With s a user's items in time order and H the history length, the targets are s[-3] (train), s[-2] (valid) and
    s[-1] (test), each with the H items before it, or as many as there are::

        s       ... -7 -6 -5 -4 -3 -2 -1        H = 4
        train       [h  h  h  h] T
        valid          [h  h  h  h] T
        test              [h  h  h  h] T

    Profile items are the first ``min(profile_items, n - profile_skip_last)``, none where that is not positive, and never an
    item that is one of the user's three targets. ``users_with_short_history`` have fewer than H items before the train target.
    """
    history = dataset.history_length
    lengths = {"history": history, "profile": dataset.profile_items, "skip": dataset.profile_skip_last, "shortest": MIN_SEQUENCE}
    for number, users in enumerate(user_ranges(interactions, connection)):
        verb = "INSERT INTO sequences" if number else "CREATE TABLE sequences AS"
        execute(f"{verb} {_SEQUENCES_SQL}", on=connection, interactions=interactions, **lengths, **users)
    counts = query(_COUNTS_SQL, on=connection, interactions=interactions, history=history).to_pylist()[0]
    return stream(_WINDOWS_SQL, on=connection, dataset=dataset.name, history=history), counts


def window_name(row: Mapping[str, Any]) -> str:
    """What names one row of ``interaction_windows``, and of every table that has one row for each: split, user and target."""
    return "/".join(quote(row[name], safe="") for name in ("split", "user_id", "target_item_id"))
