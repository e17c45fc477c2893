"""The cache over its life, on tables and shards made for the purpose."""

from __future__ import annotations

import os
import shutil
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.__main__ import main
from reasoningrec_assets.generation.cache import GenerationCache, intact_shards
from reasoningrec_assets.generation.requests import Answer, ModelIdentity
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step

IDENTITY = ModelIdentity("teacher", "transformers")


def answer(key):
    return Answer(key, f"text of {key}", "stop", 10, 3, 0.5)


def describe(root, keys, dataset="demo"):
    rows = [
        {"dataset": dataset, "item_id": key, "text": f"text of {key}", "status": "ok", "finish_reason": "stop", "error": None}
        | {"model": "teacher", "cache_key": key}
        for key in keys
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["item_descriptions"].arrow())
    step = Step("item_descriptions", dataset, code_version="1", settings={"keys": keys}, run_id="run")
    run_step(Lake(root), step, lambda _: Output(table=table, prompts={"item_description": "hash"}), log=lambda _: None)


@pytest.fixture
def root(tmp_path):
    """Three shards, of which the newest table needs the first whole and one answer of the second."""
    cache = GenerationCache(tmp_path / "cache", IDENTITY)
    for keys in (["a", "b"], ["c", "old"], ["older", "oldest"]):
        cache.commit([answer(key) for key in keys])
    describe(tmp_path, ["a", "old", "older"])
    describe(tmp_path, ["a", "b", "c"])
    return tmp_path


def age(root, days):
    for path in (root / "cache").rglob("*.parquet"):
        os.utime(path, (time.time() - days * 86_400,) * 2)


def keys_of(root):
    return sorted(key for path in (root / "cache").rglob("*.parquet") for key in pq.read_table(path)["key"].to_pylist())


def test_stats_tell_what_each_model_holds(root, capsys):
    assert main(["--data", str(root), "cache"]) == 0
    names, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines())
    told = dict(zip(names, row, strict=True))
    wanted = {"model": "teacher", "shards": "3", "answers": "6", "prompt_tokens": "60", "completion_tokens": "18"}
    assert wanted.items() <= told.items()


def test_gc_counts_first_and_removes_only_when_told(root, capsys):
    age(root, 31)
    assert main(["--data", str(root), "gc"]) == 0
    assert "answers kept: 3, answers removed: 3, shards removed: 2" in capsys.readouterr().out
    assert len(keys_of(root)) == 6
    main(["--data", str(root), "gc", "--delete"])
    assert keys_of(root) == ["a", "b", "c"]
    found, _ = GenerationCache(root / "cache", IDENTITY).lookup(["a", "b", "c", "old"])
    assert found == {key: answer(key) for key in "abc"}


def test_gc_leaves_young_shards_alone(root):
    main(["--data", str(root), "gc", "--delete"])
    assert len(keys_of(root)) == 6


def test_export_holds_every_live_text_with_where_it_came_from(root, capsys):
    describe(root, ["a", "c"], dataset="another")
    target = root / "labels.parquet"
    assert main(["--data", str(root), "export-labels", str(target)]) == 0
    assert capsys.readouterr().out == f"5 rows in {target}\n"
    rows = pq.read_table(target).to_pylist()
    assert [(row["dataset"], row["item_id"]) for row in rows] == [
        ("another", "a"),
        ("another", "c"),
        ("demo", "a"),
        ("demo", "b"),
        ("demo", "c"),
    ]
    newest = Lake(root).receipts.newest("item_descriptions", "demo")
    last = rows[-1]
    assert (last["text"], last["asset"], last["data_version"]) == ("text of c", "item_descriptions", newest.data_version)
    assert (last["prompt_tokens"], last["completion_tokens"], last["attempts"]) == (10, 3, 1)
    assert last["prompts"] == '{"item_description":"hash"}'


def test_export_without_a_cache_still_holds_the_texts(root):
    shutil.rmtree(root / "cache")
    assert main(["--data", str(root), "export-labels", str(root / "labels.parquet")]) == 0
    rows = pq.read_table(root / "labels.parquet").to_pylist()
    assert [(row["text"], row["prompt_tokens"]) for row in rows] == [
        ("text of a", None),
        ("text of b", None),
        ("text of c", None),
    ]


def test_a_shard_that_a_gc_removes_meanwhile_is_passed_over(root):
    cache = GenerationCache(root / "cache", IDENTITY)
    shards = intact_shards(cache.folder, lambda _: None)
    next(shards)
    for path in cache.folder.glob("*.parquet"):
        path.unlink()
    assert list(shards) == []
