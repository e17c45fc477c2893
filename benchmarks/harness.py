"""What all benchmarks share: peers in environments of their own, paired rounds, and how a figure is held against its bar."""

from __future__ import annotations

import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from reasoningrec_assets.compute import visible_devices

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEERS = Path(__file__).parent / "peers"
CACHE = ROOT / ".cache" / "benchmarks"


@dataclass(frozen=True)
class Figure:
    """One measured value and the bar it has to reach; `at_most` for bars that bound from above."""

    what: str
    value: float
    bar: float
    at_most: bool = False
    unit: str = ""
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def __str__(self) -> str:
        bar = f"(bar {'at most' if self.at_most else 'at least'} {self.bar:g}{self.unit}{'' if self.met else ', MISSED'})"
        more = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.details.items()
        )
        return f"{self.what} {self.value:.3g}{self.unit} {bar}{', ' if more else ''}{more}"


class Contestant:
    """A child process that has loaded what it needs and does the work once for every line it gets.

    It answers each line with one line of JSON; the first answer says that it is ready and how long that took.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, **orders: object
    ) -> None:
        self.name, self.orders = name, orders
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | dict(environment or {})
        )
        self.ready = self._answer()

    def once(self, **order: object) -> dict[str, float]:
        self.process.stdin.write(json.dumps(self.orders | order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict[str, float]:
        for line in self.process.stdout:  # libraries print too: an answer is a line of JSON with a mark
            if line.startswith("@"):
                return json.loads(line[1:])
        raise SystemExit(f"{self.name} ended with {self.process.wait()}")


def ours(module: str, *arguments: str) -> list[str]:
    """The command of a contestant that runs in the product's environment."""
    return [sys.executable, "-m", f"benchmarks.{module}", *arguments]


def peer(name: str, script: str, *arguments: str) -> list[str]:
    """The command of a peer, in a virtual environment made from its own pinned requirements."""
    requirements = PEERS / f"{name}.txt"
    folder = CACHE / "venvs" / name
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing the peer {name}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "-r", requirements], check=True)
        if "vllm" in name:  # their builds do not match this torch, and vLLM fails to import with them
            subprocess.run([folder / "bin" / "pip", "uninstall", "-qy", "torchvision", "torchaudio", "torchcodec"], check=True)
        stamp.write_text(requirements.read_text())
    return [str(folder / "bin" / "python"), "-P", str(PEERS / script), *arguments]


def rounds(contestants: Sequence[Contestant], count: int, **order: object) -> dict[str, list[dict[str, float]]]:
    """Every contestant in turn, `count` times: what slows the machine down for a while slows all of them down."""
    found: dict[str, list[dict[str, float]]] = {contestant.name: [] for contestant in contestants}
    for number in range(count):
        for contestant in contestants:
            found[contestant.name].append(contestant.once(round=number, **order))
            print(f"round {number + 1} of {count}: {contestant.name} {found[contestant.name][-1]}", flush=True)
    return found


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def whole_process(command: Sequence[str], **environment: str) -> dict[str, float]:
    """Seconds and peak memory in MB of a command from its start to its end, interpreter and imports included."""
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return {"seconds": time.monotonic() - begun, "mb": usage.ru_maxrss / 1024}


def serve(work, **ready: float) -> None:
    """The other side of a `Contestant`: say that it is ready, then do the work for each line."""
    print("@" + json.dumps(ready), flush=True)
    for line in sys.stdin:
        print("@" + json.dumps(work(json.loads(line))), flush=True)


def fresh_folder() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=CACHE))


def has_card() -> bool:
    return visible_devices() != ["cpu:0"]


def write_result(name: str, result: Mapping[str, object]) -> None:
    """Keep what was measured, with where it was, and write the page of all results again."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"name": name, **describe_machine(), **result}, indent=1) + "\n", encoding="utf-8")
    runpy.run_path(str(ROOT / "docs" / "make_results.py"), run_name="__main__")


def describe_machine() -> dict[str, object]:
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "reasoningrec_assets", "benchmarks/*.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    cards = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout if has_card() else ""
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in cpu]
    versions = {name: version(name) for name in ("torch", "transformers", "duckdb", "dagster", "peft", "pyarrow")}
    return {
        "machine": {"cpu": model, "cores": os.cpu_count(), "features": features, "python": platform.python_version()}
        | ({"cards": [line.split(" (UUID")[0] for line in cards.splitlines()]} if cards else {}),
        "versions": versions,
        "commit": commit + ("+changes" if changed.stdout.strip() else ""),
    }
