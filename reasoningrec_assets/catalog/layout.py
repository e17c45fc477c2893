"""What the catalogue file holds: tables, views and macros as SQL text, declared once, and the rows that a receipt becomes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.lake.receipts import CheckReceipt, Receipt, ReceiptStore, file_of
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets.sql import exact_path, literal

Row = tuple[Any, ...]

# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "4"

# Each table that is filled from receipts has their key too. Times are UTC: any client reads them without the extension `icu`.
_KEY = "asset VARCHAR, partition VARCHAR, sequence BIGINT"

# A run failed when the last attempt at any of its assets failed: a retry that succeeded makes it good again.
_TABLES = f"""
CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
CREATE TABLE lake_views (name VARCHAR, definition VARCHAR);
CREATE TABLE materializations ({_KEY}, status VARCHAR, run_id VARCHAR, started_at TIMESTAMP, finished_at TIMESTAMP,
    seconds DOUBLE, code_version VARCHAR, fingerprint VARCHAR, data_version VARCHAR, kind VARCHAR, path VARCHAR, bytes BIGINT,
    row_count BIGINT, device VARCHAR, error VARCHAR, is_current BOOLEAN, receipt VARCHAR);
CREATE TABLE lineage_edges ({_KEY}, data_version VARCHAR,
    upstream_asset VARCHAR, upstream_partition VARCHAR, upstream_data_version VARCHAR, upstream_sequence BIGINT);
CREATE TABLE column_lineage ({_KEY}, column_name VARCHAR, upstream_asset VARCHAR, upstream_column VARCHAR);
CREATE TABLE columns ({_KEY}, position BIGINT, name VARCHAR, type VARCHAR, nullable BOOLEAN, description VARCHAR);
CREATE TABLE metadata ({_KEY}, kind VARCHAR, name VARCHAR, value VARCHAR);
CREATE TABLE metrics ({_KEY}, name VARCHAR, value DOUBLE);
CREATE TABLE artifacts ({_KEY}, kind VARCHAR, name VARCHAR, reference VARCHAR, version VARCHAR);
CREATE TABLE check_results ({_KEY}, check_name VARCHAR, passed BOOLEAN, severity VARCHAR, run_id VARCHAR,
    checked_at TIMESTAMP, data_version VARCHAR, metrics VARCHAR, details VARCHAR, receipt VARCHAR);

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
    return "\n".join([_TABLES, upstream, downstream, f"CREATE VIEW generation_statistics AS {rows};"])


def lake_view(files: list[str]) -> str:
    """The query of a view over Parquet files: all rows, columns matched by name."""
    paths = ", ".join(literal(exact_path(file)) for file in files)
    # a folder called `a=b` is a name here, not a column
    return f"SELECT * FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"


def rows_of(lake: Lake, relative: str) -> Iterator[tuple[str, Row]]:
    """Table names and rows, their values in the order of the table's columns, that one receipt file stands for."""
    receipt = ReceiptStore.read(lake.receipts.root / relative)
    if relative != file_of(receipt):  # copied or edited by hand: every sync would insert its rows anew
        raise ValueError(f"it says that it is {file_of(receipt)}")
    rows = _check_rows(receipt, relative) if isinstance(receipt, CheckReceipt) else _receipt_rows(lake, receipt, relative)
    for table, row in rows:
        yield table, (receipt.asset, receipt.partition, receipt.sequence, *row)


def _check_rows(check: CheckReceipt, relative: str) -> Iterator[tuple[str, Row]]:
    facts = (check.check, check.passed, check.severity, check.run_id, _utc(check.at), check.data_version)
    yield "check_results", (*facts, canonical_json(check.metrics), canonical_json(check.details), relative)


def _receipt_rows(lake: Lake, receipt: Receipt, relative: str) -> Iterator[tuple[str, Row]]:
    # joined as text: pathlib costs a tenth of a whole sync of ten thousand receipts
    path = f"{lake.root}/lake/{receipt.path}" if receipt.path is not None else None
    done = (receipt.status, receipt.run_id, _utc(receipt.started_at), _utc(receipt.finished_at), receipt.seconds)
    made = (receipt.data_version, receipt.kind, path, receipt.bytes, receipt.row_count, receipt.device, receipt.error)
    yield "materializations", (*done, receipt.code_version, receipt.fingerprint, *made, False, relative)
    for edge in receipt.upstream:
        yield "lineage_edges", (receipt.data_version, edge.asset, edge.partition, edge.data_version, edge.sequence)
    for column, sources in receipt.column_lineage.items():
        for source in sources:
            yield "column_lineage", (column, source["asset"], source["column"])
    for position, column in enumerate(receipt.columns):
        yield "columns", (position, column["name"], column["type"], bool(column["nullable"]), column["description"])
    for name, value in _flat(receipt.settings):
        yield "metadata", ("setting", name, value)
    for name, value in receipt.details.items():
        yield "metadata", ("detail", name, value)
    for name, value in receipt.metrics.items():
        yield "metrics", (name, value)
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
