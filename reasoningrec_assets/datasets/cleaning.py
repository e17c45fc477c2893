"""From raw events to each user's sequence: filter, repeats, sample, order, all in SQL.

What belongs here: which rows and users stay, counted by reason. What doesn't: file layouts (`adapters`) and what is
cut out of a sequence (`windows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reasoningrec_assets.datasets.adapters import amazon, movielens
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import connect, query, stream

if TYPE_CHECKING:
    import pyarrow as pa

# Three targets, and at least one item of history before the first of them.
MIN_SEQUENCE = 4
_ADAPTERS = {"movielens": movielens, "amazon": amazon}

# The rows of repeated pairs that the rule gives up. Only the pairs that do repeat are ranked: a window over all rows
# would sort the whole file.
_REPEATS_SQL = """
CREATE TABLE repeats AS
WITH pairs AS (SELECT user_id, item_id FROM events GROUP BY ALL HAVING count(*) > 1)
SELECT row, user_id
FROM events SEMI JOIN pairs USING (user_id, item_id)
WHERE {rule}
QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY "timestamp" {order}, row {order}) > 1
"""
# The sample's order is a hash of seed and id, so that any engine draws the same users, and one more user changes at
# most one place.
_USERS_SQL = """
CREATE TABLE users AS
WITH sizes AS (
    SELECT user_id, raw, coalesce(given_up, 0) AS given_up
    FROM (SELECT user_id, count(*) AS raw FROM events GROUP BY user_id)
    LEFT JOIN (SELECT user_id, count(*) AS given_up FROM repeats GROUP BY user_id) USING (user_id)
), judged AS (
    SELECT *, CASE WHEN raw < $fewest THEN 'below_min' WHEN raw - given_up < $shortest THEN 'short' ELSE 'kept' END AS verdict FROM sizes
)
SELECT
    user_id, raw, given_up,
    CASE
        WHEN verdict = 'kept' AND row_number() OVER (PARTITION BY verdict ORDER BY md5($seed || ':' || user_id), user_id) > $sample
        THEN 'not_sampled' ELSE verdict
    END AS fate
FROM judged
"""
_COUNTS_SQL = """
SELECT
    coalesce(sum(raw), 0)::BIGINT AS rows_in,
    coalesce(sum(raw - given_up) FILTER (WHERE fate = 'kept'), 0)::BIGINT AS rows_out,
    count(*) AS users_in,
    count(*) FILTER (WHERE fate = 'kept') AS users_out,
    (SELECT count(DISTINCT item_id) FROM events SEMI JOIN (SELECT user_id FROM users WHERE fate = 'kept') USING (user_id)) AS items_out,
    coalesce(sum(raw) FILTER (WHERE fate = 'below_min'), 0)::BIGINT AS dropped_user_below_min_ratings,
    coalesce(sum(given_up) FILTER (WHERE fate <> 'below_min'), 0)::BIGINT AS dropped_repeated_pair,
    coalesce(sum(raw - given_up) FILTER (WHERE fate = 'short'), 0)::BIGINT AS dropped_user_below_four_rows,
    coalesce(sum(raw - given_up) FILTER (WHERE fate = 'not_sampled'), 0)::BIGINT AS dropped_not_sampled
FROM users
"""
_SEQUENCES_SQL = """
SELECT
    $dataset AS dataset, user_id, item_id, rating, coalesce(rating >= $least, rating > $above) AS liked, "timestamp",
    row_number() OVER (PARTITION BY user_id ORDER BY "timestamp", row) - 1 AS position
FROM events JOIN users USING (user_id) ANTI JOIN repeats USING (row)
WHERE fate = 'kept'
ORDER BY user_id, position
"""
_ITEMS_SQL = """
WITH rated AS (SELECT DISTINCT item_id FROM read_parquet($interactions)),
known AS (SELECT * FROM raw_items SEMI JOIN rated USING (item_id) QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY row) = 1)
SELECT
    $dataset AS dataset, item_id, coalesce(title, item_id) AS title, brand, price, coalesce(genres, []) AS genres, year,
    title IS NULL AS untitled
