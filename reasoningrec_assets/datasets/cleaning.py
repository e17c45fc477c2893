"""From raw events to each user's sequence: which rows and users stay, by reason. `adapters` read, `windows` cut it up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reasoningrec_assets.datasets.adapters import amazon, movielens, tables
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import CLEANING_REPORT
from reasoningrec_assets.sql import connect, execute, query, stream

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Three targets, and at least one item of history before the first of them.
MIN_SEQUENCE = 4
_Adapter = Callable[[Dataset], Any]
ADAPTERS: dict[str, _Adapter] = {"movielens": lambda _: movielens, "amazon": lambda _: amazon, "tables": tables.adapter}

# The rows of repeated pairs that the rule gives up. Only pairs that do repeat are ranked: ranking all rows sorts the whole file.
_REPEATS_SQL = """
CREATE TABLE repeats AS
WITH pairs AS (SELECT user_id, item_id FROM events GROUP BY ALL HAVING count(*) > 1)
SELECT row FROM events SEMI JOIN pairs USING (user_id, item_id) WHERE {rule}
QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY "timestamp" {order}, row {order}) > 1
"""
# The sample is drawn by a hash of seed and id: any engine draws the same users, and one more user changes at most one place.
_USERS_SQL = """
CREATE TABLE users AS
WITH sizes AS (
    -- a sum, because an exclusive or would cancel rows that stand twice
    SELECT user_id, count(*) AS raw, count(repeated) AS given_up,
        sum(hash(item_id, rating, "timestamp")::HUGEINT) FILTER (repeated IS NULL) AS content
    FROM events LEFT JOIN (SELECT row, row AS repeated FROM repeats) USING (row) GROUP BY user_id
), judged AS (
    SELECT *, CASE WHEN raw < $fewest THEN 'below_min' WHEN raw - given_up < $shortest THEN 'short' ELSE 'kept' END AS verdict
    FROM sizes
), compared AS (
    SELECT * EXCLUDE (verdict), verdict = 'kept' AND count(*) OVER same > 1 AS has_twin,
        CASE WHEN $one AND verdict = 'kept' AND row_number() OVER (same ORDER BY user_id) > 1 THEN 'twin' ELSE verdict END AS verdict
    FROM judged WINDOW same AS (PARTITION BY verdict, raw - given_up, content)
), drawn AS (
    SELECT *, row_number() OVER (PARTITION BY verdict ORDER BY md5($seed || ':' || user_id), user_id) AS draw FROM compared
)
SELECT user_id, raw, given_up, has_twin, CASE WHEN verdict = 'kept' AND draw > $sample THEN 'not_sampled' ELSE verdict END AS fate
FROM drawn
"""
_COUNTS_SQL = """
SELECT
    coalesce(sum(raw), 0)::BIGINT AS rows_in, coalesce(sum(raw - given_up) FILTER (fate = 'kept'), 0)::BIGINT AS rows_out,
    count(*) AS users_in, count(*) FILTER (fate = 'kept') AS users_out,
    (SELECT count(DISTINCT item_id) FROM events SEMI JOIN (FROM users WHERE fate = 'kept') USING (user_id)) AS items_out,
    coalesce(sum(raw) FILTER (fate = 'below_min'), 0)::BIGINT AS dropped_user_below_min_ratings,
    coalesce(sum(given_up) FILTER (fate <> 'below_min'), 0)::BIGINT AS dropped_repeated_pair,
    coalesce(sum(raw - given_up) FILTER (fate = 'short'), 0)::BIGINT AS dropped_user_below_four_rows,
    coalesce(sum(raw - given_up) FILTER (fate = 'twin'), 0)::BIGINT AS dropped_identical_sequence,
    coalesce(sum(raw - given_up) FILTER (fate = 'not_sampled'), 0)::BIGINT AS dropped_not_sampled,
    count(*) FILTER (has_twin) AS users_with_identical_sequence
FROM users
"""
# One sort gives both the order and the positions: what stands before a user's first row is what the users before it kept.
_SEQUENCES_SQL = """
WITH kept AS (
    SELECT user_id, sum(raw - given_up) OVER (ORDER BY user_id) - (raw - given_up) AS before FROM users WHERE fate = 'kept'
), sorted AS (
    SELECT user_id, item_id, rating, "timestamp", before FROM events JOIN kept USING (user_id) ANTI JOIN repeats USING (row)
    ORDER BY user_id, "timestamp", row
)
SELECT $dataset AS dataset, user_id, item_id, rating, coalesce(rating >= $least, rating > $above) AS liked, "timestamp",
    row_number() OVER () - 1 - before AS position
FROM sorted
"""
# Of several raw rows for one item the first counts.
_COPIES_SQL = """
CREATE TABLE rated AS SELECT DISTINCT item_id FROM read_parquet($interactions);
CREATE VIEW copies AS
SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY row) AS copy FROM raw_items SEMI JOIN rated USING (item_id)
"""
_ITEMS_SQL = """
SELECT $dataset AS dataset, item_id, coalesce(title, item_id) AS title, brand, price, coalesce(genres, []) AS genres, year,
    title IS NULL AS untitled
