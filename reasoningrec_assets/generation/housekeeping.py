"""The cache over its life: what it holds, what can go, and the labels it stands behind, as one file.

What belongs here: what looks at all shards and all live tables. What doesn't: writing answers (`run`). A table is live
when it is the newest of its asset and partition.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reasoningrec_assets import sql
from reasoningrec_assets.generation.cache import IDENTITY, intact_shards, shard_schema, write_shard
from reasoningrec_assets.lake.files import canonical_json, disk_errors, exclusive, move_into_place, scratch_folder
from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import Lake

Log = Callable[[str], None]

_EXPORT_SQL = """
COPY (
    SELECT tables.* EXCLUDE (filename), receipts.* EXCLUDE (path), answers.* EXCLUDE (key)
    FROM read_parquet($tables, union_by_name = true, filename = true) AS tables
    JOIN receipts ON tables.filename = receipts.path
    LEFT JOIN answers ON tables.cache_key = answers.key
    ORDER BY receipts.asset, tables.dataset, tables.cache_key
) TO $target (FORMAT parquet, COMPRESSION zstd)
"""


def live_tables(lake: Lake) -> list[Receipt]:
    """The newest receipt of every table whose rows name a cached answer."""
    partitions = {tuple(path.rsplit("/", 2)[:2]) for path in lake.receipts.files() if "/checks/" not in path}
    newest = [lake.receipts.newest(asset, partition) for asset, partition in sorted(partitions)]
    return [receipt for receipt in newest if receipt and any(column["name"] == "cache_key" for column in receipt.columns)]


def statistics(root: Path, log: Log = print) -> list[dict[str, Any]]:
    """One row for each model identity: shards, answers, tokens, seconds and bytes."""
    rows: list[dict[str, Any]] = []
    for folder in _folders(root):
        row = {"identity": json.loads((folder / IDENTITY).read_text(encoding="utf-8")), "shards": 0, "answers": 0}
        row |= {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "seconds": 0.0,
            "bytes": sum(p.stat().st_size for p in folder.iterdir()),
        }
        for _, table in intact_shards(folder, log):
            row["shards"] += 1
            row["answers"] += table.num_rows
            for name in ("prompt_tokens", "completion_tokens", "seconds"):
                row[name] += sum(table[name].to_pylist())
        rows.append(row)
    return rows


def collect_garbage(root: Path, *, older_than_days: float, delete: bool, log: Log = print) -> dict[str, int]:
    """Remove answers that no live table refers to from shards older than so many days; without `delete`, only count them.

    Explanations are among them: predictions hold their text, and need no answer again before something changes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lake = Lake(root)
    live = pa.array(sorted(_live_keys(lake)), pa.string())
    figures = {"answers_kept": 0, "answers_removed": 0, "shards_removed": 0, "damaged_removed": 0}
    before = time.time() - older_than_days * 86_400
    for folder in _folders(root):
        with exclusive(folder / ".lock", on_wait=lambda: log("a run is writing with this model; waiting")):
            damaged = [path for path in folder.glob("*.corrupt") if path.stat().st_mtime < before]
            figures["damaged_removed"] += len(damaged)
            for path, table in intact_shards(folder, log):
                if path.stat().st_mtime >= before:
                    continue
                kept = table.filter(pc.field("key").isin(live))
                figures["answers_kept"] += kept.num_rows
                figures["answers_removed"] += table.num_rows - kept.num_rows
                if kept.num_rows < table.num_rows:
                    figures["shards_removed"] += 1
                    if delete and kept.num_rows:  # the rest first: a kill between the two leaves an answer twice, never none
                        write_shard(kept, folder, root / "scratch")
                    if delete:
                        path.unlink()
            for path in damaged if delete else ():
                path.unlink()
    return figures


def export_labels(root: Path, target: Path, *, log: Log = print) -> int:
    """Write every live text with its receipt and its answer's figures into one Parquet file, and return the rows."""
    import pyarrow as pa

    lake = Lake(root)
    tables = live_tables(lake)
    if not tables:
        return 0
    connection = sql.connect()
    connection.register("receipts", pa.Table.from_pylist([_provenance(lake, receipt) for receipt in tables]))
    dropped = ["text", "finish_reason", "error"]  # the tables have them
    shards = [shard.drop_columns(dropped) for folder in _folders(root) for _, shard in intact_shards(folder, log)]
    # a gc that was killed leaves a key in two shards: the same answer, and one row for it
    connection.register("all_answers", pa.concat_tables([shard_schema().empty_table().drop_columns(dropped), *shards]))
    connection.execute(
        "CREATE VIEW answers AS SELECT * FROM all_answers QUALIFY row_number() OVER (PARTITION BY key ORDER BY seconds) = 1"
    )
    with disk_errors("export the labels", target), scratch_folder(root / "scratch") as scratch:
        written = scratch / "labels.parquet"
        paths = [sql.exact_path(lake.path_of(receipt)) for receipt in tables]
        connection.execute(_EXPORT_SQL, {"tables": paths, "target": str(written)})
        rows = sql.query("SELECT count(*) AS n FROM read_parquet($path)", path=written).to_pylist()[0]["n"]
        move_into_place(written, target)
    return int(rows)


def _folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "cache").glob(f"*/{IDENTITY}"))


def _live_keys(lake: Lake) -> set[str]:
    keys: set[str] = set()
    for receipt in live_tables(lake):
        found = sql.query(
            "SELECT DISTINCT cache_key FROM read_parquet($path) WHERE cache_key IS NOT NULL", path=lake.path_of(receipt)
        )
        keys.update(found["cache_key"].to_pylist())
    return keys


def _provenance(lake: Lake, receipt: Receipt) -> dict[str, Any]:
    told = {name: getattr(receipt, name) for name in ("asset", "data_version", "code_version", "run_id", "finished_at")}
    told |= {name: canonical_json(getattr(receipt, name)) for name in ("settings", "prompts", "models")}
    return {"path": str(lake.path_of(receipt)), **told}
