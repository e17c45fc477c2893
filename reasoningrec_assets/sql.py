"""DuckDB as every stage uses it: connections that never download anything, values bound by name, results as Arrow.

No table or rule of the method belongs here, and not the catalogue's file, which `catalog.projection` opens.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def connect(*, threads: int | None = None, temp_directory: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that spills to disk beyond 2 GB; it never loads or fetches an extension.

    Args:
        threads: All cores by default.
        temp_directory: Where to spill; the system's temporary folder by default.
    """
    import duckdb

    # The default spill folder of an in-memory database is the working directory; DuckDB creates it only when needed.
    spill = temp_directory or Path(tempfile.gettempdir()) / f"reasoningrec-duckdb-{os.getpid()}"
    config: dict[str, Any] = {
        "memory_limit": "2GB",
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    return duckdb.connect(config=config | ({"threads": threads} if threads else {}))


def literal(text: str) -> str:
    """A SQL string literal, for the few places that take no bound value."""
    return "'" + text.replace("'", "''") + "'"


def exact_path(path: Path) -> str:
    """The path such that DuckDB's readers take it literally, though they expand ``*``, ``?`` and ``[``."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def query(sql: str, *, on: duckdb.DuckDBPyConnection | None = None, **values: object) -> pa.Table:
    """All rows of a query, run ``on`` a connection or on a fresh one, with ``$name`` bound to each value, paths literally."""
    return _run(sql, on or connect(), values).to_arrow_table()


def stream(sql: str, *, on: duckdb.DuckDBPyConnection, **values: object) -> pa.RecordBatchReader:
    """As `query`, as record batches to be read once; the reader keeps its connection alive until it is dropped."""
    return _run(sql, on, values).to_arrow_reader(100_000)


def _run(sql: str, connection: duckdb.DuckDBPyConnection, values: dict[str, object]) -> duckdb.DuckDBPyRelation:
    return connection.sql(sql, params={name: _bound(value) for name, value in values.items()})


def _bound(value: object) -> object:
    if isinstance(value, Path):
        return exact_path(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_bound(one) for one in value]
    return value
