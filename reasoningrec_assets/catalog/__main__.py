"""``python -m reasoningrec_assets.catalog``: sync, rebuild, lineage, show and metrics.

What belongs here: arguments and exit codes. What doesn't: queries and layout, which a notebook uses as well. Errors
are one line on the error stream and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from reasoningrec_assets.catalog import connect, queries, rebuild, sync, terminal
from reasoningrec_assets.errors import PermanentError, PlatformError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for line in _run(options):
            print(line)
    except PlatformError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reasoningrec_assets.catalog",
        description="What exists, where it came from and how good it is: the DuckDB catalogue of the lake.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("REASONINGREC_DATA") or "data"),
        help="data root (default: REASONINGREC_DATA, or ./data)",
    )
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
    return parser


def _run(options: argparse.Namespace) -> list[str]:
    root: Path = options.data
    if options.command in {"sync", "rebuild"}:
        if not (root / "receipts").is_dir():
            raise PermanentError(
                "read the receipts",
                where=str(root.absolute()),
                problem="nothing was materialized below this data root",
                remedy="Check --data and REASONINGREC_DATA, or materialize an asset first",
            )
        log = lambda line: print(line, file=sys.stderr)  # noqa: E731
        result = (sync if options.command == "sync" else rebuild)(root, log=log)
        receipts = f"{result.new_receipts:,} receipt{'' if result.new_receipts == 1 else 's'}"
        return [f"catalogue {result.status}: {receipts} in {result.seconds:.2f} s"]
    with closing(connect(root)) as connection:
        if options.command == "metrics":
            return terminal.evaluation_lines(*queries.evaluation(connection, options.partition))
        if options.asset is None:
            rows = queries.current(connection)
            if options.partition is not None:
                rows = [row for row in rows if row["partition"] == options.partition]
            return terminal.current_lines(rows)
        asset, partition = queries.resolve(connection, options.asset, options.partition)
        if options.command == "lineage":
            return terminal.lineage_lines(queries.upstream_walk(connection, asset, partition))
        return terminal.materialization_lines(queries.materialization(connection, asset, partition))


if __name__ == "__main__":
    sys.exit(main())
