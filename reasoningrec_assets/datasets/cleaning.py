"""From raw events to each user's sequence: filter, repeats, sample, order, all in SQL.

What belongs here: which rows and users stay, counted by reason. What doesn't: file layouts (`adapters`) and what is
cut out of a sequence (`windows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reasoningrec_assets.datasets.adapters import amazon, movielens
from reasoningrec_assets.datasets.sql import connect, exact_path, one_row, stream
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import CLEANED_INTERACTIONS, ITEMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from reasoningrec_assets.datasets.registry import Dataset

RepeatedPairs = Literal["last", "first", "keep"]

# Three targets, and at least one item of history before the first of them.
MIN_SEQUENCE = 4
_ADAPTERS = {"movielens": movielens, "amazon": amazon}


@dataclass(frozen=True)
class Cleaned:
    """``cleaned_interactions`` as a stream to be read once, and what was dropped on the way.

    ``counts``: rows_in, rows_out, users_in, users_out, items_out, and the rows dropped by reason:
    dropped_user_below_min_ratings, dropped_repeated_pair, dropped_user_below_four_rows, dropped_not_sampled. The four add up
    to rows_in - rows_out.
    """

    interactions: pa.RecordBatchReader
    counts: dict[str, int]


@dataclass(frozen=True)
class Items:
    """``items``, and ``counts``: items, and of them items_without_title, whose title is their id."""

    table: pa.Table
    counts: dict[str, int]


def clean(
    dataset: Dataset,
    files: Mapping[str, Path],
    *,
    repeated_pairs: RepeatedPairs = "last",
    memory_limit: str = "2GB",
    threads: int | None = None,
    temp_directory: Path | None = None,
) -> Cleaned:
    """Filter users on raw rows, resolve repeated pairs, drop short sequences, sample users, number the positions.

    Args:
        dataset: The record with the filter, the like rule and the sample.
        files: Role -> raw file; the role ``ratings`` is read.
        repeated_pairs: Which row of a repeated (user, item) pair stays. With ``keep``, a target can stand in its own
            history with its label, which is the leak that the published code has.
        memory_limit: DuckDB's limit; beyond it, DuckDB spills to ``temp_directory``.
        threads: DuckDB's threads; all cores by default. The result does not depend on it.
        temp_directory: Where to spill; the system's temporary folder by default.

    Returns:
        Rows in the column order of ``cleaned_interactions``, sorted by user id (as text) and position.

    Raises:
        PermanentError: The file breaks its layout, or no user is left.
    """
    connection = connect(memory_limit=memory_limit, threads=threads, temp_directory=temp_directory)
    try:
        _ADAPTERS[dataset.adapter].load_ratings(connection, files)
        _rank_repeats(connection, repeated_pairs)
        _decide_users(connection, dataset)
        counts = _count(connection)
        _require_users(connection, dataset, files["ratings"])
        liked, bound = (
            ("rating >= ?", dataset.liked_at_least) if dataset.liked_at_least is not None else ("rating > ?", dataset.liked_above)
        )
        query = f"""
            SELECT
                ? AS dataset, user_id, item_id, rating, {liked} AS liked, "timestamp",
                row_number() OVER (PARTITION BY user_id ORDER BY "timestamp", row) - 1 AS position
            FROM events JOIN users USING (user_id) ANTI JOIN repeats USING (row)
            WHERE fate = 'kept'
            ORDER BY user_id, position
        """
        interactions = stream(connection, query, CLEANED_INTERACTIONS, params=[dataset.name, bound], close=True)
    except BaseException:
        connection.close()
        raise
    return Cleaned(interactions, counts)


def _rank_repeats(connection: duckdb.DuckDBPyConnection, rule: RepeatedPairs) -> None:
    """Table ``repeats`` (row, user_id): the rows of repeated pairs that the rule gives up.

    Only the pairs that do repeat are ranked: a window over all rows would sort the whole file.
    """
    order = {"last": "DESC", "first": "ASC", "keep": "ASC"}[rule]
    connection.execute(
        f"""
        CREATE TABLE repeats AS
        WITH pairs AS (SELECT user_id, item_id FROM events GROUP BY ALL HAVING count(*) > 1)
        SELECT row, user_id
        FROM events SEMI JOIN pairs USING (user_id, item_id)
        WHERE {"false" if rule == "keep" else "true"}
        QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY "timestamp" {order}, row {order}) > 1
        """
    )


def _decide_users(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    """Table ``users`` (user_id, raw, given_up, fate).

    The sample's order is a hash of seed and id, so that any engine draws the same users, and one more user changes at
    most one place.
    """
    connection.execute(
        """
        CREATE TABLE users AS
        WITH sizes AS (
            SELECT user_id, raw, coalesce(given_up, 0) AS given_up
            FROM (SELECT user_id, count(*) AS raw FROM events GROUP BY user_id)
            LEFT JOIN (SELECT user_id, count(*) AS given_up FROM repeats GROUP BY user_id) USING (user_id)
        ), judged AS (
            SELECT *, CASE WHEN raw < ? THEN 'below_min' WHEN raw - given_up < ? THEN 'short' ELSE 'kept' END AS verdict FROM sizes
        )
        SELECT
            user_id, raw, given_up,
            CASE
                WHEN verdict = 'kept' AND row_number() OVER (PARTITION BY verdict ORDER BY md5(? || ':' || user_id), user_id) > ? THEN 'not_sampled'
                ELSE verdict
            END AS fate
        FROM judged
        """,
        [dataset.min_ratings, MIN_SEQUENCE, str(dataset.sample_seed), dataset.sample_users or 2**62],
    )


def _count(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return one_row(
        connection,
        """
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
        """,
        [],
    )


def _require_users(connection: duckdb.DuckDBPyConnection, dataset: Dataset, path: Path) -> None:
    """Raise where nobody is left, with the number that would have let someone through."""
    query = "SELECT count(*) FILTER (WHERE fate = 'kept') AS kept, max(raw) AS most, max(raw - given_up) AS longest FROM users"
    found = one_row(connection, query, [])
    if found["kept"]:
        return
    if found["most"] < dataset.min_ratings:
        problem = f"no user has the {dataset.min_ratings} ratings that min_ratings asks for; the most that any user has is {found['most']}"
        remedy = "Lower min_ratings in the dataset's record, or use a file with longer histories"
    else:
        problem = f"no user has the {MIN_SEQUENCE} rows that three targets and a history need; the longest sequence has {found['longest']}"
        remedy = "Use a file with longer histories"
    raise PermanentError("clean the interactions", where=f"dataset {dataset.name}, {path}", problem=problem, remedy=remedy)


def read_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> Items:
    """One row per item that ``interactions`` names, sorted by item id.

    Args:
        dataset: The record.
        files: Role -> raw file; the role ``items`` (MovieLens) or ``metadata`` (Amazon) is read.
        interactions: Parquet file of ``cleaned_interactions``.

    Returns:
        The rows, and counts. Of several raw rows for one item the first in the file counts.

    Raises:
        PermanentError: The file breaks its layout.
    """
    connection = connect()
    try:
        _ADAPTERS[dataset.adapter].load_items(connection, files)
        query = """
            WITH rated AS (SELECT DISTINCT item_id FROM read_parquet(?)),
            known AS (SELECT * FROM raw_items SEMI JOIN rated USING (item_id) QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY row) = 1)
            SELECT
                ? AS dataset, item_id, coalesce(title, item_id) AS title, brand, price, coalesce(genres, []) AS genres, year
            FROM rated LEFT JOIN known USING (item_id)
            ORDER BY item_id
        """
        table = stream(connection, query, ITEMS, params=[exact_path(interactions), dataset.name], close=False).read_all()
        titled = one_row(
            connection,
            "SELECT count(*) AS items FROM (SELECT DISTINCT item_id FROM read_parquet(?)) SEMI JOIN"
            " (SELECT item_id FROM raw_items QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY row) = 1 AND title IS NOT NULL)"
            " USING (item_id)",
            [exact_path(interactions)],
        )["items"]
    finally:
        connection.close()
    return Items(table, {"items": table.num_rows, "items_without_title": table.num_rows - titled})
