"""``python -m reasoningrec_assets.catalog``: arguments and aligned lines; an error is one line and exit code 1."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from reasoningrec_assets.catalog import connect, queries, rebuild, sync
from reasoningrec_assets.errors import PermanentError, PlatformError
from reasoningrec_assets.lake.files import default_root
from reasoningrec_assets.lake.steps import Lake

WIDTH = 110


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for line in _run(options):
            print(line)
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


def _run(options: argparse.Namespace) -> list[str]:
    root: Path = options.data.absolute()
    if not (root / "receipts").is_dir():
        problem = "nothing was materialized below this data root"
        remedy = "Check --data and REASONINGREC_DATA, or materialize an asset first"
        raise PermanentError("read the receipts", where=str(root), problem=problem, remedy=remedy)
    if options.command in {"sync", "rebuild"}:
        clock = time.monotonic()
        count = (sync if options.command == "sync" else rebuild)(root, log=lambda line: print(line, file=sys.stderr))
        done = "skipped" if count is None else f"synced: {count:,} receipt(s)"
        return [f"catalogue {done} in {time.monotonic() - clock:.2f} s"]
    if options.command == "report":
        newest = Lake(root).newest("evaluation_report", options.partition, wanted_by="the catalogue")
        return [f"Report: {Lake(root).path_of(newest)}"]
    with contextlib.suppress(PlatformError, OSError):  # on a read-only disk there is still the catalogue as it stands
        sync(root, log=lambda _: None, wait_seconds=1)
    with connect(root) as connection:
        if options.command == "metrics":
            methods, notes = queries.evaluation(connection, options.partition)
            return [*_table(methods), *(line for note in notes for line in ("", *wrap(note, WIDTH)))]
        if options.asset is None:
            return _table(queries.records(connection, queries.CURRENT, [options.partition]))
        asset, partition = queries.resolve(connection, options.asset, options.partition)
        if options.command == "lineage":
            return _table(queries.records(connection, queries.UPSTREAM, [asset, partition]))
        return _sections(queries.materialization(connection, asset, partition))


def _table(rows: Sequence[queries.Record]) -> list[str]:
    cells = [[_text(value) for value in row.values()] for row in rows]
    return _aligned([list(rows[0]), *cells]) if rows else ["Nothing was materialized yet."]


def _sections(sections: dict[str, list[tuple[str, Any]]]) -> list[str]:
    lines: list[str] = []
    for title, pairs in sections.items():
        told = [(f"  {name}", " ".join(_text(value).split())) for name, value in pairs]
        body = _preview(pairs[0][1]) if title == "Preview" else _aligned(told)
        # people copy the paths and versions among the facts, which come first
        width = WIDTH if lines else 1000
        lines += ["", title, *(line if len(line) <= width else line[: width - 1] + "…" for line in body)]
    return lines[1:]


def _preview(markdown: str) -> list[str]:
    """The first rows of a Markdown preview, one column a line: a table of texts is wider than any terminal."""
    names, _, *rows = [line[2:-2].split(" | ") for line in markdown.splitlines()]
    lines: list[str] = []
    for number, row in enumerate(rows[:3], start=1):
        cells = [cell.replace("\\|", "|").replace("&lt;", "<") for cell in row]
        lines += [f"  row {number}", *_aligned([(f"    {name}", cell) for name, cell in zip(names, cells, strict=False)])]
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


if __name__ == "__main__":
    sys.exit(main())
