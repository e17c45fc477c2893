"""What the catalogue file holds: tables, views and macros, declared once.

What belongs here: names, types and SQL text. What doesn't: running any of it. Only types that every DuckDB client
reads without an extension are used, which is why times are TIMESTAMP in UTC: showing a TIMESTAMPTZ needs `icu`.
"""

from __future__ import annotations

from datetime import datetime

# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "2"

_DECLARED = {
    "materializations": "status VARCHAR, run_id VARCHAR, started_at TIMESTAMP, finished_at TIMESTAMP, seconds DOUBLE, "
    "code_version VARCHAR, fingerprint VARCHAR, data_version VARCHAR, kind VARCHAR, path VARCHAR, bytes BIGINT, "
    "row_count BIGINT, device VARCHAR, error VARCHAR, is_current BOOLEAN, receipt VARCHAR",
    "lineage_edges": "data_version VARCHAR, upstream_asset VARCHAR, upstream_partition VARCHAR, "
    "upstream_data_version VARCHAR, upstream_sequence BIGINT",
    "column_lineage": "column_name VARCHAR, upstream_asset VARCHAR, upstream_column VARCHAR",
    "columns": "position BIGINT, name VARCHAR, type VARCHAR, nullable BOOLEAN, description VARCHAR",
    "metadata": "kind VARCHAR, name VARCHAR, value VARCHAR",
    "metrics": "name VARCHAR, value DOUBLE",
    "artifacts": "kind VARCHAR, name VARCHAR, reference VARCHAR, version VARCHAR",
    "check_results": "check_name VARCHAR, passed BOOLEAN, severity VARCHAR, run_id VARCHAR, checked_at TIMESTAMP, "
    "data_version VARCHAR, metrics VARCHAR, details VARCHAR, receipt VARCHAR",
}

# Tables that are filled from receipts: the names and types of their columns, the key first.
TABLES: dict[str, dict[str, str]] = {
    table: dict(column.split() for column in f"asset VARCHAR, partition VARCHAR, sequence BIGINT, {columns}".split(", "))
    for table, columns in _DECLARED.items()
}

# What a value of a column may be in Python, besides None; compared exactly, since a bool is an int to `isinstance`.
PYTHON_TYPES = {"VARCHAR": {str}, "BIGINT": {int}, "DOUBLE": {float, int}, "BOOLEAN": {bool}, "TIMESTAMP": {datetime}}

# A run failed when the last attempt at any of its assets failed: a retry that succeeded makes it good again.
_VIEWS = """
CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
CREATE TABLE lake_views (name VARCHAR, definition VARCHAR);
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

# The walk starts at what is current, or at the last failure where nothing ever succeeded; `via` are the assets one step
# nearer to it. Depth is bounded by the number of materializations: receipts cannot form a circle, edited ones shall not
# hang a query.
_LINEAGE = """
CREATE MACRO {name}(of_asset, of_partition) AS TABLE
WITH RECURSIVE walk AS (
    SELECT 0 AS depth, asset, partition, data_version, sequence, NULL::VARCHAR AS via
    FROM materializations WHERE asset = of_asset AND partition = of_partition
    QUALIFY row_number() OVER (ORDER BY is_current DESC, sequence DESC) = 1
    UNION
    SELECT w.depth + 1, {reached}, w.asset FROM walk w JOIN lineage_edges e ON {joined}
    WHERE w.depth < (SELECT count(*) FROM materializations)
)
SELECT min(w.depth) AS depth, w.asset, w.partition, w.data_version, w.sequence,
       coalesce(bool_or(c.data_version = w.data_version), false) AS is_current,
       string_agg(DISTINCT w.via, ', ' ORDER BY w.via) AS via
FROM walk w LEFT JOIN current_materializations c ON c.asset = w.asset AND c.partition = w.partition
GROUP BY w.asset, w.partition, w.data_version, w.sequence ORDER BY depth, w.asset, w.partition, w.sequence;
"""

# What a step that generates text leaves among its metrics as `generation_<name>`: the columns of `generation_statistics`.
GENERATION_METRICS = (
    *("requests", "different_requests", "cache_hits", "calls", "prompt_tokens", "completion_tokens", "tokens_per_second"),
    *("seconds", "ok", "trimmed", "empty", "failed"),
)

# Tables that several assets write: one view over all of them, told apart by a column of the table.
SHARED_VIEWS = ("predictions", "evaluation_metrics")


def creation_script() -> str:
    """The statements that make an empty catalogue."""
    tables = [f"CREATE TABLE {name} ({', '.join(map(' '.join, columns.items()))});" for name, columns in TABLES.items()]
    # upstream follows the sequence numbers that were really read: it tells the truth after an upstream was made again
    upstream = _LINEAGE.format(
        name="lineage_upstream",
        reached="e.upstream_asset, e.upstream_partition, e.upstream_data_version, e.upstream_sequence",
        joined="(e.asset, e.partition, e.sequence) = (w.asset, w.partition, w.sequence)",
    )
    # downstream follows the content: a step that was reused after a forced, identical rebuild still stands on it
    downstream = _LINEAGE.format(
        name="lineage_downstream",
        reached="e.asset, e.partition, e.data_version, e.sequence",
        joined="(e.upstream_asset, e.upstream_partition, e.upstream_data_version) = (w.asset, w.partition, w.data_version)"
        " AND e.data_version IS NOT NULL",
    )
    figures = ", ".join(f"max(value) FILTER (name = 'generation_{name}') AS {name}" for name in GENERATION_METRICS)
    generation = (
        f"CREATE VIEW generation_statistics AS SELECT asset, partition, sequence, {figures}"
        " FROM metrics WHERE starts_with(name, 'generation_') GROUP BY ALL;"
    )
    return "\n".join([*tables, _VIEWS, upstream, downstream, generation])


def lake_view(files: list[str]) -> str:
    """The query of a view over Parquet files: all rows, columns matched by name."""
    # a path is a pattern to read_parquet: brackets, stars and question marks stand for themselves inside brackets
    exact = ["".join(f"[{char}]" if char in "[*?" else char for char in file).replace("'", "''") for file in files]
    paths = ", ".join(f"'{path}'" for path in exact)
    # a folder called `a=b` is a name here, not a column
    return f"SELECT * FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
