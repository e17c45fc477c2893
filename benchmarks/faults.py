"""Faults at random moments of every step, on models of two layers: what is readable meanwhile, and where the next run ends.

`python -m benchmarks.faults TRIALS` goes on where it was stopped and writes `results/faults.json`; `run` tries sixty.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dagster as dg

from benchmarks.harness import CACHE, ROOT, Figure, write_result
from reasoningrec_assets.assets import materialize
from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.lake.files import exclusive, sha256_file, sha256_json, try_exclusive
from reasoningrec_assets.lake.steps import MANIFEST, Lake, verify
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets_tests.tiny import make_encoder, make_model, write_movielens, write_profile

PARTITION = "ml100k"
HOME = CACHE / "faults"
DISK = HOME / "disk"  # a file system of its own, that can be filled or made read-only
BEGAN = HOME / "began"  # made when a disturbed step begins
DISK_MB = 96
SIGNALS = {"kill -9": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
FAULTS = (*SIGNALS, "full disk", "read-only disk", "locked catalogue", "clock jumps back", "two runs at once", "two, one killed")
UNEQUAL = {"evaluation_report"}  # it shows how many seconds each step took


@dataclass
class Trial:
    """One fault, in one step, at one moment, and all that was wrong after it."""

    number: int
    asset: str
    fault: str
    after_seconds: float  # since the step began
    ended: list[int] = field(default_factory=list)  # exit status of each disturbed run; negative for a signal
    looks: int = 0  # how often a reader looked at the lake meanwhile
    wrong: list[str] = field(default_factory=list)


def _code() -> list[Path]:
    """The files that decide what the package makes."""
    return [
        path
        for path in sorted((ROOT / "reasoningrec_assets").rglob("*.*"))
        if path.suffix in {".py", ".sql", ".toml", ".html", ".css"}
    ]


class Stage:
    """The undisturbed lake, and copies of it that lack one step's results."""

    def __init__(self) -> None:
        (HOME / "tmp").mkdir(parents=True, exist_ok=True)
        self.profile, self.home, self.whole = HOME / "tiny.toml", HOME / "dagster_home", Lake(HOME / "whole")
        os.environ |= {
            "REASONINGREC_PROFILE": str(self.profile),
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        for library in ("torch", "transformers", "peft", "sklearn.linear_model", "duckdb", "pyarrow.parquet", "bert_score"):
            importlib.import_module(library)  # once, and not in every child
        definitions = build_definitions()
        graph = definitions.resolve_asset_graph()
        selection = dg.AssetSelection.from_string('+key:"evaluation_metrics" or key:"evaluation_report"').resolve(graph)
        self.assets = sorted(key.to_user_string() for key in selection)
        self.below = {
            asset: {key.to_user_string() for key in dg.AssetSelection.assets(asset).downstream().resolve(graph)}
            for asset in self.assets
        }
        done, code = self.whole.root / "done", sha256_json([sha256_file(path) for path in _code()])
        # other code may make other tables, which would pass for a fault's doing
        if not done.exists() or done.read_text(encoding="utf-8") != code:
            self._make()
            done.write_text(code, encoding="utf-8")
        newest = {asset: self.whole.newest(asset, PARTITION) for asset in self.assets}
        self.versions = {asset: receipt.data_version for asset, receipt in newest.items()}
        # the step, and what comes after it: its checks, and the catalogue
        self.seconds = {asset: receipt.seconds + 0.5 for asset, receipt in newest.items()}

    def _make(self) -> None:
        for folder in (self.whole.root, self.home, HOME / "models"):
            shutil.rmtree(folder, ignore_errors=True)
        models = HOME / "models"
        # in a child: whoever has used torch must not be forked
        child = os.fork()
        if child == 0:
            models.mkdir()
            make_model(models / "llama")
            (models / "bert").mkdir()
            make_encoder(models / "bert" / "dt5f")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        write_profile(self.profile, models / "llama", models / "bert" / "dt5f")
        write_movielens(self.whole.root / "raw" / "ml100k")
        self.home.mkdir()
        shutil.copyfile(ROOT / "deploy" / "dagster.yaml", self.home / "dagster.yaml")
        assert finished(begin(self.whole, self.assets, self.home)) == 0, (HOME / "log").read_text()[-3000:]

    def without(self, asset: str, root: Path) -> Lake:
        """A copy of the undisturbed lake before this step ever ran, and no answer of a model."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.whole.root, root, ignore=shutil.ignore_patterns("cache", "catalog.duckdb*", "done"))
        for gone in {asset, *self.below[asset]}:
            for kept in ("receipts", "lake"):
                shutil.rmtree(root / kept / gone / PARTITION, ignore_errors=True)
        return Lake(root)


@functools.cache
def _job(root: str) -> dg.JobDefinition:
    # made before the fork: else most random moments would fall into it, and few into the step
    return build_definitions(resources={"lake": LakeResource(root=root)}).resolve_implicit_global_asset_job_def()


def begin(
    lake: Lake, assets: list[str], home: Path, prepare: Callable[[], object] = lambda: None, partition: str = PARTITION
) -> int:
    """Materialize these assets in a child process, a session of its own, forked from what has loaded every library."""
    job = _job(str(lake.root))
    BEGAN.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        with (HOME / "log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        tempfile.tempdir = os.environ["TMPDIR"] = str(HOME / "tmp")
        os.environ["DAGSTER_HOME"] = str(home)
        prepare()
        _say_when_it_begins()
        with dg.DagsterInstance.get() as instance:
            done = job.execute_in_process(
                partition_key=partition,
                asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
                raise_on_error=False,
                instance=instance,
            )
        status = 0 if done.success else 3
    except KeyboardInterrupt:
        status = 130
    except BaseException:  # noqa: BLE001
        traceback.print_exc()  # into the log: this process ends here
    finally:
        sys.stdout.flush()
        os._exit(status)


def _say_when_it_begins() -> None:
    real = materialize.run_step

    def run_step(*given, **named):
        BEGAN.touch()
        return real(*given, **named)

    materialize.run_step = run_step


def begun(child: int) -> None:
    """Return when the step has begun, past what Dagster does before it."""
    while not BEGAN.exists():
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, (HOME / "log").read_text()[-3000:]
        time.sleep(0.005)


def finished(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Reader(threading.Thread):
    """Looks at a lake again and again: every file at its final place, and every newest receipt's data, must be whole."""

    def __init__(self, lake: Lake, asset: str) -> None:
        super().__init__(daemon=True)
        self.lake, self.asset, self.looks, self.wrong, self.over = lake, asset, 0, list[str](), threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.look()

    def look(self) -> None:
        self.looks += 1
        receipt = self.lake.receipts.newest(self.asset, PARTITION)
        if receipt is not None and not verify(self.lake, receipt):
            self.wrong.append(f"receipt {receipt.sequence} stands without its data")
        for path in (self.lake.root / "lake" / self.asset).glob("*/*"):
            named = path / MANIFEST if path.is_dir() else path
            with contextlib.suppress(FileNotFoundError):
                if sha256_file(named) != path.stem:
                    self.wrong.append(f"{path.name} is half-written")


@contextlib.contextmanager
def reading(lake: Lake, trial: Trial) -> Iterator[None]:
    reader = Reader(lake, trial.asset)
    reader.start()
    try:
        yield
    finally:
        reader.over.set()
        reader.join()
        reader.look()
        trial.looks += reader.looks
        trial.wrong += sorted({*reader.wrong})


def disturb(stage: Stage, lake: Lake, trial: Trial, draw: random.Random) -> None:
    """Run the step under the fault, and take the fault away again."""
    fault, processes = trial.fault, []

    def start(prepare: Callable[[], object] = lambda: None) -> int:
        processes.append(begin(lake, [trial.asset], stage.home, prepare))
        return processes[-1]

    if fault in SIGNALS:
        child = start()
        with reading(lake, trial):
            begun(child)
            time.sleep(trial.after_seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, SIGNALS[fault])
            trial.ended.append(finished(child))
    elif fault.startswith("two"):
        children = [start(), start()]
        with reading(lake, trial):
            if "killed" in fault:
                begun(children[1])
                time.sleep(trial.after_seconds)
                os.kill(draw.choice(children), signal.SIGKILL)
            trial.ended += [finished(child) for child in children]
        expected = {0} if "killed" not in fault else {0, -signal.SIGKILL}
        if not {*trial.ended} <= expected:
            trial.wrong.append("a run failed because of the other")
    elif fault == "full disk":
        free = draw.randrange(0, 96 * 1024, 4096)
        filler = lake.root.parent / "filler"
        left = shutil.disk_usage(lake.root).free
        filler.write_bytes(b"\0" * max(0, left - free))
        child = start()
        with reading(lake, trial):
            trial.ended.append(finished(child))
        filler.unlink()
        _refused_clearly(trial, "No space left on device")
    elif fault == "read-only disk":
        _mount("remount,ro")
        child = start()
        with reading(lake, trial):
            trial.ended.append(finished(child))
        _mount("remount,rw")
        _refused_clearly(trial, "Read-only file system")
    elif fault == "locked catalogue":
        holder = _holds_the_catalogue(lake)
        child = start()
        with reading(lake, trial):
            trial.ended.append(finished(child))
        holder.stdin.close()
        holder.wait()
        if trial.ended != [0]:
            trial.wrong.append("an open catalogue failed the step")
    else:
        child = start(_clock_back)
        with reading(lake, trial):
            trial.ended.append(finished(child))
        if trial.ended != [0]:
            trial.wrong.append("the clock failed the step")
    trial.wrong += ["a process is left"] * any(map(_outlives, processes))


def _outlives(session: int, patience: float = 5.0) -> bool:
    deadline = time.monotonic() + patience  # what a killed process has started may need a moment to notice
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def _mount(*options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(DISK)], check=True, capture_output=True)


