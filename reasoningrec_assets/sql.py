"""DuckDB as every stage uses it: connections that never download anything, values bound by name, results as Arrow."""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
    from duckdb import DuckDBPyRelation as Relation
    from pyarrow import DataType, Schema, Table
    from pyarrow import RecordBatchReader as Reader
else:  # only annotations name them: neither library is loaded before it is used
    Connection = Relation = Reader = Schema = Table = DataType = Any


def connect(*, threads: int | None = None, temp_directory: Path | None = None) -> Connection:
    """An in-memory DuckDB, by default on all cores, that spills beyond 2 GB to disk and never loads or fetches an extension."""
    import duckdb

    # The default spill folder of an in-memory database is the working directory; DuckDB creates it only when needed.
    spill = temp_directory or Path(tempfile.gettempdir()) / f"reasoningrec-duckdb-{os.getpid()}"
    config: dict[str, Any] = {"memory_limit": "2GB", "temp_directory": str(spill)}
    config |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return duckdb.connect(config=config | ({"threads": threads} if threads else {}))


def statements(module: str) -> dict[str, str]:
    """The SQL that stands beside a module, in the file of its name: each text by the name in the ``-- name:`` line before it."""
    parts = re.split(r"^-- name: (.+)\n", Path(module).with_suffix(".sql").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def literal(text: str) -> str:
    """A SQL string literal, for the few places that take no bound value."""
    return "'" + text.replace("'", "''") + "'"


def exact_path(path: Path | str) -> str:
    """The path such that DuckDB's readers take it literally, though they expand ``*``, ``?`` and ``[``."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def execute(sql: str, *, on: Connection, **values: object) -> None:
    """Run statements in order, with ``$name`` bound as in `query`."""
    for statement in sql.split(";"):
        on.execute(statement, _bound(statement, values))


def query(sql: str, *, on: Connection | None = None, **values: object) -> Table:
    """All rows of a query, run ``on`` a connection or a fresh one, each ``$name`` in it bound to its value, paths literally."""
    return (on or connect()).sql(sql, params=_bound(sql, values)).to_arrow_table()


def stream(sql: str, *, on: Connection, **values: object) -> Reader:
    """As `query`, as record batches to be read once, each a row group; the reader keeps its connection until it is dropped."""
    return on.sql(sql, params=_bound(sql, values)).to_arrow_reader(122_880)


def _bound(sql: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _literally(value) for name, value in values.items() if re.search(rf"\${name}\b", sql)}


def _literally(value: Any) -> Any:
    if isinstance(value, Path):
        return exact_path(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_literally(one) for one in value]
    return value