FROM rated LEFT JOIN known USING (item_id)
ORDER BY item_id
"""


def clean(
    dataset: Dataset,
    files: Mapping[str, Path],
    *,
    repeated_pairs: Literal["last", "first", "keep"] = "last",
    threads: int | None = None,
    temp_directory: Path | None = None,
) -> tuple[pa.RecordBatchReader, dict[str, int]]:
    """Filter users on raw rows, resolve repeated pairs, drop short sequences, sample users, number the positions.

    Args:
        dataset: The record with the filter, the like rule and the sample.
        files: Role -> raw file; the role ``ratings`` is read.
        repeated_pairs: Which row of a repeated (user, item) pair stays. With ``keep``, a target can stand in its own
            history with its label, which is the leak that the published code has.
        threads: DuckDB's threads; all cores by default. The result does not depend on it.
        temp_directory: Where DuckDB spills; the system's temporary folder by default.

    Returns:
        Rows of ``cleaned_interactions``, sorted by user id (as text) and position, to be read once; and counts: rows_in,
        rows_out, users_in, users_out, items_out, and the rows dropped by reason: dropped_user_below_min_ratings,
        dropped_repeated_pair, dropped_user_below_four_rows, dropped_not_sampled. The four add up to rows_in - rows_out.

    Raises:
        PermanentError: The file breaks its layout, or no user is left.
    """
    connection = connect(threads=threads, temp_directory=temp_directory)
    _ADAPTERS[dataset.adapter].load_ratings(connection, files)
    rule, order = {"last": ("true", "DESC"), "first": ("true", "ASC"), "keep": ("false", "ASC")}[repeated_pairs]
    connection.execute(_REPEATS_SQL.format(rule=rule, order=order))
    limits = {"fewest": dataset.min_ratings, "shortest": MIN_SEQUENCE, "sample": dataset.sample_users or 2**62}
    connection.execute(_USERS_SQL, {**limits, "seed": str(dataset.sample_seed)})
    counts = query(_COUNTS_SQL, on=connection).to_pylist()[0]
    if not counts["users_out"]:
        most, longest = query("SELECT max(raw), max(raw - given_up) FROM users", on=connection).to_pylist()[0].values()
        raise PermanentError(
            "clean the interactions",
            where=f"dataset {dataset.name}, {files['ratings']}",
            problem=f"no user has the {dataset.min_ratings} ratings that min_ratings asks for, and the {MIN_SEQUENCE} rows that three"
            f" targets and a history need; the most that any user has is {most}, the longest sequence has {longest}",
            remedy="Lower min_ratings in the dataset's record, or use a file with longer histories",
        )
    liked = {"least": dataset.liked_at_least, "above": dataset.liked_above}
    return stream(_SEQUENCES_SQL, on=connection, dataset=dataset.name, **liked), counts


def read_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> tuple[pa.Table, dict[str, int]]:
    """One row per item that ``interactions`` names, sorted by item id.

    Args:
        dataset: The record.
        files: Role -> raw file; the role ``items`` (MovieLens) or ``metadata`` (Amazon) is read.
        interactions: Parquet file of ``cleaned_interactions``.

    Returns:
        Rows of ``items``; of several raw rows for one item the first in the file counts. And counts: items, and of them
        items_without_title, whose title is their id.

    Raises:
        PermanentError: The file breaks its layout.
    """
    connection = connect()
    _ADAPTERS[dataset.adapter].load_items(connection, files)
    found = query(_ITEMS_SQL, on=connection, dataset=dataset.name, interactions=interactions)
    counts = {"items": found.num_rows, "items_without_title": sum(found["untitled"].to_pylist())}
    return found.drop_columns("untitled"), counts
