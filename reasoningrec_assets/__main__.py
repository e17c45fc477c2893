"""``python -m reasoningrec_assets``: ask what a data root holds, and look after it; an error is one line and exit code 1."""

import argparse
import os
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from reasoningrec_assets.catalog import connect, queries, rebuild, sync
from reasoningrec_assets.errors import PermanentError, PlatformError
from reasoningrec_assets.lake.files import default_root
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets.lake.tables import markdown

ASK, CARE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).values()
READERS = ("duckdb", "_duckdb", "pyarrow")
WIDTH = 240  # a path or a version is copied whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    options.data = options.data.absolute()
    try:
        if not (options.data / "receipts").is_dir():
            problem, remedy = "nothing was materialized below it", "Check --data and REASONINGREC_DATA, or materialize an asset"
            raise PermanentError("read a data root", where=str(options.data), problem=problem, remedy=remedy)
        return (_look_after if options.command in CARE else _ask)(options, options.data)
    except BrokenPipeError:  # the reader, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # of damaged and missing tables their readers tell, which are not loaded for this
        if not isinstance(error, (PlatformError, OSError)) and not type(error).__module__.startswith(READERS):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reasoningrec_assets", description=__doc__)
    parser.add_argument("--data", type=Path, default=default_root(), help="data root (default: REASONINGREC_DATA, or ./data)")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name, help=about, description=about) for name, about in (ASK | CARE).items()}
    made["lineage"].add_argument("asset")
    made["show"].add_argument("asset", nargs="?")
    for name in ("lineage", "show", "metrics", "report"):
        help_ = "the dataset" + ("" if name == "report" else "; may be left out where there is one alone")
        made[name].add_argument("--partition", help=help_, required=name == "report")
    made["doctor"].add_argument("--fix", action="store_true", help="do what is safe to do")
    made["gc"].add_argument("--older-than", type=float, default=30, metavar="DAYS", help="only shards older than this (30)")
    made["gc"].add_argument("--delete", action="store_true", help="remove them")
    made["export-rows"].add_argument("partition")
    for name in ("export-labels", "export-rows"):
        made[name].add_argument("path", type=Path)
    return parser


def _ask(options: argparse.Namespace, root: Path) -> int:
    if options.command in {"sync", "rebuild"}:
        clock = time.monotonic()
        count = (sync if options.command == "sync" else rebuild)(root, log=lambda line: print(line, file=sys.stderr))
        done = "skipped" if count is None else f"synced: {count:,} receipt(s)"
        print(f"catalogue {done} in {time.monotonic() - clock:.2f} s")
        return 0
    if options.command == "report":
        newest = Lake(root).newest("evaluation_report", options.partition, wanted_by="the catalogue")
        print(f"Report: {Lake(root).path_of(newest)}")
        return 0
    try:
        if sync(root, log=lambda _: None, wait_seconds=1) is None:
            print("The catalogue is open elsewhere: what follows may be older than the lake.", file=sys.stderr)
    except (PlatformError, OSError) as error:  # on a read-only disk there is still the catalogue as it stands
        print(f"What follows may be older than the lake: {' '.join(str(error).split())}", file=sys.stderr)
    with connect(root) as connection:
        for title, table in queries.answers(connection, options.command, getattr(options, "asset", None), options.partition):
            if rows := len(table):
                print(title, end="\n" if title else "")
                table.show(max_rows=rows, max_width=WIDTH, max_col_width=WIDTH, null_value="")
            elif not title:
                print("Nothing was materialized yet.")
    return 0


def _look_after(options: argparse.Namespace, root: Path) -> int:
    from reasoningrec_assets import doctor
    from reasoningrec_assets.generation import housekeeping
    from reasoningrec_assets.training.exchange import export

    left = 0
    if options.command == "doctor":
        print(*doctor.devices(), sep="\n")
        for found in list(doctor.examine(root)):  # all of them before anything is changed
            if fixed := options.fix and found.fix is not None:
                found.fix()
            left += not fixed
            print(f"{found.where}: {found.problem}. {'Mended' if fixed else found.remedy}.")
        print(f"{left} left to do" if left else "all is well")
    elif options.command == "cache":
        rows = housekeeping.statistics(root)
        print(markdown(list(rows[0]), (row.values() for row in rows)) if rows else "it is empty")
    elif options.command == "gc":
        found = housekeeping.collect_garbage(root, older_than_days=options.older_than, delete=options.delete)
        print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.items()))
        print("" if options.delete else "nothing was removed; run again with --delete")
    elif options.command == "export-labels":
        print(f"{housekeeping.export_labels(root, options.path.absolute())} rows in {options.path}")
    else:
        print(*export(Lake(root), options.partition, options.path), sep="\n")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
