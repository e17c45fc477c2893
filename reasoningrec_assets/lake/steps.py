"""One materialization from its inputs to its receipt: resolve, reuse or build, validate, publish, commit.

Every asset goes through `run_step`, so there is one place that decides what is reused, one that publishes, and one
that records lineage. It knows nothing of Dagster: a notebook or a benchmark calls it the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import (
    canonical_json,
    disk_errors,
    exclusive,
    move_into_place,
    scratch_folder,
    sha256_file,
    sha256_json,
)
from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore, Upstream
from reasoningrec_assets.lake.schemas import TableSchema, table_of
from reasoningrec_assets.lake.tables import preview, write_table

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"


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
        """The newest successful receipt.

        Raises:
            PermanentError: The partition was never materialized.
        """
        receipt = self.receipts.newest(asset, partition)
        if receipt is None:
            raise PermanentError(
                f"read {asset}[{partition}] for {wanted_by}",
                where=str(self.root),
                problem="it was never materialized",
                remedy=f"Run: dagster asset materialize -m reasoningrec_assets.definitions --select '+key:\"{asset}\"' --partition {partition}",
            )
        return receipt


@dataclass(frozen=True)
class Step:
    """What a materialization depends on, apart from its inputs' content.

    Attributes:
        settings: Everything that decides the result, as JSON values, without secrets.
        upstream: Asset keys read, all in the same partition.
        external: Reads what no fingerprint covers, such as files that a user may change: always built, committed only
            when the content is new.
        force: Build and commit even though nothing changed.
    """

    asset: str
    partition: str
    code_version: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    upstream: tuple[str, ...] = ()
    run_id: str = "local"
    external: bool = False
    force: bool = False


@dataclass
class Output:
    """What a build function hands over: a table, or a file or folder that it made in the scratch folder."""

    table: pa.Table | pa.RecordBatchReader | None = None
    path: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    details: dict[str, str] = field(default_factory=dict[str, str])
    models: tuple[dict[str, str], ...] = ()
    prompts: dict[str, str] = field(default_factory=dict[str, str])
    device: str | None = None


@dataclass(frozen=True)
class Inputs:
    """The resolved upstream versions, and a scratch folder that lives as long as the build."""

    receipts: Mapping[str, Receipt]
    paths: Mapping[str, Path]
    scratch: Path

    def __getitem__(self, asset: str) -> Path:
        """Path of an upstream's data: a Parquet file or a model directory."""
        return self.paths[asset]


def fingerprint(step: Step, upstream: Mapping[str, Receipt]) -> str:
    """SHA-256 of all that decides a result: code version, settings and upstream content."""
    return sha256_json(
        {
            "asset": step.asset,
            "partition": step.partition,
            "code_version": step.code_version,
            "settings": step.settings,
            "upstream": {asset: receipt.data_version for asset, receipt in upstream.items()},
        }
    )


def run_step(
    lake: Lake, step: Step, build: Callable[[Inputs], Output], *, log: Callable[[str], None] = print
) -> tuple[Receipt, bool]:
    """Materialize one partition of one asset, or find that it stands already.

    Args:
        lake: Where to read and write.
        step: Identity, settings and inputs.
        build: Makes the output; called only when the newest receipt does not match or its data does not verify.
        log: Receives one line for each thing a person would want to know.

    Returns:
        The receipt that now counts, and whether it was reused.

    Raises:
        PermanentError: An input is missing, or the output is refused. A failed receipt is left in either case.
    """
    # two identical runs at once: the second waits here, then finds the first one's receipt and reuses it
    with exclusive(
        lake.root / "locks" / step.asset / f"{step.partition}.lock",
        on_wait=lambda: log(f"{step.asset}: another run is at it, waiting"),
    ):
        started = datetime.now(UTC)
        clock = time.monotonic()
        mark = ""
        upstream: dict[str, Receipt] = {}
        try:
            for asset in step.upstream:
                upstream[asset] = lake.newest(asset, step.partition, wanted_by=step.asset)
            mark = fingerprint(step, upstream)
            newest = lake.receipts.newest(step.asset, step.partition)
            if newest is not None and not step.force and not step.external and newest.fingerprint == mark:
                if verify(lake, newest):
                    log(f"{step.asset}: unchanged, version {(newest.data_version or '')[:12]} reused")
                    return newest, True
                log(f"{step.asset}: {lake.path_of(newest)} is missing or damaged; making it again")
            with (
                disk_errors(f"write {step.asset}[{step.partition}]", lake.root),
                scratch_folder(lake.root / "scratch") as scratch,
            ):
                inputs = Inputs(upstream, {asset: lake.path_of(receipt) for asset, receipt in upstream.items()}, scratch)
                output = build(inputs)
                receipt = _publish(lake, step, output, scratch)
                if (
                    step.external
                    and not step.force
                    and newest is not None
                    and (newest.fingerprint, newest.data_version) == (mark, receipt.data_version)
                ):
                    log(f"{step.asset}: unchanged, version {(newest.data_version or '')[:12]} reused")
                    return newest, True
                receipt = dataclasses.replace(
                    receipt,
                    fingerprint=mark,
                    upstream=_edges(step, upstream),
                    started_at=started.isoformat(),
                    finished_at=datetime.now(UTC).isoformat(),
                    seconds=round(time.monotonic() - clock, 3),
                )
                return lake.receipts.append(receipt), False
        except BaseException as error:
            failed = _blank(step, status="failed")
            failed = dataclasses.replace(
                failed,
                fingerprint=mark,
                upstream=_edges(step, upstream),
                started_at=started.isoformat(),
                finished_at=datetime.now(UTC).isoformat(),
                seconds=round(time.monotonic() - clock, 3),
                error=f"{type(error).__name__}: {error}"[:4000],
            )
            with contextlib.suppress(OSError):  # on a full disk there is no room for the receipt either: the first error counts
                lake.receipts.append(failed)
            raise


