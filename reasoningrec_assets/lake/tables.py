"""The one writer of tables, and the readers that go with it; equal rows give equal bytes, so a SHA-256 names a version."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TableSchema
from reasoningrec_assets.sql import DataType, Reader, Schema, Table

ROW_GROUP = 122_880  # DuckDB's own row-group size: its scans then hand one group to one thread


def write_table(schema: TableSchema, data: Table | Reader, path: Path, *, dataset: str) -> int:
    """Validate rows, matching columns by name, write them to a scratch path, flat in memory, and return their number.

    Refused, as a PermanentError, is a column that is missing, unexpected, of another type or null, a row of another
    partition than `dataset`, and a table without any row.
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
    given = {name: reader.schema.field(name).type for name in names}
    unfit = [f"{f.name} is {given[f.name]}, not {f.type}" for f in arrow if not _fits(given[f.name], f.type)]
    if unfit:
        raise _refused(schema, f"columns of another type: {', '.join(unfit)}")
    rows = 0
    # times and counts hardly repeat: a dictionary of them is larger than they are
    repeating: Any = [f.name + ".list.element" * pa.types.is_list(f.type) for f in arrow if f.type != pa.int64()]
    with pq.ParquetWriter(path, arrow, compression="zstd", use_dictionary=repeating) as writer:
        for group in _exact_groups(reader, ROW_GROUP):
            writer.write_table(_conform(schema, group, arrow, dataset), row_group_size=ROW_GROUP)
            rows += group.num_rows
    if rows == 0:
        raise _refused(schema, "it would have no row")
    return rows


def _fits(given: DataType, declared: DataType) -> bool:
    """Whether a cast changes a value's width alone: ids that went through floats would silently become `1.0`."""
    from pyarrow import types

    if types.is_null(given):
        return True
    if types.is_dictionary(given):
        return _fits(given.value_type, declared)
    if types.is_list(declared):
        is_list = types.is_list(given) or types.is_large_list(given) or types.is_list_view(given)
        return is_list and _fits(given.value_type, declared.value_type)
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    numbers = (types.is_integer, types.is_decimal)  # DuckDB sums integers as decimals; a fraction is refused by the cast itself
    alike = {"string": texts, "bool": (types.is_boolean,), "int64": numbers, "double": (*numbers, types.is_floating)}
    return any(is_one(given) for is_one in alike[str(declared)])


def _conform(schema: TableSchema, group: Table, arrow: Schema, dataset: str) -> Table:
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


def _exact_groups(reader: Reader, size: int) -> Iterator[Table]:
    """Regroup batches to exactly `size` rows, so that the bytes do not depend on how the rows arrived."""
    import pyarrow as pa

    rest = reader.schema.empty_table()
    for batch in reader:
        rest = pa.concat_tables([rest, pa.Table.from_batches([batch], reader.schema)])
        while rest.num_rows >= size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
    if rest.num_rows:
        yield rest


def read_rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """All rows of a table as dictionaries; for tables that fit in memory, such as texts and splits."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=columns).to_pylist()


def preview(path: Path) -> str:
    """The first ten rows in Markdown, for the Dagster UI and the receipt."""
    import pyarrow.parquet as pq

    head = next(pq.ParquetFile(path).iter_batches(batch_size=10))
    return markdown(head.schema.names, (row.values() for row in head.to_pylist()))


def markdown(names: Collection[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table, its cells cut at 120 characters and without markup of their own."""
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (names, ["---"] * len(names), *rows))


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    text = text if len(text) <= 120 else text[:119] + "…"
    return re.sub(r"([|\\`\[\]])", r"\\\1", text).replace("<", "&lt;")  # a title may be an image or a link


def _refused(schema: TableSchema, problem: str) -> PermanentError:
    where = "reasoningrec_assets/lake/schemas.toml declares it"
    remedy = "Correct the step that makes the rows, or the declaration; nothing was published"
    return PermanentError(f"write the table {schema.name}", where=where, problem=problem, remedy=remedy)
