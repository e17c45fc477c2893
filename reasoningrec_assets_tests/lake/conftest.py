"""Small tables of any declared schema, and steps that publish them into a real lake in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from reasoningrec_assets.lake.schemas import TABLES, TableSchema
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step


def make_rows(schema: TableSchema, dataset: str, count: int = 3, salt: str = "") -> pa.Table:
    def cell(name: str, type_: str, row: int) -> object:
        if name == "dataset":
            return dataset
        one = {"string": f"{salt}{name}{row}", "int64": row, "float64": row + 0.5, "bool": row % 2 == 0}
        return [one[type_[5:-1]]] * row if type_.startswith("list") else one[type_]

    columns = {c.name: [cell(c.name, c.type, row) for row in range(count)] for c in schema.columns}
    return pa.table(columns, schema=schema.arrow())


@pytest.fixture
def rows() -> Callable[..., pa.Table]:
    return make_rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "data")


@pytest.fixture
def publish(lake: Lake):
    """Runs one step whose table is made of `salt`; returns the receipt and whether it was reused."""

    def run(asset: str = "items", partition: str = "fashion", *, salt: str = "", table: object = None, **step: object):
        schema = TABLES[asset.rsplit("/", 1)[-1]]
        built = table if table is not None else make_rows(schema, partition, salt=salt)
        arguments = {"code_version": "1", "settings": {"salt": salt}, **step}
        return run_step(lake, Step(asset, partition, **arguments), lambda _: Output(table=built), log=lambda _: None)

    return run