def verify(lake: Lake, receipt: Receipt) -> bool:
    """Whether the data that a receipt names is there and hashes to its data version."""
    path = lake.path_of(receipt)
    if receipt.kind != "model":
        return path.is_file() and sha256_file(path) == receipt.data_version
    manifest = path / MANIFEST
    if not manifest.is_file() or sha256_file(manifest) != receipt.data_version:
        return False
    files: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return all((path / name).is_file() and sha256_file(path / name) == digest for name, digest in files.items())


def seal(folder: Path, description: Mapping[str, Any]) -> None:
    """Write a model directory's manifest: what the model is, and the SHA-256 of each of its files."""
    # sealing again replaces the manifest, so its own hash must not be in it
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    files = {str(path.relative_to(folder)): sha256_file(path) for path in paths}
    (folder / MANIFEST).write_text(canonical_json({**description, "files": files}), encoding="utf-8")


def _publish(lake: Lake, step: Step, output: Output, scratch: Path) -> Receipt:
    schema = table_of(step.asset)
    details = dict(output.details)
    rows: int | None = None
    kind: Literal["table", "model", "page"]
    if output.table is not None:
        assert schema is not None, f"{step.asset} writes a table that lake/schemas.py does not declare"
        source = scratch / "table.parquet"
        rows = write_table(schema, output.table, source, dataset=step.partition)
        details["preview"] = preview(source)
        kind, version, name = "table", sha256_file(source), "{}.parquet"
    else:
        assert output.path is not None, f"{step.asset} returned neither a table nor a path"
        source = output.path
        if source.is_dir():
            kind, version, name = "model", sha256_file(source / MANIFEST), "{}"
        else:
            kind, version, name = "page", sha256_file(source), "{}" + source.suffix
    size = source.stat().st_size if source.is_file() else sum(p.stat().st_size for p in source.rglob("*") if p.is_file())
    relative = Path(step.asset) / step.partition / name.format(version)
    receipt = dataclasses.replace(
        _blank(step, status="success"),
        data_version=version,
        kind=kind,
        path=str(relative),
        bytes=size,
        row_count=rows,
        columns=_columns(schema) if kind == "table" else (),
        column_lineage=_column_lineage(schema, step.upstream) if kind == "table" else {},
        metrics=output.metrics,
        details=details,
        models=output.models,
        prompts=output.prompts,
        device=output.device,
    )
    target = lake.root / "lake" / relative
    if target.is_dir() and not verify(lake, receipt):
        shutil.rmtree(target)
    move_into_place(source, target)
    return receipt


def _blank(step: Step, *, status: Literal["success", "failed"]) -> Receipt:
    return Receipt(
        asset=step.asset,
        partition=step.partition,
        status=status,
        run_id=step.run_id,
        started_at="",
        finished_at="",
        seconds=0.0,
        code_version=step.code_version,
        fingerprint="",
        settings=dict(step.settings),
    )


def _edges(step: Step, upstream: Mapping[str, Receipt]) -> tuple[Upstream, ...]:
    return tuple(
        Upstream(asset, step.partition, receipt.data_version or "", receipt.sequence) for asset, receipt in upstream.items()
    )


def _columns(schema: TableSchema | None) -> tuple[dict[str, Any], ...]:
    if schema is None:
        return ()
    return tuple({"name": c.name, "type": c.type, "nullable": c.nullable, "description": c.description} for c in schema.columns)


def _column_lineage(schema: TableSchema | None, upstream: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """Declared sources, resolved to the assets that this step really read."""
    if schema is None:
        return {}
    by_table: dict[str, list[str]] = {}
    for asset in upstream:
        by_table.setdefault(asset.rsplit("/", 1)[-1], []).append(asset)
    lineage: dict[str, list[dict[str, str]]] = {}
    for column in schema.columns:
        found = [
            {"asset": asset, "column": source.split(".", 1)[1]}
            for source in column.sources
            for asset in by_table.get(source.split(".", 1)[0], [])
        ]
        if found:
            lineage[column.name] = found
    return lineage
