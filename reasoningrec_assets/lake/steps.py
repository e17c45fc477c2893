"""One materialization from its inputs to its receipt, without Dagster: resolve, reuse or build, validate, publish, commit."""

import contextlib
import json
import shutil
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.errors import DryRun, Log, PermanentError
from reasoningrec_assets.lake import files
from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore, Upstream
from reasoningrec_assets.lake.schemas import TABLES, TableSchema
from reasoningrec_assets.lake.tables import preview, write_table
from reasoningrec_assets.sql import Reader, Table

MANIFEST = "manifest.json"
COLUMN_FACTS = ("name", "type", "nullable", "description")


@dataclass(frozen=True)
class Lake:
    """A data root: ``lake/`` holds data, ``receipts/`` the commits, ``scratch/`` what is unfinished."""

    root: Path

    @property
    def receipts(self) -> ReceiptStore:
        """The receipts of this lake."""
        return ReceiptStore(self.root / "receipts")

    def path_of(self, receipt: Receipt) -> Path:
        """Absolute path of the data that a successful receipt names."""
        assert receipt.path is not None
        return (self.root / "lake" / receipt.path).absolute()

    def newest(self, asset: str, partition: str, *, wanted_by: str = "a reader") -> Receipt:
        """The newest successful receipt; a PermanentError where the partition was never materialized."""
        receipt = self.receipts.newest(asset, partition)
        if receipt is None:
            doing, select = f"read {asset}[{partition}] for {wanted_by}", f"--select '+key:\"{asset}\"' --partition {partition}"
            remedy = f"Run: dagster asset materialize -m reasoningrec_assets.definitions {select}"
            raise PermanentError(doing, where=str(self.root), problem="it was never materialized", remedy=remedy)
        return receipt


CODE_VERSIONS: dict[str, int] = tomllib.loads(Path(__file__).with_name("code_versions.toml").read_text(encoding="utf-8"))


def code_version(asset: str) -> str:
    """The version of the code that makes an asset; a KeyError where nothing declares one."""
    family, name = asset.split("/", maxsplit=1)[0], asset.rsplit("/", maxsplit=1)[-1]
    if (named := family if family in CODE_VERSIONS else name) not in CODE_VERSIONS:
        raise KeyError(f"{asset} has no number in lake/code_versions.toml: give it one below {named}")
    return str(CODE_VERSIONS[named])


@dataclass(frozen=True)
class Step:
    """What a materialization depends on, apart from its inputs' content."""

    asset: str  # its last part names the table, see `lake.schemas`
    partition: str
    code_version: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])  # all that decides the result, as JSON; no secrets
    upstream: tuple[str, ...] = ()  # asset keys read, all in the same partition
    optional: tuple[str, ...] = ()  # those of them that are read only where they exist
    run_id: str = "local"  # no part of what is reused
    # reads what no fingerprint covers, such as files that a user may change: always built, committed where it is new
    external: bool = False
    force: bool = False  # build and commit even though nothing changed


@dataclass
class Output:
    """What a build function hands over: a table, or a file or folder that it made in the scratch folder."""

    table: Table | Reader | None = None
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    details: dict[str, str] = field(default_factory=dict[str, str])
    path: Path | None = None
    models: tuple[dict[str, str], ...] = ()
    prompts: dict[str, str] = field(default_factory=dict[str, str])
    device: str | None = None


@dataclass(frozen=True)
class Inputs:
    """The resolved upstream versions, and a scratch folder that lives as long as the build."""

    lake: Lake
    receipts: Mapping[str, Receipt]
    scratch: Path

    def __getitem__(self, asset: str) -> Path:
        """Path of an upstream's data: a Parquet file or a model directory."""
        return self.lake.path_of(self.receipts[asset])

    def of(self, table: str) -> Receipt:
        """The receipt of the upstream that is this table, of whatever branch: its key ends with the table's name."""
        return next(receipt for asset, receipt in self.receipts.items() if asset.rsplit("/", 1)[-1] == table)

    def read_by(self, asset: str, table: str) -> Path | None:
        """Path of the table that an upstream was itself made from; None where it read none, or that version is gone."""
        made_from = self.lake.receipts.of(self.receipts[asset])
        read = (self.lake.path_of(one) for one in made_from if one.asset.rsplit("/", 1)[-1] == table)
        return next(filter(Path.is_file, read), None)

    def find(self, table: str) -> Path | None:
        """Path of the upstream that is this table, of whatever branch; None where the step reads none."""
        return next((self[asset] for asset in self.receipts if asset.rsplit("/", 1)[-1] == table), None)


