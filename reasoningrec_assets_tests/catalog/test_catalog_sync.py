"""The projection is exact, idempotent and patient: it adds, follows, skips and rebuilds, and never fails a step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack

import duckdb
import pyarrow as pa
import pytest

from reasoningrec_assets.catalog import connect, rebuild
from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.lake.files import exclusive
from reasoningrec_assets.lake.schemas import TABLES

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read-only")
print("open", flush=True)
sys.stdin.read()
"""


def everything(store) -> None:
    store.chain()
    store.chain("beauty", salt="b", run_id="run-2")
    store.publish("items", salt="changed", run_id="run-3")
    store.fail("items")
    store.fail("user_profiles")
    store.check(store.lake.newest("items", "fashion"))
    store.check(store.lake.newest("items", "fashion"), passed=False)


def test_second_sync_changes_nothing(store):
    everything(store)
    first = store.sync()
    before = store.content()
    again = store.sync()
    assert (first, again) == (23, 0)
    assert store.content() == before
    assert store.lines == []
    assert not (store.root / "catalog.duckdb.wal").exists()


def test_incremental_syncs_equal_a_rebuild(store):
    store.chain()
    store.sync()
    store.chain("beauty", salt="b", run_id="run-2")
    store.fail("items")
    store.sync()
    store.publish("items", salt="changed", run_id="run-3")
    store.check(store.lake.newest("items", "fashion"))
    store.sync()
    incremental = store.content()
    assert rebuild(store.root, log=store.lines.append) == 21
    assert store.content() == incremental
    assert all(incremental[name] for name in incremental if name != "user_profiles"), "every table has rows to compare"


def test_materializations_hold_successes_and_failures(store):
    store.publish("raw_dataset")
    store.publish("raw_dataset", salt="new", run_id="run-2")
    store.fail("raw_dataset")
    store.sync()
    found = store.query("SELECT sequence, status, run_id, is_current, row_count, error FROM materializations ORDER BY sequence")
    assert found == [
        (1, "success", "run-1", False, 3, None),
        (2, "success", "run-2", True, 3, None),
        (3, "failed", "run-9", False, None, "RuntimeError: the engine fell over"),
    ]
    ((path, started, finished),) = store.query("SELECT path, started_at, finished_at FROM current_materializations")
    assert path == str(store.lake.path_of(store.lake.newest("raw_dataset", "fashion")))
    assert started <= finished


def test_a_new_success_replaces_the_current_one_across_syncs(store):
    for salt in ("a", "b", "c"):
        store.publish("raw_dataset", salt=salt)
        store.sync()
    assert store.query("SELECT sequence FROM current_materializations") == [(3,)]
    assert store.query("SELECT DISTINCT file_name[1] FROM raw_dataset") == [("c",)]


def test_runs_take_the_last_attempt_at_each_asset(store):
    store.chain()
    store.fail("raw_dataset")
    store.publish("raw_dataset", salt="again", run_id="run-9")
    store.fail("items")
    store.sync()
    assert store.query("SELECT run_id, status, assets FROM runs ORDER BY 1") == [("run-1", "success", 9), ("run-9", "failed", 2)]


def test_details_of_a_receipt(store):
    store.chain()
    store.check(store.lake.newest("items", "fashion"))
    store.sync()
    described = "asset = 'item_descriptions'"
    assert store.query(f"SELECT name, value FROM metadata WHERE kind = 'setting' AND {described} ORDER BY name") == [
        ("nested.names", '["a"]'),
        ("nested.rate", "0.1"),
        ("salt", ""),
    ]
    assert store.query(f"SELECT value FROM metadata WHERE name = 'warnings' AND {described}") == [("none",)]
    assert store.query(f"SELECT name FROM columns WHERE {described} ORDER BY position")[:3] == [
        ("dataset",),
        ("item_id",),
        ("text",),
    ]
    assert ("item_id", "items", "item_id") in store.query(
        f"SELECT column_name, upstream_asset, upstream_column FROM column_lineage WHERE {described}"
    )
    assert store.query("SELECT kind, name, reference, version FROM artifacts WHERE kind <> 'model' ORDER BY ALL") == [
        ("model_used", "base", "hf:a/b", "1"),
        ("prompt", "describe", None, "a" * 64),
    ]
    model = store.lake.newest("lora_model", "fashion")
    assert store.query("SELECT reference, version FROM artifacts WHERE kind = 'model'") == [
        (str(store.lake.path_of(model)), model.data_version)
    ]
    figures = "asset, requests, cache_hits, prompt_tokens, tokens_per_second"
    assert store.query(f"SELECT {figures} FROM generation_statistics") == [("item_descriptions", 3.0, 1.0, None, 9.5)]
    assert store.query("SELECT check_name, passed, details FROM check_results") == [
        ("leak_probe", True, '{"found":"it\'s fine"}')
    ]
    assert store.query("SELECT count(*) FROM metrics WHERE isnan(value)") == [(9,)]


