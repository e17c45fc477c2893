"""The generation cache: answers by key, in immutable shards.

What belongs here: reading and writing shards. What doesn't: which requests exist (`plan`). A shard is a Parquet file
named by the SHA-256 of its bytes and put in place by a rename, so a killed writer leaves none, and a damaged one shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from reasoningrec_assets.generation.requests import Answer, ModelIdentity
from reasoningrec_assets.lake.files import disk_errors, move_into_place, scratch_folder, sha256_file

SUFFIX = ".parquet"


class GenerationCache:
    """The answers of one model identity.

    Args:
        root: Folder of all caches; unfinished shards lie in ``scratch/`` beside it.
        identity: Whose answers these are; each identity has a folder of its own.
    """

    def __init__(self, root: Path, identity: ModelIdentity) -> None:
        self.folder = root / identity.folder
        self.scratch = root.parent / "scratch"

    def lookup(self, keys: Collection[str], *, log: Callable[[str], None] = print) -> dict[str, Answer]:
        """The answers that are there, by key. A damaged shard is set aside, so that its answers are written again."""
        import pyarrow.parquet as pq

        wanted = set(keys)
        found: dict[str, Answer] = {}
        for shard in sorted(self.folder.glob(f"*{SUFFIX}")):
            if sha256_file(shard) != shard.stem:
                aside = shard.with_suffix(".corrupt")
                shard.replace(aside)
                log(
                    f"the cache shard {shard.name} does not match its checksum: set aside as {aside.name}, its answers are written again"
                )
                continue
            for row in pq.read_table(shard).to_pylist():
                if row["key"] in wanted:
                    found[row["key"]] = Answer(**row)
        return found

    def commit(self, answers: Sequence[Answer]) -> None:
        """Write one chunk of answers as a shard. Answers with an error are left out: they are tried again."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [dataclasses.asdict(answer) for answer in answers if answer.error is None]
        if not rows:
            return
        schema = pa.schema(
            [
                ("key", pa.string()),
                ("text", pa.string()),
                ("finish_reason", pa.string()),
                ("prompt_tokens", pa.int64()),
                ("completion_tokens", pa.int64()),
                ("seconds", pa.float64()),
                ("attempts", pa.int64()),
                ("error", pa.string()),
            ]
        )
        with disk_errors("write to the generation cache", self.folder), scratch_folder(self.scratch) as scratch:
            shard = scratch / "shard.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), shard, compression="zstd")
            move_into_place(shard, self.folder / f"{sha256_file(shard)}{SUFFIX}")
