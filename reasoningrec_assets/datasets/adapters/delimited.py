"""Delimited text into DuckDB, with errors that name the line; which file means what is the adapters' business."""

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, cast

from reasoningrec_assets.datasets.registry import TimeUnit
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import Connection, exact_path, literal, query

REMEDY = "Correct or remove that line, or get the file again from its source"
_LONGEST = 2**24  # bytes of a line; DuckDB itself takes a buffer's 4 MB
_NUMBERS = {"rating": "DOUBLE", "timestamp": "BIGINT"}


@dataclass(frozen=True)
class Layout:
    """How a file's lines are cut into fields, and the ratings and times that it may hold."""

    columns: tuple[str, ...]  # our names, in the file's order; those that end with `_id` must not be empty
    delimiter: str
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header: bool = False
    quote: str = ""
    lowest: float = 0.5
    highest: float = 5
    time_unit: TimeUnit = "seconds"


def bad_line(path: Path, number: int, problem: str, what: str = "line") -> PermanentError:
    """The error for one line or row of a raw file, counted from 1."""
    return PermanentError("read the raw file", where=f"{path}, {what} {number}", problem=problem, remedy=REMEDY)


def load(connection: Connection, table: str, path: Path, layout: Layout, *, reader: str = "", select: str = "*") -> None:
    """Create ``table``: ``row``, and the layout's columns as text, rating and timestamp as numbers; an error names a bad line.

    ``reader``, SQL for the same columns, is for a file that is no text: errors name the row. ``select`` keeps ids and numbers.
    """
    kinds = _NUMBERS | ({"timestamp": "TIMESTAMPTZ"} if layout.time_unit == "iso" else {})
    types = {name: kinds.get(name, "VARCHAR") for name in layout.columns}
    text = (
        f"read_csv({literal(exact_path(path))}, delim={literal(layout.delimiter)}, encoding={literal(layout.encoding)},"
        f" header={str(layout.header).lower()}, quote={literal(layout.quote)}, escape={literal(layout.quote)}, comment='',"
        f" auto_detect=false, strict_mode=true, null_padding=false, buffer_size={2**22}, parallel=true, columns={types})"
    )
    # DuckDB numbers rows in file order whatever its number of threads, and ties in time are common enough (713 of 943 users
    # of MovieLens-100K near their targets) for the order to matter.
    connection.execute("SET TimeZone = 'UTC'")  # of times that name none
    if layout.encoding == "latin-1" and next(lines(path, "latin-1"), "").startswith("\xef\xbb\xbf"):
        raise bad_line(path, 1, "it begins with a byte order mark, which would be part of the first id")
    create(connection, table, path, f"SELECT row_number() OVER () AS row, {select} FROM {reader or text}", layout)
    checked = [name for name in layout.columns if name in _NUMBERS or name.endswith("_id")]
    bad = " OR ".join(f'"{name}" IS NULL' if name in _NUMBERS else f"coalesce({name}, '') = ''" for name in checked)
    bad += f" OR rating NOT BETWEEN {layout.lowest} AND {layout.highest}" if "rating" in checked else ""
    # Taken for seconds, milliseconds lie after the year 5138; taken for milliseconds, seconds lie before March 1973.
    since = 10**8 if layout.time_unit == "milliseconds" else -(10**18)
    odd = f'"timestamp" NOT BETWEEN {since} AND {10**11}' if "timestamp" in checked else "false"
    sql = f"SELECT count(*), min(row) FILTER ({bad}), count(*) FILTER ({odd}), min(row) FILTER ({odd}),"
    ((rows, first, odds, odd, usual),) = connection.execute(f"{sql} min(row) FILTER (NOT {odd}) FROM {table}").fetchall()
    if rows == 0:
        raise bad_line(path, 1, "the file has a header and no rows" if layout.header else "the file is empty")
    if odds == rows:
        problem = f"none of its timestamps can be in {layout.time_unit}"
        remedy = "Set time_unit in the dataset's declaration; of MovieLens or Amazon this is not the published file: get that"
        raise PermanentError("read the raw file", where=str(path), problem=problem, remedy=remedy)
    if first or odds:
        row = first or (odd if 2 * odds <= rows else usual)
        found = query(f"FROM {table} WHERE row = {row}", on=connection).to_pylist()[0]
        empty = [name.replace("_", " ") for name in checked if found[name] in (None, "")]
        problem = f"the rating is outside {layout.lowest:g} to {layout.highest:g}"
        problem = f"the {' and '.join(empty)} is empty" if empty else problem if first else "most timestamps are in another unit"
        number = row if reader else _line(path, layout, row + layout.header, blank=False)
        raise bad_line(path, number, f"{problem}: {[found[name] for name in checked]}", "row" if reader else "line")


