"""Receipts: one immutable JSON file per materialization, success or failure.

A receipt is the commit. It is written last, in one atomic step, and readers find data through the newest successful
receipt alone, so no reader sees a table without one. Order is the sequence number, which the create-exclusive write
itself claims; clocks are recorded and never compared.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import canonical_json, create_exclusive, scratch_folder


@dataclass(frozen=True)
class Upstream:
    """One input of a materialization, as the lake resolved it for that very read."""

    asset: str
    partition: str
    data_version: str
    sequence: int


@dataclass(frozen=True)
class Receipt:
    """What one materialization did, read and wrote.

    Attributes:
        kind: table (Parquet), model (a directory with a manifest) or page (HTML).
        path: Path of the data below the lake's root; None for a failure.
        columns: Name, type, nullability, description of each column of a table.
        column_lineage: For each column the upstream ``asset`` and ``column`` pairs it is made of.
        metrics: Figures by name, which the UI plots and the catalogue lists.
        details: Short texts by name, such as a preview or a list of warnings.
        models: Role, reference and revision of every model used.
        prompts: Name and SHA-256 of every prompt template used.
    """

    asset: str
    partition: str
    status: Literal["success", "failed"]
    run_id: str
    started_at: str
    finished_at: str
    seconds: float
    code_version: str
    fingerprint: str
    sequence: int = 0
    data_version: str | None = None
    kind: Literal["table", "model", "page"] = "table"
    path: str | None = None
    bytes: int | None = None
    row_count: int | None = None
    upstream: tuple[Upstream, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    columns: tuple[dict[str, Any], ...] = ()
    column_lineage: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, list[dict[str, str]]])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    details: dict[str, str] = field(default_factory=dict[str, str])
    models: tuple[dict[str, str], ...] = ()
    prompts: dict[str, str] = field(default_factory=dict[str, str])
    device: str | None = None
    error: str | None = None

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Read a receipt; unknown fields, written by a newer version, are left out."""
        known = {f.name for f in dataclasses.fields(cls)}
        raw = {name: value for name, value in json.loads(text).items() if name in known}
        raw["upstream"] = tuple(Upstream(**entry) for entry in raw.get("upstream", ()))
        for name in ("columns", "models"):
            raw[name] = tuple(raw.get(name, ()))
        return cls(**raw)


@dataclass(frozen=True)
class CheckReceipt:
    """The outcome of one asset check on one partition."""

    asset: str
    partition: str
    check: str
    passed: bool
    severity: str
    run_id: str
    at: str
    data_version: str | None
    metrics: dict[str, float]
    details: dict[str, str]
    sequence: int = 0


R = TypeVar("R", Receipt, CheckReceipt)


class ReceiptStore:
    """Appends and finds receipts below one folder: ``<asset>/<partition>/<sequence>.json``.

    Check receipts lie in ``<asset>/<partition>/checks/<check>/<sequence>.json``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def append(self, receipt: Receipt) -> Receipt:
        """Commit a receipt under the partition's next sequence number and return it with that number."""
        return self._append(self.root / receipt.asset / receipt.partition, receipt)

    def append_check(self, receipt: CheckReceipt) -> CheckReceipt:
        """Commit a check's outcome."""
        return self._append(self.root / receipt.asset / receipt.partition / "checks" / receipt.check, receipt)

    def _append(self, folder: Path, receipt: R) -> R:
        with scratch_folder(self.root.parent / "scratch") as scratch:
            while True:
                numbered = dataclasses.replace(receipt, sequence=max(self._sequences(folder), default=0) + 1)
                content = canonical_json(dataclasses.asdict(numbered))
                if create_exclusive(folder / f"{numbered.sequence:08d}.json", content, scratch):
                    return numbered

    def newest(self, asset: str, partition: str) -> Receipt | None:
        """The newest successful receipt of a partition, or None."""
        folder = self.root / asset / partition
        for sequence in sorted(self._sequences(folder), reverse=True):
            receipt = self.read(folder / f"{sequence:08d}.json")
            if receipt.status == "success":
                return receipt
        return None

    def at(self, asset: str, partition: str, sequence: int) -> Receipt:
        """The receipt with a given sequence number."""
        return self.read(self.root / asset / partition / f"{sequence:08d}.json")

    @staticmethod
    def read(path: Path) -> Receipt:
        """Read one receipt file.

        Raises:
            PermanentError: The file is not a receipt; it was changed by hand, since it was written atomically.
        """
        try:
            return Receipt.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PermanentError(
                "read a receipt",
                where=str(path),
                problem=f"it is damaged ({error})",
                remedy="Move the file away; the receipt before it then counts",
            ) from error

    @staticmethod
    def _sequences(folder: Path) -> list[int]:
        try:
            return [int(path.stem) for path in folder.iterdir() if path.suffix == ".json" and path.stem.isdigit()]
        except FileNotFoundError:
            return []
