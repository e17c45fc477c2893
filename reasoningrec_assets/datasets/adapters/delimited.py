"""Delimited text into DuckDB, with errors that name the line.

What belongs here: how rows and fields are cut. What doesn't: which file means what, that is the adapters' business.
DuckDB reads the file; only where it refuses, a second and slow pass in Python finds the line that a person can look at.
"""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, cast

from reasoningrec_assets.datasets.sql import exact_path, literal, one_row
from reasoningrec_assets.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    FieldCheck = Callable[[str], str | None]

_REMEDY = "Correct or remove that line, or get the file again from its source"


@dataclass(frozen=True)
class Layout:
    """How a file's lines are cut into fields; ``columns`` are our names, in the file's order."""

    name: str
    columns: tuple[str, ...]
    delimiter: str
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header: bool = False
    quote: str = ""


def plain_name(path: Path) -> str:
    """The file's name without the ending of its compression."""
    return path.name.removesuffix(".gz")


def first_line(path: Path) -> str:
    """The header line, without byte order mark and line end.

    Raises:
        PermanentError: The file is empty or its first line is not UTF-8.
    """
    with _open(path) as file:
        line = file.readline()
    if not line.strip():
        raise bad_line(path, 1, "the file is empty")
    return _decode(path, 1, line, "utf-8")


def bad_line(path: Path, number: int, problem: str) -> PermanentError:
    """The error for one line of a raw file, counted from 1."""
    return PermanentError("read the raw file", where=f"{path}, line {number}", problem=problem, remedy=_REMEDY)


def load_ratings(connection: duckdb.DuckDBPyConnection, path: Path, layout: Layout, *, lowest: float, highest: float) -> None:
    """Create the table ``events`` (row, user_id, item_id, rating, timestamp) from a ratings file.

    ``row`` is the row's number in the file: DuckDB numbers rows in file order whatever its number of threads, and ties
    in time are common enough (713 of 943 users of MovieLens-100K near their targets) for the order to matter.

    Raises:
        PermanentError: The file is empty, or a line has too few or too many fields, an empty id, a rating outside
            ``lowest`` to ``highest``, or a timestamp that is no number; the message names the line.
    """
    checks: dict[str, FieldCheck] = {
        "user_id": lambda text: None if text else "the user id is empty",
        "item_id": lambda text: None if text else "the item id is empty",
        "rating": lambda text: _number_problem("rating", text, lowest, highest),
        "timestamp": lambda text: _number_problem("timestamp", text, -(2.0**62), 2.0**62),
    }
    columns = 'row_number() OVER () AS row, user_id, item_id, rating, "timestamp"'
    source = _read_csv(path, layout, {"rating": "DOUBLE", "timestamp": "BIGINT"})
    bad = f"""user_id IS NULL OR item_id IS NULL OR rating IS NULL OR "timestamp" IS NULL OR NOT rating BETWEEN {lowest} AND {highest}"""
    _load(
        connection,
        f"CREATE TABLE events AS SELECT {columns} FROM {source}",
        f"SELECT ({bad}) AS bad FROM events",
        path,
        layout,
        checks,
    )


def load_text(connection: duckdb.DuckDBPyConnection, path: Path, layout: Layout, table: str) -> None:
    """Create ``table`` with ``row`` and the layout's columns as text; the first column is an id and must not be empty.

    Raises:
        PermanentError: The file is empty, or a line has the wrong number of fields or no id; the message names the line.
    """
    key = layout.columns[0]
    checks: dict[str, FieldCheck] = {key: lambda text: None if text else f"the {key} is empty"}
    create = f'CREATE TABLE "{table}" AS SELECT row_number() OVER () AS row, * FROM {_read_csv(path, layout, {})}'
    _load(connection, create, f'SELECT "{key}" IS NULL AS bad FROM "{table}"', path, layout, checks)


def _load(
    connection: duckdb.DuckDBPyConnection, create: str, judge: str, path: Path, layout: Layout, checks: dict[str, FieldCheck]
) -> None:
    """Create a table; where DuckDB refuses a line or ``judge`` finds a bad row, raise for the first bad line."""
    import duckdb

    try:
        connection.execute(create)
        size = one_row(connection, f"SELECT count(*) AS rows, count(*) FILTER (WHERE bad) AS bad FROM ({judge})", [])
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise _diagnose(path, layout, checks, str(error)) from error
    if size["rows"] == 0:
        raise bad_line(path, 1, "the file has a header and no rows" if layout.header else "the file is empty")
    if size["bad"]:
        raise _diagnose(path, layout, checks, f"{size['bad']} rows are not usable")


def _read_csv(path: Path, layout: Layout, types: dict[str, str]) -> str:
    columns = ", ".join(f"{literal(name)}: {literal(types.get(name, 'VARCHAR'))}" for name in layout.columns)
    return (
        f"read_csv({literal(exact_path(path))}, delim={literal(layout.delimiter)}, encoding={literal(layout.encoding)},"
        f" header={str(layout.header).lower()}, quote={literal(layout.quote)}, escape={literal(layout.quote)}, comment='',"
        f" auto_detect=false, strict_mode=true, null_padding=false, columns={{{columns}}})"
    )


def _number_problem(name: str, text: str, lowest: float, highest: float) -> str | None:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return f"the {name} {text[:40]!r} is not a number"
    if not lowest <= number <= highest:
        return f"the {name} {text[:40]!r} is outside {lowest:g} to {highest:g}"
    return None


def _diagnose(path: Path, layout: Layout, checks: dict[str, FieldCheck], found: str) -> PermanentError:
    """The first line that breaks a rule; else what DuckDB found."""
    for number, line in _lines(path, layout):
        if not line.strip() or (layout.header and number == 1):
            continue
        fields = next(csv.reader([line], delimiter=layout.delimiter)) if layout.quote else line.split(layout.delimiter)
        if len(fields) != len(layout.columns):
            return bad_line(path, number, f"{len(fields)} fields where {layout.name} has {len(layout.columns)}: {line[:80]!r}")
        for name, check in checks.items():
            problem = check(fields[layout.columns.index(name)])
            if problem is not None:
                return bad_line(path, number, f"{problem}: {line[:80]!r}")
    return PermanentError(
        "read the raw file", where=str(path), problem=" ".join(found.split("Possible", maxsplit=1)[0].split()), remedy=_REMEDY
    )


def _lines(path: Path, layout: Layout) -> Iterator[tuple[int, str]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            yield number, _decode(path, number, line, layout.encoding)


def _decode(path: Path, number: int, line: bytes, encoding: str) -> str:
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        found = line[error.start : error.start + 8]
        raise bad_line(path, number, f"byte {error.start + 1} is not {encoding}: {found!r}") from error
    return text.rstrip("\r\n").removeprefix("\ufeff")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