FROM rated LEFT JOIN (FROM copies WHERE copy = 1) USING (item_id) ORDER BY item_id
"""
# What that does, as an adapter's RULES do: by rule, the column it is about, the rows that it meets and its effect.
_ITEM_RULES = {
    "row_of_no_rated_item": ("item_id", "raw_items ANTI JOIN rated USING (item_id)", "the row is left out"),
    "row_repeated": ("item_id", "copies WHERE copy > 1", "the row is left out: an item's first one counts"),
    "item_without_title": ("item_id", "copies WHERE copy = 1 AND title IS NULL", "the item's id is its title"),
    "item_without_row": ("item_id", "rated ANTI JOIN raw_items USING (item_id)", "the item's id is its title"),
}
_MET_SQL = "SELECT count(*) AS rows, coalesce(min(DISTINCT left({column}, 120), 3), []) AS examples FROM {source}"


def clean(
    dataset: Dataset,
    files: Mapping[str, Path],
    *,
    repeated_pairs: Literal["last", "first", "keep"] = "last",
    threads: int | None = None,
    temp_directory: Path | None = None,
) -> "tuple[pa.RecordBatchReader, dict[str, int]]":
    """Filter users on raw rows, resolve repeated pairs, drop short sequences, sample users, number the positions.

    ``repeated_pairs`` says which row of a repeated (user, item) pair stays: with ``keep``, a target can stand in its own
    history with its label, which is the leak that the published code has. The result does not depend on ``threads``.

    Returns the rows of ``cleaned_interactions``, sorted by user id (as text) and position, to be read once; and counts, of
    which the five ``dropped_<reason>`` add up to rows_in - rows_out. PermanentError where the file that holds the ratings
    breaks its layout, or no user is left.
    """
    connection = connect(threads=threads, temp_directory=temp_directory)
    ADAPTERS[dataset.adapter](dataset).load_ratings(connection, files)
    rule, order = {"last": ("true", "DESC"), "first": ("true", "ASC"), "keep": ("false", "ASC")}[repeated_pairs]
    connection.execute(_REPEATS_SQL.format(rule=rule, order=order))
    limits = {"fewest": dataset.min_ratings, "shortest": MIN_SEQUENCE, "sample": dataset.sample_users or 2**62}
    connection.execute(_USERS_SQL, {**limits, "one": dataset.one_user_per_sequence, "seed": str(dataset.sample_seed)})
    counts = query(_COUNTS_SQL, on=connection).to_pylist()[0]
    if not counts["users_out"]:
        most, longest = query("SELECT max(raw), max(raw - given_up) FROM users", on=connection).to_pylist()[0].values()
        raise PermanentError(
            "clean the interactions",
            where=f"dataset {dataset.name}, {', '.join(map(str, files.values()))}",
            problem=f"no user has the {dataset.min_ratings} ratings that min_ratings asks for, and the {MIN_SEQUENCE} rows that"
            f" three targets and a history need; the most that any user has is {most}, the longest sequence has {longest}",
            remedy="Lower min_ratings in the dataset's record, or use a file with longer histories",
        )
    liked = {"least": dataset.liked_at_least, "above": dataset.liked_above}
    return stream(_SEQUENCES_SQL, on=connection, dataset=dataset.name, **liked), counts


def read_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> "tuple[pa.Table, dict[str, int]]":
    """One row of ``items`` per item that ``interactions`` (`cleaned_interactions`) names, sorted by item id; and counts.

    Of several raw rows for one item the first in the file counts; the title of an item without one is its id. The role
    ``items`` (MovieLens) or ``metadata`` (Amazon) is read; PermanentError where the file breaks its layout.
    """
    connection = _load_items(dataset, files, interactions)
    found = query(_ITEMS_SQL, on=connection, dataset=dataset.name)
    counts = {"items": found.num_rows, "items_without_title": sum(found["untitled"].to_pylist())}
    return found.drop_columns("untitled"), counts


def report(dataset: Dataset, files: Mapping[str, Path], interactions: Path, counts: Mapping[str, float]) -> "pa.Table":
    """The rows of ``cleaning_report``: each rule of `clean`, which left the ``counts``, of the adapter, and of `read_items`."""
    import pyarrow as pa

    connection = _load_items(dataset, files, interactions)
    dropped = {name.removeprefix("dropped_"): rows for name, rows in counts.items() if name.startswith("dropped_")}
    rows = [{"rule": rule, "what": "the rating is left out", "rows": int(n), "examples": []} for rule, n in dropped.items()]
    for rule, (column, source, effect) in (getattr(ADAPTERS[dataset.adapter](dataset), "RULES", {}) | _ITEM_RULES).items():
        met = query(_MET_SQL.format(column=column, source=source), on=connection).to_pylist()[0]
        rows.append({"rule": rule, "what": effect, **met})
    return pa.Table.from_pylist([{"dataset": dataset.name, **row} for row in rows], schema=CLEANING_REPORT.arrow())


def _load_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> "duckdb.DuckDBPyConnection":
    """A connection with ``raw_items``, the items ``rated`` in the interactions, and the raw rows of these, ``copies``."""
    connection = connect()
    ADAPTERS[dataset.adapter](dataset).load_items(connection, files)
    execute(_COPIES_SQL, on=connection, interactions=interactions)
    return connection
