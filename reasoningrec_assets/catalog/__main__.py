"""``python -m reasoningrec_assets.catalog``: arguments, and tables as DuckDB draws them; an error is one line and exit code 1."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from reasoningrec_assets.catalog import connect, queries, rebuild, sync
from reasoningrec_assets.errors import PermanentError, PlatformError
from reasoningrec_assets.lake.files import default_root
from reasoningrec_assets.lake.steps import Lake

WIDTH = 200  # a path or a version is copied whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except BrokenPipeError:  # the reader, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PlatformError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    purpose = "What exists, where it came from and how good it is: the DuckDB catalogue of the lake."
    parser = argparse.ArgumentParser(prog="python -m reasoningrec_assets.catalog", description=purpose)
    parser.add_argument("--data", type=Path, default=default_root(), help="data root (default: REASONINGREC_DATA, or ./data)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="add new receipts to the catalogue")
    commands.add_parser("rebuild", help="make the catalogue anew from the receipts")
    lineage = commands.add_parser("lineage", help="what a materialization was made from, with the versions really read")
    lineage.add_argument("asset")
    show = commands.add_parser("show", help="the current materializations, or everything about one of them")
    show.add_argument("asset", nargs="?")
    metrics = commands.add_parser("metrics", help="the evaluation of every method, best AUC first")
    for command in (lineage, show, metrics):
        command.add_argument("--partition", help="the dataset; may be left out where there is one alone")
    report = commands.add_parser("report", help="where the newest evaluation report lies")
    report.add_argument("--partition", required=True, help="the dataset")
    return parser


def _run(options: argparse.Namespace) -> None:
    root: Path = options.data.absolute()
    if not (root / "receipts").is_dir():
        problem = "nothing was materialized below this data root"
        remedy = "Check --data and REASONINGREC_DATA, or materialize an asset first"
        raise PermanentError("read the receipts", where=str(root), problem=problem, remedy=remedy)
    if options.command in {"sync", "rebuild"}:
        clock = time.monotonic()
        count = (sync if options.command == "sync" else rebuild)(root, log=lambda line: print(line, file=sys.stderr))
        done = "skipped" if count is None else f"synced: {count:,} receipt(s)"
        return print(f"catalogue {done} in {time.monotonic() - clock:.2f} s")
    if options.command == "report":
        newest = Lake(root).newest("evaluation_report", options.partition, wanted_by="the catalogue")
        return print(f"Report: {Lake(root).path_of(newest)}")
    with contextlib.suppress(PlatformError, OSError):  # on a read-only disk there is still the catalogue as it stands
        sync(root, log=lambda _: None, wait_seconds=1)
    with connect(root) as connection:
        for title, table in queries.answers(connection, options.command, getattr(options, "asset", None), options.partition):
            if rows := len(table):
                print(title, end="\n" if title else "")
                table.show(max_rows=rows, max_width=WIDTH, max_col_width=WIDTH, null_value="")
            elif not title:
                print("Nothing was materialized yet.")
    return None


if __name__ == "__main__":
    sys.exit(main())
