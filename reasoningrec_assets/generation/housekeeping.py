"""The cache over its life: what it holds, what no live table (the newest of its partition) refers to, and all labels as one file."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from reasoningrec_assets import sql
from reasoningrec_assets.generation.cache import IDENTITY, intact_shards, shard_schema, write_shard
from reasoningrec_assets.lake.files import canonical_json, disk_errors, exclusive, move_into_place, scratch_folder
from reasoningrec_assets.lake.steps import Lake

_SQL = sql.statements(__file__)


def statistics(root: Path) -> list[dict[str, Any]]:
    """One row for each model identity: its fields, and its shards, answers, tokens, seconds and bytes."""
    rows: list[dict[str, Any]] = []
    for folder in _folders(root):
        summed = ("prompt_tokens", "completion_tokens", "seconds")
        row: Any = Counter(dict.fromkeys(("shards", "answers", *summed), 0))
        row["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
        for _, table in intact_shards(folder, print):
            row.update(shards=1, answers=table.num_rows, **{name: sum(table[name].to_pylist()) for name in summed})
        rows.append(json.loads((folder / IDENTITY).read_text(encoding="utf-8")) | row)
    return rows


def collect_garbage(root: Path, *, older_than_days: float, delete: bool) -> dict[str, int]:
    """Remove, or only count, answers of older shards that no live table refers to, explanations among them."""
    import pyarrow.compute as pc

    paths = [Path(table["path"]) for table in _live_tables(root)]
    live = sql.query(_SQL["live_keys"], tables=paths)["cache_key"].to_pylist() if paths else []
    figures = {"answers_kept": 0, "answers_removed": 0, "shards_removed": 0, "damaged_removed": 0}
    before = time.time() - older_than_days * 86_400
    for folder in _folders(root):
        with exclusive(folder / ".lock", on_wait=lambda: print("a run is writing with this model; waiting")):
            for path in [path for path in folder.glob("*.corrupt") if path.stat().st_mtime < before]:
                figures["damaged_removed"] += 1
                if delete:
                    path.unlink()
            for path, table in intact_shards(folder, print):
                if path.stat().st_mtime >= before:
                    continue
                kept = table.filter(pc.field("key").isin(live))
                removed = table.num_rows - kept.num_rows
                figures["answers_kept"] += kept.num_rows
                figures["answers_removed"] += removed
                figures["shards_removed"] += removed > 0
                if delete and removed:
                    if kept.num_rows:  # before the old one goes: a kill between the two leaves an answer twice, never none
                        write_shard(kept, folder)
                    path.unlink()
    return figures


def export_labels(root: Path, target: Path) -> int:
    """Write every live text with its receipt and its answer's figures into one Parquet file, and return the rows."""
    import pyarrow as pa

    if not (tables := _live_tables(root)):
        return 0
    connection = sql.connect()
    connection.register("receipts", pa.Table.from_pylist(tables))
    told = ["text", "finish_reason", "error"]  # by the tables too
    shards = [shard.drop_columns(told) for folder in _folders(root) for _, shard in intact_shards(folder, print)]
    connection.register("shards", pa.concat_tables([shard_schema().empty_table().drop_columns(told), *shards]))
    with disk_errors("export the labels", target), scratch_folder(root / "scratch") as scratch:
        written = scratch / "labels.parquet"
        sql.execute(_SQL["export"], on=connection, tables=[Path(table["path"]) for table in tables], target=str(written))
        rows = sql.query("SELECT count(*) AS n FROM read_parquet($path)", path=written).to_pylist()[0]["n"]
        move_into_place(written, target)
    return int(rows)


def _folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "cache").glob(f"*/{IDENTITY}"))


def _live_tables(root: Path) -> list[dict[str, Any]]:
    """Of every table whose rows name a cached answer: its path, and what its newest receipt says of where it came from."""
    lake = Lake(root)
    partitions = {tuple(path.rsplit("/", 2)[:2]) for path in lake.receipts.files() if "/checks/" not in path}
    tables: list[dict[str, Any]] = []
    for asset, partition in sorted(partitions):
        receipt = lake.receipts.newest(asset, partition)
        if receipt and any(column["name"] == "cache_key" for column in receipt.columns):
            told = {name: getattr(receipt, name) for name in ("asset", "data_version", "code_version", "run_id", "finished_at")}
            told |= {name: canonical_json(getattr(receipt, name)) for name in ("settings", "prompts", "models")}
            tables.append({"path": str(lake.path_of(receipt)), **told})
    return tables
