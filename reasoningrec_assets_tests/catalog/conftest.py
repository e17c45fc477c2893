"""A real lake in a temporary folder, filled through `run_step`, and helpers that read its catalogue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from reasoningrec_assets.lake.receipts import CheckReceipt, Receipt
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Lake, Output, Step, code_version, run_step, seal

UPSTREAM = {
    "raw_dataset": (),
    "cleaned_interactions": ("raw_dataset",),
    "items": ("raw_dataset", "cleaned_interactions"),
    "interaction_windows": ("cleaned_interactions",),
    "item_descriptions": ("items",),
    "sft_splits": ("interaction_windows", "item_descriptions"),
    "lora_model": ("sft_splits",),
    "predictions": ("lora_model", "sft_splits"),
    "baselines/like_rate/predictions": ("interaction_windows",),
}


class Store:
    """A lake, with one short verb for each thing that a test does to it."""

    def __init__(self, root: Path) -> None:
        self.lake = Lake(root)
        self.root = root
        self.lines: list[str] = []

    def publish(
        self, asset: str, partition: str = "fashion", *, salt: str = "", table: pa.Table | None = None, **extra
    ) -> Receipt:
        def build(inputs: Inputs) -> Output:
            generated = {"generation_requests": 3.0, "generation_cache_hits": 1.0, "generation_tokens_per_second": 9.5}
            metrics = {**(generated if asset == "item_descriptions" else {}), "bad": float("nan")}
            prompts = {"describe": "a" * 64} if asset == "item_descriptions" else {}
            common = {"metrics": metrics, "details": {"warnings": "none"}, "prompts": prompts, "device": "cpu"}
            if asset == "lora_model":
                folder = inputs.scratch / "model"
                folder.mkdir()
                (folder / "weights").write_text(salt)
                seal(folder, {"rank": 8})
                return Output(path=folder, models=({"role": "base", "reference": "hf:a/b", "revision": "1"},), **common)
            if asset == "evaluation_report":
                (inputs.scratch / "page.html").write_text(salt)
                return Output(path=inputs.scratch / "page.html", **common)
            return Output(table=table if table is not None else rows(asset, partition, salt), **common)

        settings = {"salt": salt, "nested": {"rate": 0.1, "names": ["a"]}}
        upstream = tuple(name for name in UPSTREAM.get(asset, ()) if self.lake.receipts.newest(name, partition))
        arguments = {"code_version": code_version(asset), "settings": settings, "upstream": upstream, "run_id": "run-1", **extra}
        return run_step(self.lake, Step(asset, partition, **arguments), build, log=lambda _: None)[0]

    def chain(self, partition: str = "fashion", **extra) -> None:
        for asset in UPSTREAM:
            self.publish(asset, partition, **extra)

    def fail(self, asset: str, partition: str = "fashion") -> None:
        def build(_: Inputs) -> Output:
            raise RuntimeError("the engine fell over")

        with pytest.raises(RuntimeError):
            run_step(self.lake, Step(asset, partition, "1", run_id="run-9"), build, log=lambda _: None)

    def check(self, receipt: Receipt, name: str = "leak_probe", *, passed: bool = True) -> None:
        at = "2026-01-02T03:04:05+00:00"
        self.lake.receipts.append(
            CheckReceipt(
                *(receipt.asset, receipt.partition, name, passed, "ERROR", "run-1", at, receipt.data_version),
                metrics={"auc": 0.5},
                details={"found": "it's fine"},
            )
        )

    def sync(self, **extra: float):
        from reasoningrec_assets.catalog import sync

        self.lines.clear()
        return sync(self.root, log=self.lines.append, **extra)

    def query(self, sql: str, values: list[object] | None = None) -> list[tuple]:
        """Through a plain client: no helper of ours, no extension beyond what the file needs by itself."""
        config = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        with closing(duckdb.connect(str(self.root / "catalog.duckdb"), read_only=True, config=config)) as connection:
            return connection.execute(sql, values or []).fetchall()

    def content(self) -> dict[str, list[tuple]]:
        """Every row of every table and view, in an order of its own."""
        with closing(duckdb.connect(str(self.root / "catalog.duckdb"), read_only=True)) as connection:
            names = connection.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
            return {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"').fetchall())) for (name,) in names}

    def views(self) -> set[str]:
        return {name for (name,) in self.query("SELECT view_name FROM duckdb_views() WHERE NOT internal")}


def rows(asset: str, partition: str, salt: str = "", count: int = 3) -> pa.Table:
    schema = TABLES[asset.rsplit("/", 1)[-1]]
    assert schema is not None

    def cell(name: str, type_: str, row: int) -> object:
        if name == "dataset":
            return partition
        if name == "method":
            return asset
        one = {"string": f"{salt}{name}{row}", "int64": row, "float64": row + 0.5, "bool": row % 2 == 0}
        return [one[type_[5:-1]]] * row if type_.startswith("list") else one[type_]

    columns = {c.name: [cell(c.name, c.type, row) for row in range(count)] for c in schema.columns}
    return pa.table(columns, schema=schema.arrow())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture
def evaluation() -> Callable[..., pa.Table]:
    """Makes `evaluation_metrics` from (method, metric, value, low, high, n)."""

    def make(*found: tuple, dataset: str = "fashion") -> pa.Table:
        schema = TABLES["evaluation_metrics"]
        assert schema is not None
        return pa.Table.from_pylist(
            [dict(zip(schema.arrow().names, (dataset, *row), strict=True)) for row in found], schema=schema.arrow()
        )

    return make
