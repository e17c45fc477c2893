"""The generation cache: answers by key, in immutable Parquet files that a rename puts in place, named by their bytes' SHA-256."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.requests import Answer, ModelIdentity
from reasoningrec_assets.lake.files import canonical_json, disk_errors, move_into_place, scratch_folder, sha256_file
from reasoningrec_assets.sql import Schema, Table

IDENTITY = "identity.json"


class GenerationCache:
    """The answers of one model identity, in a folder of its own below `root`; unfinished shards lie in ``scratch/`` beside it."""

    def __init__(self, root: Path, identity: ModelIdentity) -> None:
        self.folder = root / identity.folder
        self.identity = identity

    def lookup(self, keys: Collection[str], *, log: Log = print) -> tuple[dict[str, Answer], float | None]:
        """The answers that are there, by key, and the seconds that a token of these and all others took, if there are any."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(list(keys), pa.string())
        found: dict[str, Answer] = {}
        tokens, seconds = 0, 0.0
        for _, table in intact_shards(self.folder, log):
            tokens += sum(table["completion_tokens"].to_pylist())
            seconds += sum(table["seconds"].to_pylist())
            rows = table.filter(pc.field("key").isin(wanted)).to_pylist(maps_as_pydicts="strict")
            found.update((row["key"], Answer(**row)) for row in rows)
        return found, seconds / tokens if tokens else None

    def commit(self, answers: Sequence[Answer]) -> None:
        """Write one chunk of answers as a shard. Answers with an error are left out: they are tried again."""
        import pyarrow as pa

        rows = [asdict(answer) for answer in answers if answer.error is None]
        if rows:
            write_shard(pa.Table.from_pylist(rows, schema=shard_schema()), self.folder, self.identity)


def shard_schema() -> Schema:
    """The columns of a shard: the fields of an `Answer`."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    columns = {"key": text, "text": text, "finish_reason": text, "prompt_tokens": number, "completion_tokens": number}
    columns |= {"seconds": pa.float64(), "attempts": number, "first_logprobs": pa.map_(text, pa.float64()), "error": text}
    return pa.schema(columns)


def write_shard(table: Table, folder: Path, identity: ModelIdentity | None = None) -> None:
    """Put a shard in place, and beside the first one a file that says whose answers these are."""
    import pyarrow.parquet as pq

    with disk_errors("write to the generation cache", folder), scratch_folder(folder.parents[1] / "scratch") as scratch:
        if identity is not None and not (folder / IDENTITY).exists():
            (scratch / IDENTITY).write_text(canonical_json(asdict(identity)), encoding="utf-8")
            move_into_place(scratch / IDENTITY, folder / IDENTITY)
        shard = scratch / "shard.parquet"
        pq.write_table(table, shard, compression="zstd")
        move_into_place(shard, folder / f"{sha256_file(shard)}.parquet")


def intact_shards(folder: Path, log: Log) -> Iterator[tuple[Path, Table]]:
    """Every shard that matches its checksum. A damaged one is set aside, so that its answers are written again."""
    import pyarrow.parquet as pq

    for shard in sorted(folder.glob("*.parquet")):
        try:
            if sha256_file(shard) == shard.stem:
                yield shard, pq.read_table(shard)
                continue
            aside = shard.replace(shard.with_suffix(".corrupt"))
        except FileNotFoundError:  # a gc removed it meanwhile, or another run set it aside
            continue
        log(f"the cache shard {shard} does not match its checksum: set aside as {aside.name}, its answers are written again")
