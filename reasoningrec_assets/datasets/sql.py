"""What every DuckDB step here shares: the connection, quoting, and the way out to Arrow.

No table or rule of the method belongs here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa

    from reasoningrec_assets.lake.schemas import TableSchema

# Rows per Arrow batch on the way out: large enough for good Parquet row groups, small enough to stream.
BATCH_ROWS = 100_000


def connect(
    *, memory_limit: str = "2GB", threads: int | None = None, temp_directory: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that spills to disk beyond ``memory_limit``; it never loads or fetches an extension."""
    import duckdb

    # The default spill folder of an in-memory database is the working directory; DuckDB creates it only when needed.
    spill = temp_directory or Path(tempfile.gettempdir()) / f"reasoningrec-duckdb-{os.getpid()}"
    config: dict[str, Any] = {
        "memory_limit": memory_limit,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    return duckdb.connect(config=config)


def literal(text: str) -> str:
    """A SQL string literal, for the few places that take no bound value."""
    return "'" + text.replace("'", "''") + "'"


def exact_path(path: Path) -> str:
    """The path such that DuckDB's readers take it literally, though they expand ``*``, ``?`` and ``[``."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def one_row(connection: duckdb.DuckDBPyConnection, query: str, params: list[object]) -> dict[str, int]:
    """The only row of a query of counts, by column name; fetched to its end, as DuckDB 2 asks before the next query."""
    result = connection.execute(query, params)
    names = [column[0] for column in result.description]
    return dict(zip(names, cast("list[tuple[int, ...]]", result.fetchall())[0], strict=True))


def stream(
    connection: duckdb.DuckDBPyConnection, query: str, schema: TableSchema, *, params: list[object], close: bool
) -> pa.RecordBatchReader:
    """The query's rows as record batches in the schema's exact types; ``close`` ends the connection after the last one."""
    import pyarrow as pa

    arrow_schema = schema.arrow()
    reader = connection.sql(query, params=params).to_arrow_reader(BATCH_ROWS)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                yield from pa.Table.from_batches([batch]).select(schema.column_names).cast(arrow_schema).to_batches()
        finally:
            if close:
                connection.close()

    return pa.RecordBatchReader.from_batches(arrow_schema, batches())
