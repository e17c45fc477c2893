"""Delimited text into DuckDB, with errors that name the line.

What belongs here: how rows and fields are cut. What doesn't: which file means what, that is the adapters' business.
DuckDB reads the file; only where it refuses, a second and slow pass in Python finds the line that a person can look at.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import exact_path, literal, query

if TYPE_CHECKING:
    import duckdb

REMEDY = "Correct or remove that line, or get the file again from its source"

_NUMBERS = {"rating": "DOUBLE", "timestamp": "BIGINT"}


@dataclass(frozen=True)
class Layout:
    """How a file's lines are cut into fields, and the ratings that it may hold.

    ``columns`` are our names, in the file's order; those that end with ``_id`` must not be empty.
    """

    columns: tuple[str, ...]
    delimiter: str
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header: bool = False
    quote: str = ""
    lowest: float = 0.5
    highest: float = 5


def plain_name(path: Path) -> str:
    """The file's name without the ending of its compression."""
    return path.name.removesuffix(".gz")


def bad_line(path: Path, number: int, problem: str) -> PermanentError:
    """The error for one line of a raw file, counted from 1."""
    return PermanentError("read the raw file", where=f"{path}, line {number}", problem=problem, remedy=REMEDY)


def load(connection: duckdb.DuckDBPyConnection, table: str, path: Path, layout: Layout) -> None:
    """Create ``table`` with ``row`` and the layout's columns: text, but numbers for rating and timestamp.

    ``row`` is the row's number in the file: DuckDB numbers rows in file order whatever its number of threads, and ties
    in time are common enough (713 of 943 users of MovieLens-100K near their targets) for the order to matter.

    Raises:
        PermanentError: The file is empty, or a line has too few or too many fields, an empty id, a rating out of bounds,
            or a rating or timestamp that is no number; the message names the line.
    """
    import duckdb

    types = ", ".join(f"{literal(name)}: {literal(_NUMBERS.get(name, 'VARCHAR'))}" for name in layout.columns)
    reader = (
        f"read_csv({literal(exact_path(path))}, delim={literal(layout.delimiter)}, encoding={literal(layout.encoding)},"
        f" header={str(layout.header).lower()}, quote={literal(layout.quote)}, escape={literal(layout.quote)}, comment='',"
        f" auto_detect=false, strict_mode=true, null_padding=false, columns={{{types}}})"
    )
    bad = [f'"{name}" IS NULL' for name in layout.columns if name in _NUMBERS or name.endswith("_id")]
    bad += [f"rating NOT BETWEEN {layout.lowest} AND {layout.highest}"] if "rating" in layout.columns else []
    try:
        connection.execute(f"CREATE TABLE {table} AS SELECT row_number() OVER () AS row, * FROM {reader}")
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise _diagnose(path, layout, str(error)) from error
    counts = f"SELECT count(*) AS rows, count(*) FILTER ({' OR '.join(bad)}) AS bad FROM {table}"
    size = query(counts, on=connection).to_pylist()[0]
    if size["rows"] == 0:
        raise bad_line(path, 1, "the file has a header and no rows" if layout.header else "the file is empty")
    if size["bad"]:
        raise _diagnose(path, layout, f"{size['bad']} rows are not usable")


def _diagnose(path: Path, layout: Layout, found: str) -> PermanentError:
    """The first line that breaks a rule; else what DuckDB found."""
    for number, line in lines(path, layout.encoding):
        if not line.strip() or (layout.header and number == 1):
            continue
        fields = next(csv.reader([line], delimiter=layout.delimiter)) if layout.quote else line.split(layout.delimiter)
        if len(fields) != len(layout.columns):
            return bad_line(
                path, number, f"{len(fields)} fields where {plain_name(path)} has {len(layout.columns)}: {line[:80]!r}"
            )
        for name, text in zip(layout.columns, fields, strict=True):
            problem = _problem(name, text, layout)
            if problem:
                return bad_line(path, number, f"{problem}: {line[:80]!r}")
    problem = " ".join(found.split("Possible", maxsplit=1)[0].split())
    return PermanentError("read the raw file", where=str(path), problem=problem, remedy=REMEDY)


def _problem(name: str, text: str, layout: Layout) -> str | None:
    if name.endswith("_id"):
        return None if text else f"the {name.replace('_', ' ')} is empty"
    if name not in _NUMBERS:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return f"the {name} {text[:40]!r} is not a number"
    if name == "rating" and not layout.lowest <= number <= layout.highest:
        return f"the rating {text[:40]!r} is outside {layout.lowest:g} to {layout.highest:g}"
    return None


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line, without byte order mark and line end.

    Raises:
        PermanentError: A line is not in the encoding.
    """
    with cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                found = line[error.start : error.start + 8]
                raise bad_line(path, number, f"byte {error.start + 1} is not {encoding}: {found!r}") from error
            yield number, text.rstrip("\r\n").removeprefix("\ufeff")
