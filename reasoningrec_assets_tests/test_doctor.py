"""The doctor on a lake with one fault of each kind, and on a healthy one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple

import dagster as dg
import pyarrow as pa
import pytest

from reasoningrec_assets import doctor
from reasoningrec_assets.__main__ import main
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step

ITEM = {
    "dataset": "ml100k",
    "item_id": "1",
    "title": "A",
    "brand": None,
    "price": None,
    "about": None,
    "genres": [],
    "year": 1990,
}


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    lake = Lake(tmp_path)
    publish(lake, "A")
    return lake


def publish(lake, title):
    table = pa.Table.from_pylist([ITEM | {"title": title}], schema=TABLES["items"].arrow())
    return run_step(lake, Step("items", "ml100k", "1", force=True), lambda _: Output(table), log=lambda _: None)[0]


def found(lake):
    return {finding.where: finding.problem for finding in doctor.examine(lake.root)}


def test_a_healthy_lake_has_no_findings_and_is_not_touched(lake, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in lake.root.rglob("*"))
    assert main(["--data", str(lake.root), "doctor"]) == 0
    assert "all is well" in capsys.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in lake.root.rglob("*")) == before


def test_a_folder_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "typo"), "doctor"]) == 1
    assert "typo" in capsys.readouterr().err


def test_damaged_data_is_found_by_its_hash_and_only_where_it_is_current(lake):
    old, new = lake.path_of(lake.newest("items", "ml100k")), lake.path_of(publish(lake, "B"))
    old.write_bytes(b"damaged")
    assert found(lake) == {}
    new.write_bytes(new.read_bytes() + b".")
    assert found(lake) == {str(new): "the data of items[ml100k] is missing or damaged"}
    new.unlink()
    assert found(lake) == {str(new): "the data of items[ml100k] is missing or damaged"}


def test_a_damaged_receipt_is_named(lake):
    publish(lake, "B")
    path = lake.root / "receipts/items/ml100k/00000002.json"
    path.write_text("{")
    assert list(found(lake)) == [str(path)]


def test_data_that_a_damaged_receipt_may_name_is_not_removed(lake, capsys):
    data = lake.path_of(publish(lake, "B"))
    (lake.root / "receipts/items/ml100k/00000002.json").write_text("{")
    os.utime(data, (1, 1))
    assert main(["--data", str(lake.root), "doctor", "--fix"]) == 1
    assert data.exists()
    assert "Put the damaged receipts right" in capsys.readouterr().out


def test_data_without_a_receipt_is_removed_once_it_is_old(lake, capsys):
    kept = lake.path_of(lake.newest("items", "ml100k"))
    lost = kept.with_name("0" * 64 + ".parquet")
    shutil.copy(kept, lost)
    model = lake.root / "lake" / "lora_model" / "ml100k" / ("1" * 64)
    model.mkdir(parents=True)
    assert found(lake) == {}, "its writer may be at work"
    for path in (lost, model):
        os.utime(path, (1, 1))
    assert {*found(lake)} == {str(lost), str(model)}
    assert main(["--data", str(lake.root), "doctor"]) == 1
    assert lost.exists()
    assert main(["--data", str(lake.root), "doctor", "--fix"]) == 0
    assert "Mended" in capsys.readouterr().out
    assert not lost.exists()
    assert not model.exists()
    assert kept.exists()


def test_a_shard_that_was_set_aside_is_removed(lake):
    shard = lake.root / "cache" / "model" / "x.parquet.corrupt"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"")
    assert list(found(lake)) == [str(shard)]
    assert main(["--data", str(lake.root), "doctor", "--fix"]) == 0
    assert not shard.exists()


def test_a_disk_that_is_nearly_full_is_left_to_its_owner(lake, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100e9, 99e9, 1e9))
    assert main(["--data", str(lake.root), "doctor", "--fix"]) == 1
    assert "only 1.0 of 100.0 GB are free. Free space there" in capsys.readouterr().out


@pytest.mark.parametrize("alive", [True, False])
def test_a_run_whose_process_is_gone_is_closed(lake, tmp_path, monkeypatch, alive):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    process = os.getpid()
    if not alive:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        process = gone.pid
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
        instance.handle_new_event(_event(run, dg.DagsterEventType.RUN_START))
        instance.handle_new_event(_event(run, dg.DagsterEventType.ENGINE_EVENT, process))
        assert [finding.where for finding in doctor.dead_runs(instance)] == ([] if alive else [f"run {run.run_id}"])
        assert main(["--data", str(lake.root), "doctor", "--fix"]) == 0
        status = instance.get_run_by_id(run.run_id).status
        assert status == (dg.DagsterRunStatus.STARTED if alive else dg.DagsterRunStatus.FAILURE)


def test_a_run_in_a_shared_history_is_left_to_a_person(tmp_path):
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:  # stands for Postgres: it is no SQLite
        run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
        instance.handle_new_event(_event(run, dg.DagsterEventType.RUN_START))
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        instance.handle_new_event(_event(run, dg.DagsterEventType.ENGINE_EVENT, gone.pid))
        (finding,) = doctor.dead_runs(instance)
    assert finding.fix is None
    assert "another machine" in finding.remedy


def test_a_history_that_cannot_be_opened_is_one_finding_among_others(lake, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {home / 'file'}}}}}")
    (home / "file").write_text("no folder")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    assert main(["--data", str(lake.root), "doctor"]) == 1
    assert "Dagster's runs cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("age", [10.0, 7200.0])
def test_a_run_that_never_named_its_process_is_told_once_it_is_old(tmp_path, age):
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
        instance.handle_new_event(_event(run, dg.DagsterEventType.RUN_START, at=time.time() - age))
        found = list(doctor.dead_runs(instance))
        assert [finding.where for finding in found] == ([f"run {run.run_id}"] if age > 3600 else [])
        assert not [finding for finding in found if finding.fix]  # it may be another machine's


def _event(run, kind, process=None, at=0.0):
    from dagster._core.events import EngineEventData

    data = EngineEventData.in_process(process) if process else None
    event = dg.DagsterEvent(kind.value, run.job_name, event_specific_data=data, message="planted")
    return dg.EventLogEntry(None, "debug", "planted", run.run_id, at, None, run.job_name, event)