def test_views_hold_the_current_rows_of_all_partitions(store):
    store.chain()
    store.chain("beauty")
    store.publish("items", salt="new")
    store.sync()
    assert store.query("SELECT dataset, count(*), min(title) FROM items GROUP BY 1 ORDER BY 1") == [
        ("beauty", 3, "title0"),
        ("fashion", 3, "newtitle0"),
    ]
    assert store.query("SELECT method, count(*) FROM predictions GROUP BY 1 ORDER BY 1") == [
        ("baselines/like_rate/predictions", 6),
        ("predictions", 6),
    ]
    assert store.query('SELECT count(*) FROM "baselines/like_rate/predictions"') == [(6,)]


def test_a_study_does_not_mix_into_the_main_table(store):
    store.publish("items")
    store.publish("study/no_profile/items", salt="study")
    store.sync()
    assert store.query("SELECT count(*) FROM items") == [(3,)]
    assert store.query('SELECT min(title) FROM "study/no_profile/items"') == [("studytitle0",)]


def test_boards_of_a_dataset_and_its_seeds_have_means_and_deviations(store):
    schema = TABLES["leaderboard"].arrow()
    for dataset, aucs in {
        "d": {"student": 0.7, "gone": None},
        "d_seed43": {"student": 0.8},
        "d_seed44": {"student": None},
        "d_demo": {"student": 0.1},
        "d_seeds": {"student": 0.2},  # a name of its own
    }.items():
        rows = [{"dataset": dataset, "method": method, "rows": 9, "auc": auc} for method, auc in aucs.items()]
        store.publish("leaderboard", dataset, table=pa.Table.from_pylist(rows, schema=schema))
    store.sync()
    assert store.query("FROM leaderboard_seeds") == [
        ("d", "student", 2, pytest.approx(0.75), pytest.approx(0.5**0.5 / 10), 0.7, 0.8),
        ("d", "gone", 0, None, None, None, None),
        ("d_demo", "student", 1, 0.1, None, 0.1, 0.1),
        ("d_seeds", "student", 1, 0.2, None, 0.2, 0.2),
    ]
    for dataset in ("d", "d_seed43", "d_seed44", "d_demo", "d_seeds"):
        store.lake.path_of(store.lake.newest("leaderboard", dataset)).unlink()
    store.sync()
    assert "leaderboard_seeds" not in store.views()


def test_views_come_and_go_with_their_files(store):
    store.chain()
    store.sync()
    assert "interaction_windows" in store.views()
    assert "user_profiles" not in store.views()
    store.lake.path_of(store.lake.newest("interaction_windows", "fashion")).unlink()
    store.sync()
    assert "interaction_windows" not in store.views()
    store.publish("interaction_windows")
    store.sync()
    assert store.query("SELECT count(*) FROM interaction_windows") == [(3,)]


def test_a_table_written_by_an_older_schema_is_read_by_name(store):
    store.publish("items")
    store.publish("items", "beauty")
    path = store.lake.path_of(store.lake.newest("items", "beauty"))
    duckdb.sql(f"COPY (SELECT title, item_id, dataset FROM '{path}') TO '{path}.new' (FORMAT parquet)")
    shutil.move(f"{path}.new", path)
    store.sync()
    assert store.query("SELECT dataset, title, year FROM items WHERE item_id = 'item_id0' ORDER BY 1") == [
        ("beauty", "title0", None),
        ("fashion", "title0", 0),
    ]


def test_a_damaged_table_costs_only_its_own_rows(store):
    store.publish("items")
    store.publish("items", "beauty")
    path = store.lake.path_of(store.lake.newest("items", "beauty"))
    path.write_bytes(b"PAR1 not really PAR1")
    assert store.sync() is not None
    assert str(path) in store.lines[0]
    assert len(store.lines) == 1
    assert store.query("SELECT DISTINCT dataset FROM items") == [("fashion",)]


