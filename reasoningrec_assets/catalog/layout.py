"""What the catalogue file holds: tables, views and macros, declared once.

What belongs here: names, types and SQL text. What doesn't: running any of it. Only types that every DuckDB client
reads without an extension are used, which is why times are TIMESTAMP in UTC: showing a TIMESTAMPTZ needs `icu`.
"""

from __future__ import annotations

from datetime import datetime

# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "1"

_KEY = {"asset": "VARCHAR", "partition": "VARCHAR", "sequence": "BIGINT"}

# Tables that are filled from receipts; rows go in by column name.
TABLES: dict[str, dict[str, str]] = {
    "materializations": {
        **_KEY,
        "status": "VARCHAR",
        "run_id": "VARCHAR",
        "started_at": "TIMESTAMP",
        "finished_at": "TIMESTAMP",
        "seconds": "DOUBLE",
        "code_version": "VARCHAR",
        "fingerprint": "VARCHAR",
        "data_version": "VARCHAR",
        "kind": "VARCHAR",
        "path": "VARCHAR",
        "bytes": "BIGINT",
        "row_count": "BIGINT",
        "device": "VARCHAR",
        "error": "VARCHAR",
        "is_current": "BOOLEAN",
        "receipt": "VARCHAR",
    },
    "lineage_edges": {
        **_KEY,
        "data_version": "VARCHAR",
        "upstream_asset": "VARCHAR",
        "upstream_partition": "VARCHAR",
        "upstream_data_version": "VARCHAR",
        "upstream_sequence": "BIGINT",
    },
    "column_lineage": {**_KEY, "column_name": "VARCHAR", "upstream_asset": "VARCHAR", "upstream_column": "VARCHAR"},
    "columns": {
        **_KEY,
        "position": "BIGINT",
        "name": "VARCHAR",
        "type": "VARCHAR",
        "nullable": "BOOLEAN",
        "description": "VARCHAR",
    },
    "metadata": {**_KEY, "kind": "VARCHAR", "name": "VARCHAR", "value": "VARCHAR"},
    "metrics": {**_KEY, "name": "VARCHAR", "value": "DOUBLE"},
    "artifacts": {**_KEY, "kind": "VARCHAR", "name": "VARCHAR", "reference": "VARCHAR", "version": "VARCHAR"},
    "check_results": {
        **_KEY,
        "check_name": "VARCHAR",
        "passed": "BOOLEAN",
        "severity": "VARCHAR",
        "run_id": "VARCHAR",
        "checked_at": "TIMESTAMP",
        "data_version": "VARCHAR",
        "metrics": "VARCHAR",
        "details": "VARCHAR",
        "receipt": "VARCHAR",
    },
}

# What a value of a column may be in Python; compared exactly, since a bool is an int to `isinstance`.
PYTHON_TYPES: dict[str, set[type]] = {
    "VARCHAR": {str, type(None)},
    "BIGINT": {int, type(None)},
    "DOUBLE": {float, int, type(None)},
    "BOOLEAN": {bool, type(None)},
    "TIMESTAMP": {datetime, type(None)},
}

# Tables whose rows belong to a materialization, and go when its receipt goes.
DETAIL_TABLES = tuple(name for name in TABLES if name not in {"materializations", "check_results"})

_CATALOG_TABLES = """
CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
CREATE TABLE lake_views (name VARCHAR, definition VARCHAR);
"""

# A run failed when the last attempt at any of its assets failed: a retry that succeeded makes it good again.
_VIEWS = """
CREATE VIEW current_materializations AS SELECT * FROM materializations WHERE is_current;
CREATE VIEW runs AS
WITH attempts AS (
    SELECT run_id, asset, partition, min(started_at) AS started_at, max(finished_at) AS finished_at,
           arg_max(status, sequence) AS status
    FROM materializations GROUP BY run_id, asset, partition
)
SELECT run_id, min(started_at) AS started_at, max(finished_at) AS finished_at,
       CASE WHEN bool_or(status = 'failed') THEN 'failed' ELSE 'success' END AS status, count(*) AS assets
FROM attempts GROUP BY run_id;
"""

