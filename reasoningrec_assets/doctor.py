"""What killed runs, full disks and damaged files left behind, and what each needs; finding it changes nothing."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.runs import SqliteRunStorage
from sqlalchemy.exc import SQLAlchemyError

from reasoningrec_assets import compute
from reasoningrec_assets.errors import PlatformError
from reasoningrec_assets.lake.files import try_exclusive
from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import Lake, verify

SCARCE = 0.05  # of a disk
GRACE = 3600.0  # seconds
FIX = "Run it again with --fix"
ELSEWHERE = "Mark it as failed in the UI, unless another machine executes it"


class Finding(NamedTuple):
    """Something that is wrong: where, what, what to do about it, and a function that does it where that is safe."""

    where: str
    problem: str
    remedy: str
    fix: Callable[[], object] | None = None


def examine(root: Path) -> Iterator[Finding]:
    """All findings about a data root and, where ``DAGSTER_HOME`` is set, about Dagster's runs."""
    yield from _data(Lake(root))
    for shard in sorted((root / "cache").rglob("*.corrupt")):
        yield Finding(str(shard), "this part of the cache was damaged, and its answers are made again", FIX, shard.unlink)
    disk = shutil.disk_usage(root)
    if disk.free < SCARCE * disk.total:
        remedy = "Free space there; python -m reasoningrec_assets gc says what the cache could give"
        yield Finding(str(root), f"only {disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB are free", remedy)
    if home := os.environ.get("DAGSTER_HOME"):
        try:
            with dg.DagsterInstance.get() as instance:
                yield from dead_runs(instance)
        except (SQLAlchemyError, OSError, dg.DagsterError) as error:  # what else was found still counts
            problem = f"Dagster's runs cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})"
            yield Finding(home, problem, "Check that its storage is there and can be written")


def _data(lake: Lake) -> Iterator[Finding]:
    """Receipts that cannot be read, newest ones whose data does not verify, and data that no receipt names."""
    newest, named, unread = dict[tuple[str, str], Receipt](), set[Path](), False
    for relative in sorted(lake.receipts.files()):  # in the order of their numbers
        try:
            receipt = lake.receipts.read(lake.receipts.root / relative)
        except PlatformError as error:
            yield Finding(str(lake.receipts.root / relative), error.problem, error.remedy)
            unread = True
            continue
        if isinstance(receipt, Receipt) and receipt.status == "success":
            newest[receipt.asset, receipt.partition] = receipt
            named.add(lake.path_of(receipt))
    for (asset, partition), receipt in newest.items():
        if not verify(lake, receipt):
            where = f"the data of {asset}[{partition}] is missing or damaged"
            yield Finding(str(lake.path_of(receipt)), where, "Materialize it: a run finds that out, and makes it again")
    for path in sorted((lake.root / "lake").rglob("*")):
        # data is named by its hash; what is young may be about to get its receipt
        if len(path.stem) == 64 and path not in named and time.time() - path.stat().st_mtime > GRACE:
            remove = partial(shutil.rmtree, path) if path.is_dir() else path.unlink
            remedy, fix = ("Put the damaged receipts right: one may name it", None) if unread else (FIX, remove)
            yield Finding(str(path), "no receipt names it: its writer was killed", remedy, fix)


def dead_runs(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Runs that Dagster takes for running, though the process that executed them is gone from this machine."""
    open_runs = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    for record in instance.get_run_records(open_runs):
        run = record.dagster_run
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        told = [entry.get_dagster_event().engine_event_data.metadata.get("pid") for entry in events]
        processes = [int(str(pid.value)) for pid in told if pid]
        if processes and not Path(f"/proc/{processes[-1]}").exists():
            problem = f"it counts as running, and may hold its pool, but its process {processes[-1]} is gone"
            # a history in SQLite is this machine's own; in one that machines share, a run may live on another of them
            fix = partial(_close, instance, run, problem) if isinstance(instance.run_storage, SqliteRunStorage) else None
            yield Finding(f"run {run.run_id}", problem, FIX if fix else ELSEWHERE, fix)
        elif not processes and time.time() - (record.start_time or 0.0) > GRACE:  # killed before it had said so
            problem = "it counts as running, and never said which process executes it"
            yield Finding(f"run {run.run_id}", problem, ELSEWHERE)


def _close(instance: dg.DagsterInstance, run: dg.DagsterRun, problem: str) -> None:
    instance.report_run_failed(run, problem)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def devices() -> Iterator[str]:
    """The devices of this machine, and whether a run holds them."""
    for name in compute.visible_devices():
        with try_exclusive(compute.lease_file(name)) as free:
            yield f"device {name}: {'free' if free else 'leased by a run'}"
