"""Every table of the lake, as `schemas.toml` declares them: for the Parquet writer, the UI's schema and lineage, and the checks."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasoningrec_assets.sql import Schema, Table


@dataclass(frozen=True)
class Column:
    """A column: its type, what it means and the upstream columns, each as ``table.column``, that it is made of."""

    name: str
    type: str
    description: str
    made_of: Sequence[str] = ()
    nullable: bool = False
    key: bool = False  # it helps to identify a row


@dataclass(frozen=True)
class TableSchema:
    """A table's columns in their written order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the columns that together identify a row."""
        return tuple(column.name for column in self.columns if column.key)

    def arrow(self) -> Schema:
        """The Arrow schema that the Parquet file has to have."""
        import pyarrow as pa

        types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
        types |= {f"list<{name}>": pa.list_(types[name]) for name in ("string", "bool")}
        return pa.schema([pa.field(column.name, types[column.type], nullable=column.nullable) for column in self.columns])

    def table(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Rows as Arrow; what the schema does not name is left out."""
        import pyarrow as pa

        return pa.Table.from_pylist(rows, schema=self.arrow())


_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _columns(declared: Mapping[str, Any]) -> Iterator[Column]:
    for name, facts in declared.items():
        if facts == "common":
            yield from _columns(_DECLARED["common"][name])
        else:
            yield Column(name, **facts)


TABLES = {name: TableSchema(name, (*_columns({"every": "common"}), *_columns(own))) for name, own in _DECLARED["tables"].items()}