def run_step(lake: Lake, step: Step, build: Callable[[Inputs], Output], *, log: Log = print) -> tuple[Receipt, bool]:
    """Materialize one partition of one asset, or find that it stands already: the receipt, and whether it was reused.

    `build` is called only where the newest receipt does not match or its data does not verify. A missing input and a
    refused output are PermanentErrors; these and every other failure leave a failed receipt, a DryRun leaves none.
    """
    decides = {name: getattr(step, name) for name in ("asset", "partition", "code_version", "settings")}
    facts: dict[str, Any] = {**decides, "run_id": step.run_id, "fingerprint": "", "upstream": []}
    upstream: dict[str, Receipt] = {}

    def receipt(status: Literal["success", "failed"], **found: Any) -> Receipt:
        seconds = round(time.monotonic() - files.WAITED["seconds"] - clock, 3)
        return Receipt(**facts, status=status, finished_at=datetime.now(UTC).isoformat(), seconds=seconds, **found)

    def reused(same: Receipt) -> tuple[Receipt, bool]:
        log(f"{step.asset}: unchanged, version {(same.data_version or '')[:12]} reused")
        return same, True

    lock = lake.root / "locks" / step.asset / f"{step.partition}.lock"
    # two identical runs at once: the second waits here, then finds the first one's receipt and reuses it
    waiting = files.exclusive(lock, on_wait=lambda: log(f"{step.asset}: another run is at it, waiting"))
    with files.disk_errors(f"write {step.asset}[{step.partition}]", lake.root), waiting:
        facts["started_at"], clock = datetime.now(UTC).isoformat(), time.monotonic() - files.WAITED["seconds"]
        try:
            for asset in step.upstream:
                if asset in step.optional and lake.receipts.newest(asset, step.partition) is None:
                    continue
                read = upstream[asset] = lake.newest(asset, step.partition, wanted_by=step.asset)
                facts["upstream"].append(Upstream(asset, step.partition, read.data_version or "", read.sequence))
            versions = {asset: read.data_version for asset, read in upstream.items()}
            facts["fingerprint"] = files.sha256_json({**decides, "upstream": versions})
            newest = None if step.force else lake.receipts.newest(step.asset, step.partition)
            same = newest if newest is not None and newest.fingerprint == facts["fingerprint"] else None
            if same is not None and not step.external:
                if verify(lake, same):
                    return reused(same)
                log(f"{step.asset}: {lake.path_of(same)} is missing or damaged; making it again")
            for asset, read in upstream.items():
                if not verify(lake, read):
                    said = {"problem": "it is missing or damaged", "remedy": f"Materialize {asset} again"}
                    doing = f"read {asset}[{step.partition}] for {step.asset}"
                    raise PermanentError(doing, where=str(lake.path_of(read)), **said)
            with files.scratch_folder(lake.root / "scratch") as scratch:
                source, found = _description(step, build(Inputs(lake, upstream, scratch)), scratch)
                made = receipt("success", **found)
                target = lake.path_of(made)
                if target.is_dir() and not verify(lake, made):
                    shutil.rmtree(target)
                files.move_into_place(source, target)
                if same is not None and step.external and same.data_version == made.data_version:
                    return reused(same)
                return lake.receipts.append(receipt("success", **found)), False
        except BaseException as error:
            with contextlib.suppress(OSError):  # on a full disk there is no room for the receipt either: the first error counts
                if not isinstance(error, DryRun):
                    lake.receipts.append(receipt("failed", error=f"{type(error).__name__}: {error}"[:4000]))
            raise


def verify(lake: Lake, receipt: Receipt) -> bool:
    """Whether the data that a receipt names is there and hashes to its data version."""
    path = lake.path_of(receipt)
    named = path / MANIFEST if receipt.kind == "model" else path
    if not named.is_file() or files.sha256_file(named) != receipt.data_version:
        return False
    parts: dict[str, str] = json.loads(named.read_text(encoding="utf-8"))["files"] if receipt.kind == "model" else {}
    return all((path / name).is_file() and files.sha256_file(path / name) == digest for name, digest in parts.items())


def seal(folder: Path, description: Mapping[str, Any]) -> None:
    """Write a model directory's manifest: what the model is, and the SHA-256 of each of its files."""
    # sealing again replaces the manifest, so its own hash must not be in it
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    digests = {str(path.relative_to(folder)): files.sha256_file(path) for path in paths}
    (folder / MANIFEST).write_text(files.canonical_json({**description, "files": digests}), encoding="utf-8")


def _description(step: Step, output: Output, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """The file or folder to publish, a table written first, and what its receipt says of it."""
    found = {name: getattr(output, name) for name in ("metrics", "details", "models", "prompts", "device")}
    source = output.path or scratch / "table.parquet"
    if output.table is not None:
        schema = TABLES.get(step.asset.rsplit("/", 1)[-1])
        assert schema is not None, f"{step.asset} writes a table that lake/schemas.toml does not declare"
        found |= {
            "row_count": write_table(schema, output.table, source, dataset=step.partition),
            "columns": [{fact: getattr(column, fact) for fact in COLUMN_FACTS} for column in schema.columns],
            "column_lineage": _column_lineage(schema, step.upstream),
            "details": {**output.details, "preview": preview(source)},
        }
    else:
        found["kind"] = "model" if source.is_dir() else "page"
    version = files.sha256_file(source / MANIFEST if source.is_dir() else source)
    size = sum(part.stat().st_size for part in (source, *source.rglob("*")) if part.is_file())
    path = f"{step.asset}/{step.partition}/{version}{source.suffix if source.is_file() else ''}"
    return source, {**found, "data_version": version, "path": path, "bytes": size}


def _column_lineage(schema: TableSchema, upstream: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """Declared sources, resolved to the assets that this step really read."""
    lineage: dict[str, list[dict[str, str]]] = {}
    for column in schema.columns:
        for table, name in (source.split(".") for source in column.made_of):
            for asset in (key for key in upstream if key.rsplit("/", 1)[-1] == table):
                lineage.setdefault(column.name, []).append({"asset": asset, "column": name})
    return lineage
