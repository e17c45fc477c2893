"""What the catalogue file holds: tables, views and macros as SQL text, declared once, and the rows that a receipt becomes."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore
from reasoningrec_assets.lake.steps import COLUMN_FACTS, Lake
from reasoningrec_assets.sql import exact_path, literal

Row = tuple[Any, ...]

# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "4"


def _typed(declared: str) -> dict[str, str]:
    """Names and types of columns, the key first; a column without a type is a VARCHAR."""
    found = (column.partition(" ") for column in f"asset, partition, sequence BIGINT, {declared}".split(", "))
    return {name: kind or "VARCHAR" for name, _, kind in found}


# The tables that are filled from receipts. Times are in UTC: every client reads a TIMESTAMP, a TIMESTAMPTZ only with `icu`.
TABLES = {
    "materializations": _typed(
        "status, run_id, started_at TIMESTAMP, finished_at TIMESTAMP, seconds DOUBLE, code_version, fingerprint, data_version, "
        "kind, path, bytes BIGINT, row_count BIGINT, device, error, is_current BOOLEAN, receipt"
    ),
    "lineage_edges": _typed("data_version, upstream_asset, upstream_partition, upstream_data_version, upstream_sequence BIGINT"),
    "column_lineage": _typed("column_name, upstream_asset, upstream_column"),
    "columns": _typed("position BIGINT, name, type, nullable BOOLEAN, description"),
    "metadata": _typed("kind, name, value"),
    "metrics": _typed("name, value DOUBLE"),
    "artifacts": _typed("kind, name, reference, version"),
    "check_results": _typed(
        "check_name, passed BOOLEAN, severity, run_id, checked_at TIMESTAMP, data_version, metrics, details, receipt"
    ),
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
# nearer to it. Depth is bounded by the number of materializations: receipts edited into a circle shall not hang a query.
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
    *("seconds", "ok", "trimmed", "empty", "failed", "failed_share", "retried", "over_word_limit_share", "cost"),
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
    rows = f"SELECT asset, partition, sequence, {figures} FROM metrics WHERE starts_with(name, 'generation_') GROUP BY ALL"
    return "\n".join([*tables, _VIEWS, upstream, downstream, f"CREATE VIEW generation_statistics AS {rows};"])


def lake_view(files: list[str]) -> str:
    """The query of a view over Parquet files: all rows, columns matched by name."""
    paths = ", ".join(literal(exact_path(file)) for file in files)
    # a folder called `a=b` is a name here, not a column
    return f"SELECT * FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"


def rows_of(lake: Lake, relative: str) -> Iterator[tuple[str, Row]]:
    """Table names and rows, their values in the order of `TABLES`, that one receipt file stands for."""
    path = lake.receipts.root / relative
    if "/checks/" in relative and "check" in (raw := json.loads(path.read_text(encoding="utf-8"))):
        asset, partition, sequence, check = (raw[name] for name in ("asset", "partition", "sequence", "check"))
        facts = (raw["passed"], raw["severity"], raw["run_id"], _utc(raw["at"]), raw["data_version"])
        stated = f"{asset}/{partition}/checks/{check}/{sequence:08d}.json"
        rows = [("check_results", (check, *facts, canonical_json(raw["metrics"]), canonical_json(raw["details"]), relative))]
    else:
        receipt = ReceiptStore.read(path)
        asset, partition, sequence = receipt.asset, receipt.partition, receipt.sequence
        stated = f"{asset}/{partition}/{sequence:08d}.json"
        rows = _receipt_rows(lake, receipt, relative)
    if relative != stated:  # copied or edited by hand: every sync would insert its rows anew
        raise ValueError(f"it says that it is {stated}")
    for table, row in rows:
        yield table, (asset, partition, sequence, *row)


def _receipt_rows(lake: Lake, receipt: Receipt, relative: str) -> Iterator[tuple[str, Row]]:
    # joined as text: pathlib costs a tenth of a whole sync of ten thousand receipts
    path = f"{lake.root}/lake/{receipt.path}" if receipt.path is not None else None
    times = {"started_at": _utc(receipt.started_at), "finished_at": _utc(receipt.finished_at)}
    facts = {**vars(receipt), **times, "path": path, "is_current": False, "receipt": relative}
    yield "materializations", tuple(facts[name] for name in list(TABLES["materializations"])[3:])
    for edge in receipt.upstream:
        yield "lineage_edges", (receipt.data_version, edge.asset, edge.partition, edge.data_version, edge.sequence)
    for position, column in enumerate(receipt.columns):
        yield "columns", (position, *map(column.get, COLUMN_FACTS))
    for column, sources in receipt.column_lineage.items():
        for source in sources:
            yield "column_lineage", (column, source["asset"], source["column"])
    for kind, pairs in (("setting", _flat(receipt.settings)), ("detail", receipt.details.items())):
        for name, value in pairs:
            yield "metadata", (kind, name, value)
    for name, value in receipt.metrics.items():
        yield "metrics", (name, float(value))
    if receipt.kind != "table" and path is not None:
        yield "artifacts", (receipt.kind, receipt.asset, path, receipt.data_version)
    for model in receipt.models:
        yield "artifacts", ("model_used", model.get("role"), model.get("reference"), model.get("revision"))
    for name, digest in receipt.prompts.items():
        yield "artifacts", ("prompt", name, None, digest)


def _utc(text: str) -> datetime:
    """A recorded time in UTC, without its offset."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names, so that one setting of two runs is compared with one condition."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else canonical_json(value)
