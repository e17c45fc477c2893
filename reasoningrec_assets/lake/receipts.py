"""Receipts: one immutable JSON file per materialization. It is the commit: readers find data through the newest success."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError
from pydantic.dataclasses import dataclass

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
    """What one materialization did, read and wrote."""

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
    kind: Literal["table", "model", "page"] = "table"  # Parquet, a directory with a manifest, or HTML
    path: str | None = None  # of the data, below the lake's root; None for a failure
    bytes: int | None = None
    row_count: int | None = None
    upstream: tuple[Upstream, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    columns: tuple[dict[str, str | bool], ...] = ()  # name, type, nullable and description of each column of a table
    # for each column the upstream `asset` and `column` pairs that it is made of
    column_lineage: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, list[dict[str, str]]])
    metrics: dict[str, float] = field(default_factory=dict[str, float])  # figures that the UI plots
    details: dict[str, str] = field(default_factory=dict[str, str])  # short texts, such as a preview
    models: tuple[dict[str, str], ...] = ()  # role, reference and revision of every model used
    prompts: dict[str, str] = field(default_factory=dict[str, str])  # SHA-256 of every prompt template used
    device: str | None = None
    error: str | None = None


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


def file_of(receipt: Receipt | CheckReceipt) -> str:
    """Where a receipt lies, relative to the store's root."""
    check = f"checks/{receipt.check}/" if isinstance(receipt, CheckReceipt) else ""
    return f"{receipt.asset}/{receipt.partition}/{check}{receipt.sequence:08d}.json"


class ReceiptStore:
    """Appends and finds receipts: ``<asset>/<partition>/<sequence>.json``, a check's in ``checks/<check>/`` beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def append(self, receipt: R) -> R:
        """Commit a receipt, or a check's, under the next sequence number of its folder and return it with that number."""
        folder = (self.root / file_of(receipt)).parent
        with scratch_folder(self.root.parent / "scratch") as scratch:
            while True:  # the write itself claims the number, which is the order; clocks are recorded and never compared
                # the number of one that was set aside as damaged stays taken: later receipts refer to it
                taken = [int(path.name[:8]) for path in folder.glob("*.json*") if path.name[:8].isdigit()]
                numbered = dataclasses.replace(receipt, sequence=max(taken, default=0) + 1)
                if create_exclusive(self.root / file_of(numbered), canonical_json(dataclasses.asdict(numbered)), scratch):
                    return numbered

    def files(self) -> set[str]:
        """Paths of all receipts, relative to the root; one walk over the folders, nothing is opened."""
        start = len(str(self.root)) + 1
        found = ((folder, name) for folder, _, names in os.walk(self.root) for name in names)
        return {f"{folder}/{name}"[start:] for folder, name in found if name.endswith(".json") and name[:-5].isdigit()}

    def newest(self, asset: str, partition: str) -> Receipt | None:
        """The newest successful receipt of a partition, or None."""
        newest_first = sorted(_sequences(self.root / asset / partition), reverse=True)
        found = (self.at(asset, partition, sequence) for sequence in newest_first)
        return next((receipt for receipt in found if receipt.status == "success"), None)

    def checks(self, asset: str, partition: str) -> list[CheckReceipt]:
        """The newest outcome of each of a partition's checks."""
        folders = sorted((self.root / asset / partition / "checks").glob("*"))
        newest = (folder / f"{max(found):08d}.json" for folder in folders if (found := _sequences(folder)))
        return [check for path in newest if isinstance(check := self.read(path), CheckReceipt)]

    def at(self, asset: str, partition: str, sequence: int) -> Receipt:
        """The receipt with a given sequence number."""
        receipt = self.read(self.root / asset / partition / f"{sequence:08d}.json")
        assert isinstance(receipt, Receipt)
        return receipt

    def of(self, receipt: Receipt) -> Iterator[Receipt]:
        """The receipts that one was made from, without those that were set aside as damaged since."""
        for edge in receipt.upstream:
            with contextlib.suppress(FileNotFoundError):
                yield self.at(edge.asset, edge.partition, edge.sequence)

    def ancestry(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """Every receipt that the given ones were made from, themselves included, each once, sources first."""
        found: dict[tuple[str, int], Receipt] = {}

        def visit(receipts: Iterable[Receipt]) -> None:
            for receipt in receipts:
                if (receipt.asset, receipt.sequence) not in found:
                    visit(self.of(receipt))
                    found[receipt.asset, receipt.sequence] = receipt

        visit(receipts)
        return list(found.values())

    @staticmethod
    def read(path: Path) -> Receipt | CheckReceipt:
        """Read a receipt, without fields of a newer version; PermanentError where it was changed: it was written atomically."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return CheckReceipt(**values) if "check" in values else Receipt(**values)
        except (ValueError, TypeError) as error:
            faults = [str(error)]
            if isinstance(error, ValidationError):
                faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            problem, remedy = (
                f"it is damaged ({'; '.join(faults)})",
                "Restore it, or add .damaged to its name: the one before counts",
            )
            raise PermanentError("read a receipt", where=str(path), problem=problem, remedy=remedy) from error


def _sequences(folder: Path) -> list[int]:
    """The numbers of the receipts in a folder, which need not be there."""
    return [int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()]
