from __future__ import annotations

import http.server
import json
import os
import threading
import time

import dagster as dg
import pytest
import requests
from dagster._utils.error import serializable_error_info_from_exc_info

from reasoningrec_assets.catalog import connect
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.errors import TransientError
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.sensors import raw_files_changed, run_failures

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
    declared = registry.load()[0]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "load", lambda: ({name: declared[name] for name in declared if name != "beauty"}, {}))
        tick()
    _write(tmp_path, "beauty/All_Beauty.csv", b"old")
    assert tick() == []
    _write(tmp_path, "beauty/All_Beauty.csv", b"new one")
    assert _partitions(tick()) == ["beauty"]


def test_a_dataset_that_is_no_partition_before_the_next_reload_waits_for_it(tmp_path, tick, monkeypatch):
    declared = registry.load()[0]
    new = declared["beauty"].model_copy(update={"name": "mine"})
    monkeypatch.setattr(registry, "load", lambda: ({**declared, "mine": new}, {}))
    tick()
    _write(tmp_path, "mine/events.csv", b"new")
    _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    assert _partitions(tick()) == ["beauty"]


def test_a_dataset_that_is_gone_for_a_while_is_remembered(tmp_path, tick, monkeypatch):
    tick()
    declared = registry.load()[0]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "load", lambda: ({}, {}))
        assert tick() == []
    _write(tmp_path, "beauty/All_Beauty.csv", b"new")
    assert list(declared) == list(registry.load()[0])
    assert _partitions(tick()) == ["beauty"]


def test_a_link_to_nowhere_is_no_file(tmp_path, tick):
    tick()
    (tmp_path / "raw" / "beauty").mkdir(parents=True)
    (tmp_path / "raw" / "beauty" / "lost.csv").symlink_to("/no/such/file")
    assert tick() == []


@pytest.fixture
def webhook(monkeypatch):
    """A server on loopback that keeps what is posted to it; its answer can be changed."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        answer = 200

        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(Handler.answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("REASONINGREC_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
        yield posted, Handler
        server.shutdown()


def _report_a_killed_run(root, instance, repository):
    run = instance.create_run_for_job(repository.get_job("prepare"), tags={"dagster/partition": "ml100k"})
    event = instance.report_run_failed(run, "the worker was killed")
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failures", dagster_event=event, dagster_instance=instance, dagster_run=run
    ).for_run_failure()
    run_failures(context, lake=LakeResource(root=str(root)))
    return run


def test_a_run_that_was_killed_is_in_the_catalogue_and_told_to_the_webhook(tmp_path, repository, webhook):
    posted, _ = webhook
    with dg.DagsterInstance.ephemeral() as instance:
        run = _report_a_killed_run(tmp_path, instance, repository)
    with connect(tmp_path) as catalogue:
        found = catalogue.sql("SELECT asset, partition, run_id, error FROM materializations WHERE status = 'failed'").fetchall()
        runs = catalogue.sql("SELECT run_id, status FROM runs").fetchall()
    assert found == [("runs/prepare", "ml100k", run.run_id, "the worker was killed")]
    assert runs == [(run.run_id, "failed")]
    assert posted == [{"text": f"prepare of ml100k failed, run {run.run_id}: the worker was killed"}]


@pytest.mark.parametrize("answer", [500, None])
def test_a_webhook_that_refuses_is_an_error_of_the_tick_after_the_receipt_was_written(
    tmp_path, repository, webhook, monkeypatch, answer
):
    webhook[1].answer = answer
    address = os.environ["REASONINGREC_WEBHOOK"] if answer else "http://127.0.0.1:9/"
    monkeypatch.setenv("REASONINGREC_WEBHOOK", f"{address}services/SECRET")
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(TransientError) as caught:
        _report_a_killed_run(tmp_path, instance, repository)
    # the address is the credential, and Dagster keeps a tick's error
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in str(serializable_error_info_from_exc_info((caught.type, caught.value, caught.tb)))
    assert len(list((tmp_path / "receipts/runs/prepare/ml100k").glob("*.json"))) == 1


def test_without_a_webhook_nothing_is_sent(tmp_path, repository, monkeypatch):
    monkeypatch.delenv("REASONINGREC_WEBHOOK", raising=False)
    monkeypatch.setattr(requests, "post", lambda *_, **__: pytest.fail("something was sent"))
    with dg.DagsterInstance.ephemeral() as instance:
        _report_a_killed_run(tmp_path, instance, repository)
