"""What the catalogue file holds: the tables, views and macros of `layout.sql`, and the rows that a receipt becomes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.lake.receipts import CheckReceipt, Receipt, ReceiptStore, file_of
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets.sql import exact_path, literal

Row = tuple[Any, ...]

# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "5"

# Tables that several assets write: one view over all of them, told apart by a column of the table.
SHARED_VIEWS = ("predictions", "evaluation_metrics")


def creation_script() -> str:
    """The statements that make an empty catalogue."""
    return Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")


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