# Upstream follows the sequence numbers that were really read, so it tells the truth after an upstream was made again.
# Downstream follows the content: a step that was reused after a forced, identical rebuild still stands on it.
# Depth is bounded by the number of materializations: receipts cannot form a circle, edited ones shall not hang a query.
_MACROS = """
CREATE MACRO lineage_upstream(of_asset, of_partition) AS TABLE
WITH RECURSIVE walk AS (
    SELECT 0 AS depth, asset, partition, data_version, sequence
    FROM current_materializations WHERE asset = of_asset AND partition = of_partition
    UNION
    SELECT w.depth + 1, e.upstream_asset, e.upstream_partition, e.upstream_data_version, e.upstream_sequence
    FROM walk w JOIN lineage_edges e ON e.asset = w.asset AND e.partition = w.partition AND e.sequence = w.sequence
    WHERE w.depth < (SELECT count(*) FROM materializations)
)
SELECT min(w.depth) AS depth, w.asset, w.partition, w.data_version, w.sequence,
       coalesce(bool_or(c.data_version = w.data_version), false) AS is_current
FROM walk w LEFT JOIN current_materializations c ON c.asset = w.asset AND c.partition = w.partition
GROUP BY w.asset, w.partition, w.data_version, w.sequence ORDER BY depth, w.asset, w.partition, w.sequence;

CREATE MACRO lineage_downstream(of_asset, of_partition) AS TABLE
WITH RECURSIVE walk AS (
    SELECT 0 AS depth, asset, partition, data_version, sequence
    FROM current_materializations WHERE asset = of_asset AND partition = of_partition
    UNION
    SELECT w.depth + 1, e.asset, e.partition, e.data_version, e.sequence
    FROM walk w JOIN lineage_edges e
      ON e.upstream_asset = w.asset AND e.upstream_partition = w.partition AND e.upstream_data_version = w.data_version
    WHERE e.data_version IS NOT NULL AND w.depth < (SELECT count(*) FROM materializations)
)
SELECT min(w.depth) AS depth, w.asset, w.partition, w.data_version, w.sequence,
       coalesce(bool_or(c.data_version = w.data_version), false) AS is_current
FROM walk w LEFT JOIN current_materializations c ON c.asset = w.asset AND c.partition = w.partition
GROUP BY w.asset, w.partition, w.data_version, w.sequence ORDER BY depth, w.asset, w.partition, w.sequence;
"""

# Columns that `generation_statistics` always has, so that a query stands before the first text was generated.
GENERATION_METRICS = ("requests", "cache_hits", "failed", "prompt_tokens", "completion_tokens", "seconds")

# Tables that several assets write: one view over all of them, told apart by a column of the table.
SHARED_VIEWS = ("predictions", "evaluation_metrics")

RESERVED = frozenset({*TABLES, "catalog_info", "lake_views", "current_materializations", "runs", "generation_statistics"})


def creation_script() -> str:
    """The statements that make an empty catalogue."""
    tables = [
        f"CREATE TABLE {name} ({', '.join(f'{column} {type_}' for column, type_ in columns.items())});"
        for name, columns in TABLES.items()
    ]
    return "\n".join([*tables, _CATALOG_TABLES, _VIEWS, _MACROS])


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted for SQL; for view definitions alone, which cannot hold bound values."""
    return "'" + text.replace("'", "''") + "'"


def lake_view(files: list[str]) -> str:
    """The query of a view over Parquet files: all rows, columns matched by name."""
    # a path is a pattern to read_parquet: brackets, stars and question marks stand for themselves inside brackets
    paths = [literal("".join(f"[{char}]" if char in "[*?" else char for char in file)) for file in files]
    # a folder called `a=b` is a name here, not a column
    return f"SELECT * FROM read_parquet([{', '.join(paths)}], union_by_name = true, hive_partitioning = false)"


def generation_view(names: list[str]) -> str:
    """The query of `generation_statistics`: one row per materialization that generated, one column per figure.

    Args:
        names: Every metric name that starts with ``generation_``; the figures that are always shown may be missing.
    """
    suffixes = {name.removeprefix("generation_") for name in names if name != "generation_"}
    ordered = [*GENERATION_METRICS, *sorted(suffixes - set(GENERATION_METRICS) - {*_KEY})]
    figures = ", ".join(f"max(value) FILTER (name = {literal('generation_' + name)}) AS {identifier(name)}" for name in ordered)
    return f"SELECT asset, partition, sequence, {figures} FROM metrics WHERE starts_with(name, 'generation_') GROUP BY ALL"
