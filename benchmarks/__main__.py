"""`python -m benchmarks NAME [--quick]`: run one benchmark beside its peers and hold it against its bars.

Each benchmark is a module of this package with `run(quick) -> list[Figure]`. The result goes to `results/<name>.json`,
on a CUDA card to `results/<name>-cuda.json`, quick ones to nowhere: they show that the benchmark works, and measure nothing.
"""

import argparse
import importlib
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import has_card, write_result

HERE = Path(__file__).parent


def main() -> int:
    names = [
        "bertscore",
        "faults",
        "leaderboard",
        "load",
        "metrics",
        "quality",
        "scoring",
        "training",
        *sorted(path.stem.replace("_", "-") for path in HERE.glob("*_*.py") if not path.stem.startswith("_")),
    ]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--quick", action="store_true", help="the same with less work, to see that it runs")
    chosen = parser.parse_args()
    figures = importlib.import_module(f"benchmarks.{chosen.name.replace('-', '_')}").run(chosen.quick)
    for figure in figures:
        print(f"{chosen.name}: {figure}")
    if not chosen.quick:
        result = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        result["figures"] = [asdict(figure) | {"met": figure.met} for figure in figures]
        write_result(f"{chosen.name}-cuda" if has_card() else chosen.name, result)
    return 0 if chosen.quick or all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
