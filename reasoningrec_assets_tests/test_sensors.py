from __future__ import annotations

import os
import time

import dagster as dg
import pytest

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.sensors import raw_files_changed

ML100K = ["ml100k", "ml100k_demo", "ml100k_temporal"]  # they share one folder


@pytest.fixture(scope="module")
def repository():
    return build_definitions().get_repository_def()


@pytest.fixture
def tick(tmp_path, repository):
    """Evaluates the sensor once, with the cursor that the last tick left; returns its requests."""
    cursor = None

    def evaluate(*, keep=True):
        nonlocal cursor
        context = dg.build_sensor_context(
            cursor=cursor, resources={"lake": LakeResource(root=str(tmp_path))}, repository_def=repository
        )
        requests = raw_files_changed.evaluate_tick(context).run_requests
        cursor = context.cursor if keep else cursor
        return requests

    return evaluate


def _write(root, path, data, age=60.0):
    """A file whose last change is `age` seconds ago."""
    path = root / "raw" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def _partitions(requests):
    return [request.partition_key for request in requests]


def test_the_first_tick_only_records(tmp_path, tick):
    _write(tmp_path, "beauty/All_Beauty.csv", b"old")
    assert tick() == []
    assert tick() == []


def test_each_dataset_that_reads_a_changed_folder_gets_one_run(tmp_path, tick):
    tick()
    _write(tmp_path, "ml100k/u.data", b"new")
    _write(tmp_path, "ml100k/u.item", b"new")
    requests = tick()
    assert _partitions(requests) == ML100K
    assert len({request.run_key for request in requests}) == len(ML100K)
    assert tick() == []


@pytest.mark.parametrize("change", ["content", "time", "name", "removed", "added below"])
def test_every_change_counts(tmp_path, tick, change):
    path = _write(tmp_path, "fashion/events/a.parquet", b"old", age=60)
    tick()
    if change == "content":
        stat = path.stat()
        path.write_bytes(b"longer")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        os.utime(path, (time.time() - 30,) * 2)
    elif change == "name":
        path.rename(path.with_name("b.parquet"))
    elif change == "removed":
        path.unlink()
    else:
        _write(tmp_path, "fashion/events/deep/b.parquet", b"more")
    assert _partitions(tick()) == ["fashion"]
    assert tick() == []


def test_a_file_that_is_still_being_written_waits(tmp_path, tick):
    tick()
    path = _write(tmp_path, "beauty/All_Beauty.csv", b"half", age=0)
    _write(tmp_path, "fashion/AMAZON_FASHION.csv", b"whole")
    assert _partitions(tick()) == ["fashion"]
    os.utime(path, (time.time() - 11,) * 2)
    assert _partitions(tick()) == ["beauty"]
    assert tick() == []


def test_a_time_in_the_future_does_not_wait_for_ever(tmp_path, tick):
    tick()
    _write(tmp_path, "beauty/All_Beauty.csv", b"whole", age=-86_400)
    assert _partitions(tick()) == ["beauty"]


def test_a_tick_whose_cursor_was_lost_asks_under_the_same_key(tmp_path, tick):
    tick()
    _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    first = tick(keep=False)
    assert [request.run_key for request in tick()] == [request.run_key for request in first]


def test_files_that_come_and_go_and_come_again_are_asked_for_each_time(tmp_path, tick):
    """Two versions that a user swaps have the same states again: a key of the state alone would be taken for asked."""
    tick()
    path = _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    keys = []
    for _ in range(2):
        keys += [request.run_key for request in tick()]
        aside = path.rename(tmp_path / "aside")
        keys += [request.run_key for request in tick()]
        aside.rename(path)
    assert len(set(keys)) == len(keys) == 4


def test_a_dataset_declared_later_is_recorded_first(tmp_path, tick, monkeypatch):
    declared = registry.datasets()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "datasets", lambda: {name: declared[name] for name in declared if name != "beauty"})
        tick()
    _write(tmp_path, "beauty/All_Beauty.csv", b"old")
    assert tick() == []
    _write(tmp_path, "beauty/All_Beauty.csv", b"new one")
    assert _partitions(tick()) == ["beauty"]


def test_a_dataset_that_is_no_partition_before_the_next_reload_waits_for_it(tmp_path, tick, monkeypatch):
    declared = registry.datasets()
    new = declared["beauty"].model_copy(update={"name": "mine"})
    monkeypatch.setattr(registry, "datasets", lambda: {**declared, "mine": new})
    tick()
    _write(tmp_path, "mine/events.csv", b"new")
    _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    assert _partitions(tick()) == ["beauty"]


def test_a_dataset_that_is_gone_for_a_while_is_remembered(tmp_path, tick, monkeypatch):
    tick()
    declared = registry.datasets()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "datasets", lambda: {})
        assert tick() == []
    _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    assert list(declared) == list(registry.datasets())
    assert _partitions(tick()) == ["beauty"]


def test_a_link_to_nowhere_is_no_file(tmp_path, tick):
    tick()
    (tmp_path / "raw" / "beauty").mkdir(parents=True)
    (tmp_path / "raw" / "beauty" / "lost.csv").symlink_to("/no/such/file")
    assert tick() == []