def _refused_clearly(trial: Trial, reason: str) -> None:
    if trial.ended != [0] and reason not in (log := (HOME / "log").read_text()):
        trial.wrong.append(f"it ended without naming the fault: {log[-300:]}")


def _holds_the_catalogue(lake: Lake) -> subprocess.Popen[str]:
    script = """
import sys, duckdb
from reasoningrec_assets.catalog import projection, sync
sync(sys.argv[1], log=lambda _: None)
held = duckdb.connect(f"{sys.argv[1]}/{projection.FILE_NAME}")
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(lake.root)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout.readline() == "held\n"
    return holder


def _clock_back() -> None:
    """Three days back, for this process: its own time and the one that receipts get."""
    from reasoningrec_assets.lake import steps

    now, back = time.time, 3 * 86400

    class Earlier(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) - datetime.timedelta(seconds=back)

    time.time = lambda: now() - back
    steps.datetime = Earlier


def examine(stage: Stage, lake: Lake, trial: Trial) -> None:
    """The next run, and whether it ended as an undisturbed one, with nothing left lying about."""
    child = begin(lake, [trial.asset], stage.home)
    with reading(lake, trial):
        if finished(child):
            trial.wrong.append(f"the next run failed: {(HOME / 'log').read_text()[-600:]}")
            return
    if trial.asset not in UNEQUAL and lake.newest(trial.asset, PARTITION).data_version != stage.versions[trial.asset]:
        trial.wrong.append("the next run ended with another result")
    numbers = sorted((lake.receipts.root / trial.asset / PARTITION).glob("*.json"))
    if sum(lake.receipts.read(path).status == "success" for path in numbers) != 1:
        trial.wrong.append("not one receipt of success")
    left = [path.name for path in (lake.root / "scratch").iterdir() if path.name != ".sweep"]
    left += [path.name for path in lake.root.rglob("*") if path.suffix in {".tmp", ".partial", ".wal"}]
    left += [path.name for path in (HOME / "tmp").iterdir() if not path.name.startswith("reasoningrec-leases")]
    for lock in (*(lake.root / "locks").rglob("*.lock"), *(HOME / "tmp").rglob("*.lock")):
        with try_exclusive(lock) as free:
            left += [] if free else [f"the lock {lock.name}"]
    trial.wrong += [f"left behind: {name}" for name in left]


def afterwards() -> tuple[int, int]:
    """What all trials together left behind in Dagster, once the doctor has been: slots of the pool, runs that count as running."""
    code = """