def create(connection: Connection, table: str, path: Path, sql: str, layout: Layout | None = None) -> None:
    """Create, or replace, ``table`` by what SQL reads from a raw file; PermanentError, see `diagnose`, where it cannot be read."""
    import duckdb

    try:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS {sql}")
    except duckdb.Error as error:
        if isinstance(error, duckdb.OperationalError) and "GZIP" not in str(error):  # such as a full disk
            raise
        # The border of two buffers in a quoted text with line ends misleads the parallel reader. The plain one has the last word,
        # but drops what follows a quote that is never closed: the quotes are looked at first.
        if layout and layout.quote and "parallel=true, columns" in sql:
            _line(path, layout)
            return create(connection, table, path, sql.replace("parallel=true, columns", "parallel=false, columns"), layout)
        raise diagnose(path, str(error), layout) from error


def _line(path: Path, layout: Layout, number: int = -1, *, blank: bool = True) -> int:
    """The line on which a record ends, counted with or without ``blank`` lines; bad quotes before it, or anywhere, are an error."""
    csv.field_size_limit(2**30)
    texts = (f"{text}\n" for line in lines(path, layout.encoding) for text in line.split("\r"))
    quoting, last = csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE, 0
    records = csv.reader(texts, delimiter=layout.delimiter[0], quoting=quoting, strict=True)
    try:
        for record in records:
            last, number = records.line_num, number - bool(blank or record)
            if number == 0:
                break
    except csv.Error as error:
        raise bad_line(path, last + 1, f"a quote there, or below, is not closed or not doubled: {error}") from error
    return last


def diagnose(path: Path, found: str, layout: Layout | None = None) -> PermanentError:
    """What DuckDB found, without its advice, which is on settings of its own; the line of a mistake in quoted text needs ``layout``."""
    found = re.sub(r"\s*(If you are trying [^\n]*, )?[Tt]ry (auto-detecting|increasing|setting) [^\n]*", "", found)
    if of_json := re.search(r': (Malformed )?[\w ]+ in file ".*", (?:at byte \d+ )?in line (\d+): (.*)', found):
        # DuckDB counts the line of what is no JSON at all one too high, and that of other mistakes right
        return bad_line(path, int(of_json[2]) - bool(of_json[1]), of_json[3].strip(" ."))
    if "state machine reached an invalid state" in found:
        with opened(path) as file:
            ends = (line.endswith(b"\r\n") for line in file)
            first = next(ends)
            if odd := next((number for number, end in enumerate(ends, start=2) if end != first), None):
                return bad_line(path, odd, "it ends in another way than the first one: some lines end with CR LF, others with LF")
    problem = re.split(r"\n+(?:Possible|This can|Column |LINE )", found)[0].splitlines()[-1]
    if of_csv := re.search(r"on Line: (\d+)\nOriginal Line: (.{0,80})", found):
        number = int(of_csv[1])  # DuckDB counts blank lines, and a quoted text of several lines as one
        number = _line(path, layout, number) if layout and layout.quote else number
        return bad_line(path, number, f"{problem}: {of_csv[2]!r}")
    return PermanentError("read the raw file", where=str(path), problem=problem, remedy=REMEDY)


def opened(path: Path) -> IO[bytes]:
    """A raw file's bytes, unpacked where it is a ``.gz``."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The text of each line, without byte order mark and line end; PermanentError where it is endless or can't be decoded."""
    with opened(path) as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST), b""), start=1):
            if len(line) == _LONGEST:
                raise bad_line(path, number, f"it is longer than {_LONGEST} bytes")
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                found = line[error.start : error.start + 8]
                raise bad_line(path, number, f"byte {error.start + 1} is not {encoding}: {found!r}") from error
            yield text.rstrip("\r\n").removeprefix("\ufeff")