@pytest.mark.parametrize("mode", ["read-only", "read-write"])
def test_an_open_client_makes_sync_skip_and_the_next_catches_up(mode, store):
    store.publish("raw_dataset")
    store.sync()
    command = [sys.executable, "-c", HOLDER, str(store.root / "catalog.duckdb"), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        store.publish("items")
        assert store.sync() is None
        assert store.lines == ["catalogue: another process has it open, skipped; the next sync catches up"]
        if mode == "read-write":
            with pytest.raises(TransientError, match="Conflicting lock"):
                connect(store.root, wait_seconds=0.1)
        holder.communicate()
    assert store.sync() == 1
    assert store.query("SELECT count(*) FROM items") == [(3,)]


def test_an_open_reader_in_this_process_makes_sync_skip(store):
    store.publish("raw_dataset")
    store.sync()
    with connect(store.root):
        assert store.sync() is None
    assert store.sync() is not None


def test_a_sync_that_lasts_makes_another_skip(store):
    store.publish("raw_dataset")
    with exclusive(store.root / "locks" / "catalog.lock"):
        assert store.sync(wait_seconds=0.1) is None
    assert len(store.lines) == 1
    assert not (store.root / "catalog.duckdb").exists()


def test_a_short_sync_is_waited_for(store):
    store.publish("raw_dataset")
    with ExitStack() as held:
        held.enter_context(exclusive(store.root / "locks" / "catalog.lock"))
        timer = threading.Timer(0.3, held.pop_all().close)
        timer.start()
        assert store.sync() is not None
        timer.join()
    assert store.lines == []


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "other"])
def test_a_damaged_catalogue_is_rebuilt_and_says_so(damage, store):
    everything(store)
    store.sync()
    before = store.content()
    path = store.root / "catalog.duckdb"
    if damage == "other":
        path.unlink()
        with duckdb.connect(str(path)) as connection:
            connection.execute("CREATE TABLE mine (a INTEGER)")
    else:
        path.write_bytes({"garbage": b"x" * 50_000, "cut": path.read_bytes()[:20_000], "empty": b""}[damage])
    if damage != "other":
        with pytest.raises(PermanentError, match="rebuild"):
            connect(store.root)
    assert store.sync() == 23
    assert "rebuilding it from the receipts" in store.lines[0]
    assert store.content() == before


def test_a_moved_data_root_is_noticed(store, tmp_path):
    store.publish("items")
    store.sync()
    store.root.rename(tmp_path / "moved")
    moved = type(store)(tmp_path / "moved")
    assert moved.sync() is not None
    assert "was made for" in moved.lines[0]
    assert moved.query("SELECT count(*) FROM items") == [(3,)]


def test_a_damaged_receipt_costs_only_itself(store):
    store.chain()
    folder = store.root / "receipts" / "items" / "fashion"
    good = (folder / "00000001.json").read_text()
    for number, content in enumerate(("{", json.dumps({**json.loads(good), "sequence": 3, "row_count": "many"}), good), start=2):
        (folder / f"{number:08d}.json").write_text(content)
    assert store.sync() == 9
    assert len(store.lines) == 3
    assert "it says that it is items/fashion/00000001.json" in store.lines[2]
    (folder / "00000002.json").unlink()
    store.sync()
    assert len(store.lines) == 2


def test_a_receipt_that_was_removed_is_forgotten(store):
    store.chain()
    store.publish("items", salt="new")
    store.check(store.lake.newest("items", "fashion"))
    store.sync()
    (store.root / "receipts/items/fashion/00000002.json").unlink()
    shutil.rmtree(store.root / "receipts/items/fashion/checks")
    store.sync()
    synced = store.content()
    assert store.query("SELECT sequence FROM current_materializations WHERE asset = 'items'") == [(1,)]
    rebuild(store.root)
    assert store.content() == synced


HOSTILE = ["o'brien", 'a"b', "'); DROP TABLE runs; --", "x[1]*?", "a=b", "ü %s {} $1"]


def test_hostile_names_are_only_names(store):
    for partition in HOSTILE:
        store.chain(partition)
    store.sync()
    assert store.query("SELECT count(*) FROM runs") == [(1,)]
    assert store.query("SELECT DISTINCT dataset FROM items ORDER BY 1") == [(name,) for name in sorted(HOSTILE)]
    for partition in HOSTILE:
        assert len(store.query("SELECT * FROM lineage_upstream(?, ?)", ["predictions", partition])) == 8


def test_the_catalogue_needs_no_extension_and_no_environment(store):
    everything(store)
    store.sync()
    script = (
        "import duckdb, sys\n"
        "c = duckdb.connect(sys.argv[1], read_only=True, config={'autoinstall_known_extensions': 'false'})\n"
        "print(c.sql('select * from current_materializations'), c.sql('from predictions'), c.sql('from runs'))\n"
        "print(c.sql(\"from lineage_downstream('raw_dataset', 'fashion')\"))\n"
    )
    command = [sys.executable, "-I", "-c", script, str(store.root / "catalog.duckdb")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": str(store.root / "nowhere")}).stdout
    assert "lora_model" in shown


def test_connect_is_read_only_and_says_what_is_missing(store):
    with pytest.raises(PermanentError, match=r"does not exist.*rebuild"):
        connect(store.root)
    store.publish("raw_dataset")
    store.sync()
    with connect(store.root) as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("DELETE FROM metrics")
