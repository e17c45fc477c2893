"""Delimited text into DuckDB, with errors that name the line; which file means what is the adapters' business."""

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
_HIGHEST = 5
_NUMBERS = {"rating": "DOUBLE", "timestamp": "BIGINT"}


@dataclass(frozen=True)
class Layout:
    """How a file's lines are cut into fields, and the ratings that it may hold."""

    columns: tuple[str, ...]  # our names, in the file's order; those that end with `_id` must not be empty
    delimiter: str
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header: bool = False
    quote: str = ""
    lowest: float = 0.5


def bad_line(path: Path, number: int, problem: str) -> PermanentError:
    """The error for one line of a raw file, counted from 1."""
    return PermanentError("read the raw file", where=f"{path}, line {number}", problem=problem, remedy=REMEDY)


def load(connection: duckdb.DuckDBPyConnection, table: str, path: Path, layout: Layout) -> None:
    """Create ``table``: ``row``, and the layout's columns as text, rating and timestamp as numbers; an error names a bad line."""
    import duckdb

    types = ", ".join(f"{literal(name)}: {literal(_NUMBERS.get(name, 'VARCHAR'))}" for name in layout.columns)
    reader = (
        f"read_csv({literal(exact_path(path))}, delim={literal(layout.delimiter)}, encoding={literal(layout.encoding)},"
        f" header={str(layout.header).lower()}, quote={literal(layout.quote)}, escape={literal(layout.quote)}, comment='',"
        f" auto_detect=false, strict_mode=true, null_padding=false, columns={{{types}}})"
    )
    bad = [f'"{name}" IS NULL' for name in layout.columns if name in _NUMBERS or name.endswith("_id")]
    bad += [f"rating NOT BETWEEN {layout.lowest} AND {_HIGHEST}"] if "rating" in layout.columns else []
    # DuckDB numbers rows in file order whatever its number of threads, and ties in time are common enough (713 of 943 users
    # of MovieLens-100K near their targets) for the order to matter.
    try:
        connection.execute(f"CREATE TABLE {table} AS SELECT row_number() OVER () AS row, * FROM {reader}")
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise _diagnose(path, layout, str(error)) from error
    counts = f"SELECT count(*), count(*) FILTER ({' OR '.join(bad)}) FROM {table}"
    rows, unusable = query(counts, on=connection).to_pylist()[0].values()
    if rows == 0:
        raise bad_line(path, 1, "the file has a header and no rows" if layout.header else "the file is empty")
    if unusable:
        raise _diagnose(path, layout, f"{unusable} rows are not usable")


def _diagnose(path: Path, layout: Layout, found: str) -> PermanentError:
    """The first line that breaks a rule, found by a second and slow pass in Python; else what DuckDB found."""
    for number, line in lines(path, layout.encoding):
        if not line.strip() or (layout.header and number == 1):
            continue
        fields = next(csv.reader([line], delimiter=layout.delimiter)) if layout.quote else line.split(layout.delimiter)
        if len(fields) == len(layout.columns):
            problems = [_problem(name, text, layout) for name, text in zip(layout.columns, fields, strict=True)]
        else:
            problems = [f"{len(fields)} fields where {path.name.removesuffix('.gz')} has {len(layout.columns)}"]
        for problem in filter(None, problems):
            return bad_line(path, number, f"{problem}: {line[:80]!r}")
    problem = " ".join(found.split("Possible", maxsplit=1)[0].split())
    return PermanentError("read the raw file", where=str(path), problem=problem, remedy=REMEDY)


def _problem(name: str, text: str, layout: Layout) -> str | None:
    if name.endswith("_id") and not text:
        return f"the {name.replace('_', ' ')} is empty"
    if name not in _NUMBERS:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return f"the {name} {text[:40]!r} is not a number"
    outside = name == "rating" and not layout.lowest <= number <= _HIGHEST
    return f"the rating {text[:40]!r} is outside {layout.lowest:g} to {_HIGHEST}" if outside else None


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line, without byte order mark and line end; PermanentError where it can't be decoded."""
    with cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                found = line[error.start : error.start + 8]
                raise bad_line(path, number, f"byte {error.start + 1} is not {encoding}: {found!r}") from error
            yield number, text.rstrip("\r\n").removeprefix("\ufeff")
