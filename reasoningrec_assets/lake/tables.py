"""The one writer of tables, and the readers that go with it.

What belongs here: schema validation and Parquet. A table's file is written with fixed row groups and settings, so equal
rows give equal bytes and the file's SHA-256 is the table's data version: one figure both names and verifies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 122_880  # DuckDB's own row-group size: its scans then hand one group to one thread


def write_table(schema: TableSchema, data: pa.Table | pa.RecordBatchReader, path: Path, *, dataset: str) -> int:
    """Validate rows against a declared schema and write them as Parquet, a row group at a time.

    Args:
        schema: The declared columns; data is matched to them by name, never by position.
        data: A table, or a reader whose memory stays flat however many rows there are.
        path: Where to write; a scratch path, since the file is complete only when this returns.
        dataset: The partition; every row's ``dataset`` has to equal it.

    Returns:
        The number of rows written.

    Raises:
        PermanentError: A column is missing, unexpected, of another type or null, a row belongs to another partition,
            or there is no row at all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = data.to_reader() if isinstance(data, pa.Table) else data
    arrow = schema.arrow()
    names = reader.schema.names
    if sorted(names) != sorted(arrow.names):
        missing, extra = sorted(set(arrow.names) - {*names}), sorted({*names} - {*arrow.names})
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _refused(schema, f"columns missing: {missing}, not declared: {extra}, there twice: {twice}")
    unfit = [
        f"{field.name} is {reader.schema.field(field.name).type}, not {field.type}"
        for field in arrow
        if not _fits(reader.schema.field(field.name).type, field.type)
    ]
    if unfit:
        raise _refused(schema, f"columns of another type: {', '.join(unfit)}")
    rows = 0
    with pq.ParquetWriter(path, arrow, compression="zstd") as writer:
        for group in _exact_groups(reader, ROW_GROUP):
            table = _conform(schema, group, arrow, dataset)
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
    if rows == 0:
        raise _refused(schema, "it would have no row")
    return rows


def _fits(given: pa.DataType, declared: pa.DataType) -> bool:
    """Whether a cast changes a value's width alone: ids that went through floats would silently become `1.0`."""
    from pyarrow import types

    if types.is_null(given):
        return True
    if types.is_dictionary(given):
        return _fits(given.value_type, declared)
    if types.is_list(declared):
        is_list = types.is_list(given) or types.is_large_list(given) or types.is_list_view(given)
        return is_list and _fits(given.value_type, declared.value_type)
    if types.is_string(declared):
        return types.is_string(given) or types.is_large_string(given) or types.is_string_view(given)
    if types.is_boolean(declared):
        return types.is_boolean(given)
    # DuckDB sums integers as decimals; a fraction is refused by the cast itself
    whole = types.is_integer(given) or types.is_decimal(given)
    return whole or (types.is_floating(given) and types.is_floating(declared))


def _conform(schema: TableSchema, group: pa.Table, arrow: pa.Schema, dataset: str) -> pa.Table:
    group = group.select(arrow.names)
    for field in arrow:
        if not field.nullable and group.column(field.name).null_count:
            raise _refused(schema, f"column {field.name} holds nulls")
    if group.column("dataset").unique().to_pylist() != [dataset]:
        raise _refused(schema, f"rows of another partition than {dataset}")
    try:
        return group.cast(arrow).combine_chunks()
    except (ValueError, NotImplementedError) as error:
        raise _refused(schema, f"a column does not fit its declared type: {error}") from error


def _exact_groups(reader: pa.RecordBatchReader, size: int) -> Iterator[pa.Table]:
    """Regroup batches to exactly `size` rows, so that the bytes do not depend on how the rows arrived."""
    import pyarrow as pa

    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        start = 0
        while count + batch.num_rows - start >= size:
            take = size - count
            yield pa.Table.from_batches([*pending, batch.slice(start, take)], reader.schema)
            pending, count, start = [], 0, start + take
        if start < batch.num_rows:
            pending.append(batch.slice(start))
            count += batch.num_rows - start
    if count:
        yield pa.Table.from_batches(pending, reader.schema)


def read_rows(path: Path, columns: list[str] | None = None) -> list[dict[str, object]]:
    """All rows of a table as dictionaries; for tables that fit in memory, such as texts and splits."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=columns).to_pylist()


def preview(path: Path, limit: int = 10, width: int = 120) -> str:
    """The first rows as a Markdown table, cells cut, for the Dagster UI and the receipt."""
    import pyarrow.parquet as pq

    head = next(pq.ParquetFile(path).iter_batches(batch_size=limit))
    lines = ["| " + " | ".join(head.schema.names) + " |", "|" + " --- |" * len(head.schema.names)]
    lines += ["| " + " | ".join(_cell(row[name], width) for name in head.schema.names) + " |" for row in head.to_pylist()]
    return "\n".join(lines)


def _cell(value: object, width: int) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= width else text[: width - 1] + "…"


def _refused(schema: TableSchema, problem: str) -> PermanentError:
    return PermanentError(
        f"write the table {schema.name}",
        where="reasoningrec_assets/lake/schemas.py declares it",
        problem=problem,
        remedy="Correct the step that makes the rows, or the declaration; nothing was published",
    )
