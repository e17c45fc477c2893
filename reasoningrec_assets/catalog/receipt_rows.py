"""One receipt file, as rows of the catalogue's tables.

What belongs here: finding receipt files and taking them apart. What doesn't: SQL. A file whose content contradicts its
place was copied or edited by hand; it is refused, because its rows would be inserted anew by every sync.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reasoningrec_assets.catalog import layout
from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore
from reasoningrec_assets.lake.steps import Lake

Row = tuple[Any, ...]

_FACTS = tuple(layout.TABLES["materializations"])[3:]


def receipt_files(root: Path) -> set[str]:
    """Paths of all receipts below a receipts folder, relative to it; one directory walk, nothing is opened."""
    start = len(str(root)) + 1
    found: set[str] = set()
    for folder, _, names in os.walk(root):
        found.update(f"{folder}/{name}"[start:] for name in names if name.endswith(".json") and name[:-5].isdigit())
    return found


def rows_of(lake: Lake, relative: str) -> Iterator[tuple[str, Row]]:
    """Table names and rows, in the order of `layout.TABLES`, that one receipt file stands for.

    Raises:
        PermanentError: The file is not JSON, or lacks fields.
        ValueError: It belongs to another place than where it lies.
    """
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
    if relative != stated:
        raise ValueError(f"it says that it is {stated}")
    for table, row in rows:
        yield table, (asset, partition, sequence, *row)


def _receipt_rows(lake: Lake, receipt: Receipt, relative: str) -> Iterator[tuple[str, Row]]:
    # joined as text: pathlib costs a tenth of a whole sync of ten thousand receipts
    path = f"{lake.root}/lake/{receipt.path}" if receipt.path is not None else None
    times = {"started_at": _utc(receipt.started_at), "finished_at": _utc(receipt.finished_at)}
    other = {**times, "path": path, "is_current": False, "receipt": relative}
    yield "materializations", tuple(other[name] if name in other else getattr(receipt, name) for name in _FACTS)
    for edge in receipt.upstream:
        yield "lineage_edges", (receipt.data_version, edge.asset, edge.partition, edge.data_version, edge.sequence)
    for position, column in enumerate(receipt.columns):
        yield "columns", (position, *(column.get(name) for name in ("name", "type", "nullable", "description")))
    for column, sources in receipt.column_lineage.items():
        for source in sources:
            yield "column_lineage", (column, source["asset"], source["column"])
    for name, value in _flat(receipt.settings):
        yield "metadata", ("setting", name, value)
    for name, value in receipt.details.items():
        yield "metadata", ("detail", name, value)
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
