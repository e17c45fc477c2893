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

from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore
from reasoningrec_assets.lake.steps import Lake

Row = dict[str, Any]


def receipt_files(root: Path) -> set[str]:
    """Paths of all receipts below a receipts folder, relative to it; one directory walk, nothing is opened."""
    start = len(str(root)) + 1
    found: set[str] = set()
    for folder, _, names in os.walk(root):
        found.update(f"{folder}/{name}"[start:] for name in names if name.endswith(".json") and name[:-5].isdigit())
    return found


def rows_of(lake: Lake, relative: str) -> Iterator[tuple[str, Row]]:
    """Table names and rows that one receipt file stands for.

    Raises:
        PermanentError: The file is not JSON, or lacks fields.
        ValueError: It belongs to another place than where it lies.
    """
    path = lake.receipts.root / relative
    if "/checks/" in relative:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if "check" in raw:
            yield "check_results", _check_row(raw, relative)
            return
    receipt = ReceiptStore.read(path)
    _expect(relative, f"{receipt.asset}/{receipt.partition}/{receipt.sequence:08d}.json")
    key = {"asset": receipt.asset, "partition": receipt.partition, "sequence": receipt.sequence}
    for table, row in _receipt_rows(lake, receipt, relative):
        row.update(key)
        yield table, row


def _receipt_rows(lake: Lake, receipt: Receipt, relative: str) -> Iterator[tuple[str, Row]]:
    # joined as text: pathlib costs a tenth of a whole sync of ten thousand receipts
    location = f"{lake.root}/lake/{receipt.path}" if receipt.path is not None else None
    plain = ("status", "run_id", "seconds", "code_version", "fingerprint", "data_version", "kind", "bytes", "row_count")
    yield (
        "materializations",
        {
            **{name: getattr(receipt, name) for name in plain},
            "started_at": _utc(receipt.started_at),
            "finished_at": _utc(receipt.finished_at),
            "path": location,
            "device": receipt.device,
            "error": receipt.error,
            "is_current": False,
            "receipt": relative,
        },
    )
    for edge in receipt.upstream:
        yield (
            "lineage_edges",
            {
                "data_version": receipt.data_version,
                "upstream_asset": edge.asset,
                "upstream_partition": edge.partition,
                "upstream_data_version": edge.data_version,
                "upstream_sequence": edge.sequence,
            },
        )
    for position, column in enumerate(receipt.columns):
        yield (
            "columns",
            {"position": position, **{name: column.get(name) for name in ("name", "type", "nullable", "description")}},
        )
    for column, sources in receipt.column_lineage.items():
        for source in sources:
            lineage = {"column_name": column, "upstream_asset": source["asset"], "upstream_column": source["column"]}
            yield "column_lineage", lineage
    for name, value in _flat(receipt.settings):
        yield "metadata", {"kind": "setting", "name": name, "value": value}
    for name, value in receipt.details.items():
        yield "metadata", {"kind": "detail", "name": name, "value": _text(value)}
    for name, value in receipt.metrics.items():
        yield "metrics", {"name": name, "value": float(value)}
    if receipt.kind != "table" and location is not None:
        yield "artifacts", {"kind": receipt.kind, "name": receipt.asset, "reference": location, "version": receipt.data_version}
    for model in receipt.models:
        used = {"name": model.get("role"), "reference": model.get("reference"), "version": model.get("revision")}
        yield "artifacts", {"kind": "model_used", **used}
    for name, digest in receipt.prompts.items():
        yield "artifacts", {"kind": "prompt", "name": name, "reference": None, "version": digest}


def _check_row(raw: Mapping[str, Any], relative: str) -> Row:
    _expect(relative, f"{raw['asset']}/{raw['partition']}/checks/{raw['check']}/{raw['sequence']:08d}.json")
    same = ("asset", "partition", "sequence", "passed", "severity", "run_id", "data_version")
    return {
        **{name: raw[name] for name in same},
        "check_name": raw["check"],
        "checked_at": _utc(raw["at"]),
        "metrics": canonical_json(raw["metrics"]),
        "details": canonical_json(raw["details"]),
        "receipt": relative,
    }


def _expect(relative: str, stated: str) -> None:
    if relative != stated:
        raise ValueError(f"it says that it is {stated}")


def _utc(text: str) -> datetime | None:
    """A recorded time in UTC without its offset; a time without an offset is taken for UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).replace(tzinfo=None)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names, so that one setting of two runs is compared with one condition."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value)