import dagster as dg
from reasoningrec_assets import doctor
with dg.DagsterInstance.get() as instance:
    for finding in doctor.dead_runs(instance):
        finding.fix and finding.fix()
    open_runs = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]))
    print(instance.event_log_storage.get_concurrency_info("gpu").active_slot_count, open_runs)
"""
    slots, runs = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()[-2:]
    return int(slots), int(runs)


def perform(stage: Stage, number: int) -> Trial:
    """Trial `number` of a fixed list: each step meets each fault in turn, at a moment that the number's seed draws."""
    draw = random.Random(number)
    # coprime counts: the pairs come around only after every combination
    faults = FAULTS if mounted() else tuple(fault for fault in FAULTS if "disk" not in fault)
    asset, fault = stage.assets[number % len(stage.assets)], faults[(number + number // len(stage.assets)) % len(faults)]
    trial = Trial(number, asset, fault, round(draw.uniform(0, stage.seconds[asset]), 3))
    lake = stage.without(asset, DISK / "lake")
    shutil.rmtree(HOME / "tmp", ignore_errors=True)
    (HOME / "tmp").mkdir()
    disturb(stage, lake, trial, draw)
    examine(stage, lake, trial)
    return trial


def mounted() -> bool:
    """Whether the trials have a disk of their own; else the faults of disks are left out."""
    DISK.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(DISK):
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
            _mount(f"size={DISK_MB}m")
    return os.path.ismount(DISK)


def trials(count: int, *, resume: bool) -> Iterator[Trial]:
    """The first trials; to `resume` is to take those that this code has already been through from its notes."""
    code = [*sorted((ROOT / "reasoningrec_assets").rglob("*.py")), Path(__file__)]
    notes = HOME / f"{sha256_json([sha256_file(path) for path in code])[:12]}.jsonl"
    stage = Stage()
    known = [Trial(**json.loads(line)) for line in notes.read_text().splitlines()] if resume and notes.exists() else []
    yield from known[:count]
    for number in range(len(known), count):
        trial = perform(stage, number)
        if resume:
            with notes.open("a") as handle:
                handle.write(json.dumps(asdict(trial)) + "\n")
        outcome = "; ".join(trial.wrong) or "well"
        print(f"trial {number}: {trial.fault} in {trial.asset}, ended {trial.ended}, {trial.looks} looks: {outcome}", flush=True)
        yield trial


def run(quick: bool, count: int = 60) -> list[Figure]:
    # the tests run a few trials too: on one disk, two at once would clear each other's away
    with exclusive(HOME / ".lock", on_wait=lambda: print("other trials are at work here, waiting", flush=True)):
        try:
            found = list(trials(6 if quick else count, resume=not quick))
        finally:
            if os.path.ismount(DISK):
                subprocess.run(["umount", str(DISK)], check=True)
    by_fault = collections.Counter(trial.fault for trial in found)
    wrong = [f"{trial.number}, {trial.fault} in {trial.asset}: {'; '.join(trial.wrong)}" for trial in found if trial.wrong]
    disturbed = sum(trial.ended != [0] for trial in found)
    slots, runs = afterwards()
    return [
        Figure("trials that went wrong", len(wrong), 0, at_most=True, details={"trials": len(found), "wrong": wrong} | by_fault),
        Figure(
            "looks of a reader meanwhile",
            sum(trial.looks for trial in found),
            1,
            details={"runs that did not end well": disturbed},
        ),
        # a run that was killed before it had named its process: the doctor tells of it after an hour, and leaves it to a person
        Figure("slots held after all", slots, 0, at_most=True, details={"runs that count as running": runs}),
    ]


if __name__ == "__main__":
    figures = run(quick=False, count=int(sys.argv[1]))
    write_result("faults", {"figures": [asdict(figure) for figure in figures]})
    print(*figures, sep="\n")
