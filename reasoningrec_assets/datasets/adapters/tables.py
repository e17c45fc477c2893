"""Reads the files that a dataset's record declares, with the columns that it declares: CSV, TSV and Parquet, in file order."""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.datasets.registry import COLUMNS, Dataset, Role, TimeUnit
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import Connection, exact_path, literal

_TYPES = {"rating": "DOUBLE", "timestamp": "BIGINT", "genres": "VARCHAR[]", "year": "BIGINT", "verified": "BOOLEAN"}
_TABLES: dict[Role, str] = {"ratings": "events", "items": "raw_items", "reviews": "raw_reviews"}
# the declared columns of Parquet files with their types; widths of whole numbers are alike
_UNLIKE = """SELECT name FROM (SELECT name, concat(replace(type, '32', '64'), if(converted_type LIKE '%INT%', '', converted_type)) AS kind
FROM parquet_schema([{}]) WHERE list_contains($ours, name)) GROUP BY name"""
_GENRES = "list_filter([trim(genre) FOR genre IN string_split({0}, if(contains({0}, '|'), '|', ','))], lambda genre: genre <> '')"


def adapter(dataset: Dataset) -> SimpleNamespace:
    """The adapter of one dataset: ``load_ratings``, ``load_items`` and ``load_reviews`` create ``row`` and `COLUMNS` of the role.

    A column that is not declared is null, but all reviews count as verified; ``raw_items`` is empty where no file is declared.
    An id stays as it is, but a whole number that Parquet holds as a float loses its fraction. Genres are split at ``|``, else at
    commas. PermanentError for a column that the file lacks, and as `delimited.load`.
    """
    return SimpleNamespace(**{f"load_{role}": partial(_load, dataset, role) for role in _TABLES})


def _load(dataset: Dataset, role: Role, connection: Connection, files: Mapping[str, Path]) -> None:
    import duckdb

    name, table = _TABLES[role], dataset.tables.get(role)
    if table is None:
        nothing = ", ".join(_converted(column, "", "iso") for column in COLUMNS[role])
        connection.execute(f"CREATE TABLE {name} AS SELECT NULL::BIGINT AS row, {nothing} LIMIT 0")
        return
    path, ours = files[role], {theirs: column for column, theirs in table.columns.items()}
    delimiter, reader = {"csv": ",", "tsv": "\t"}.get(path.name.removesuffix(".gz").rpartition(".")[2], ""), ""
    if delimiter:
        try:
            header = next(csv.reader([next(delimited.lines(path), "")], delimiter=delimiter), [""])
        except csv.Error as error:  # endless, or with the line ends of old Macs
            raise delimited.bad_line(path, 1, f"it is no header ({error})") from error
        kinds = dict.fromkeys(header, "VARCHAR")
    else:
        parts = sorted(one for one in path.rglob("*") if one.suffix.lower() == ".parquet") if path.is_dir() else [path]
        listed = ", ".join(literal(exact_path(one)) for one in parts)
        reader = f"read_parquet([{listed}], hive_partitioning=false)"
        try:
            sql = f"{_UNLIKE.format(listed)} HAVING count(DISTINCT kind) > 1 OR count(*) < {len(parts)}"
            if unlike := [str(name) for (name,) in connection.execute(sql, {"ours": [*ours]}).fetchall()]:
                problem = f"its files hold {', '.join(unlike)} in different types, or not all of them have it"
                remedy = "Write them again with the same columns, each of one type: read as another type, ids and stars change"
                raise PermanentError("read the raw file", where=str(path), problem=problem, remedy=remedy)
            kinds = {str(row[0]): str(row[1]) for row in connection.execute(f"DESCRIBE FROM {reader}").fetchall()}
        except duckdb.Error as error:
            raise delimited.diagnose(path, str(error)) from error
        header = list(kinds)
    if missing := [theirs for theirs in ours if header.count(theirs) != 1]:
        problem = f"it has no column {', '.join(missing)}, or two of it; its columns are {', '.join(header):.500}"
        remedy = f"Correct the columns of [tables.{role}] in the declaration of {dataset.name}"
        raise PermanentError("read the raw file", where=str(path), problem=problem, remedy=remedy)
    names = tuple(ours.get(theirs, f"other{n}") for n, theirs in enumerate(header))
    reader += f" AS file({', '.join(names)})" if reader else ""
    quote, unit = '"' if delimiter == "," else "", table.time_unit
    layout = delimited.Layout(names, delimiter, "utf-8", True, quote, dataset.lowest, dataset.highest, unit)
    select = ", ".join(_converted(one, kinds.get(table.columns.get(one, ""), ""), unit) for one in COLUMNS[role])
    delimited.load(connection, name, path, layout, reader=reader, select=select)


def _converted(column: str, kind: str, unit: TimeUnit) -> str:
    """SQL for one of our columns, from one of that name and DuckDB's type ``kind``; without a kind there is none."""
    value = f'"{column}"' if kind else {"verified": "true"}.get(column, "NULL")
    if column.endswith("_id") and kind in ("FLOAT", "DOUBLE"):
        value = f"CASE WHEN {value} % 1 = 0 THEN {value}::HUGEINT::VARCHAR WHEN isfinite({value}) THEN {value}::VARCHAR END"
    elif column == "timestamp" and (unit == "iso" or kind.startswith(("DATE", "TIMESTAMP"))):
        value = f"floor(epoch(try_cast({value} AS TIMESTAMPTZ)))"
    elif column == "timestamp" and unit == "milliseconds":
        value = f"try_cast({value} AS BIGINT) // 1000"
    elif column == "genres" and not kind.endswith("[]"):
        value = _GENRES.format(f"{value}::VARCHAR")
    # what does not say yes or no must not count as either
    cast = "cast" if column == "verified" else "try_cast"
    return f'{cast}({value} AS {_TYPES.get(column, "VARCHAR")}) AS "{column}"'
