"""`deploy/mirror.sh`: a data root copied to an S3 server on loopback and back, undisturbed and not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import duckdb
import fsspec
import pytest

from reasoningrec_assets.lake.steps import Lake, verify
from reasoningrec_assets_tests.assets.conftest import Pipeline

pytestmark = pytest.mark.operations
SCRIPT = Path(__file__).parents[2] / "deploy" / "mirror.sh"
ASSETS = ("raw_dataset", "cleaned_interactions", "items", "interaction_windows")
CHEAP = " or ".join(f'key:"{asset}"' for asset in ASSETS)


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket, as rclone names it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    facts = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": f"http://{host}:{port}", "ACCESS_KEY_ID": "x"}
    for name, value in (facts | {"SECRET_ACCESS_KEY": "x"}).items():
        monkeypatch.setenv(f"RCLONE_CONFIG_S3_{name}", value)
    monkeypatch.setenv("RCLONE_RETRIES", "1")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # this rclone refuses to start with one
    name = f"bucket-{uuid.uuid4()}"  # the server's state outlives it
    subprocess.run(["rclone", "mkdir", f"s3:{name}"], check=True)
    yield f"s3:{name}/lake"
    server.stop()


def mirror(source, target):
    return subprocess.run([SCRIPT, source, target], capture_output=True, text=True, check=False)


def names(address):
    listed = subprocess.run(["rclone", "lsf", "-R", "--files-only", address], capture_output=True, text=True, check=False).stdout
    return set(listed.split())


def test_another_machine_goes_on_from_the_mirror_and_does_no_work_twice(pipeline, bucket, tmp_path):
    pipeline.run(selection=CHEAP)
    declared = pipeline.lake.root / "datasets" / "mine.toml"
    declared.parent.mkdir()
    for title in ("one", "two"):  # of one size, as a changed number is
        declared.write_text(f'title = "{title}"', encoding="utf-8")
        assert mirror(pipeline.lake.root, bucket).returncode == 0
    other = Pipeline(tmp_path / "other")
    assert mirror(bucket, other.lake.root).returncode == 0
    assert (other.lake.root / "datasets" / "mine.toml").read_text(encoding="utf-8") == 'title = "two"'
    assert other.versions() == pipeline.versions()
    assert all(verify(other.lake, other.lake.newest(asset, "ml100k")) for asset in ASSETS)
    again = other.run(selection=CHEAP)
    reused = [
        event.step_materialization_data.materialization.metadata["reused"].value
        for event in again.all_events
        if event.is_step_materialization
    ]
    assert reused == [True] * len(ASSETS)


def test_the_tables_of_a_mirror_are_read_where_they_are(pipeline, bucket):
    pipeline.run(selection=CHEAP)
    mirror(pipeline.lake.root, bucket)
    with duckdb.connect() as connection:
        endpoint = {"endpoint_url": os.environ["RCLONE_CONFIG_S3_ENDPOINT"]}
        connection.register_filesystem(fsspec.filesystem("s3", key="x", secret="x", client_kwargs=endpoint))
        found = connection.execute(
            f"select count(*) from read_parquet('s3://{bucket[3:]}/lake/items/ml100k/*.parquet')"
        ).fetchall()
    assert found == [(pipeline.lake.newest("items", "ml100k").row_count,)]


def test_a_mirror_that_was_killed_holds_no_receipt_without_its_data_and_is_finished_by_the_next(pipeline, bucket):
    pipeline.run(selection=CHEAP)
    whole = None
    for wait in (0.1, 0.4, 0.7, 1.0):
        target = f"{bucket}-{wait}"
        running = subprocess.Popen([SCRIPT, pipeline.lake.root, target], start_new_session=True)
        time.sleep(wait)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        there = names(target)
        for name in there:
            if name.startswith("receipts/") and "/checks/" not in name:
                asset, partition, number = name.removeprefix("receipts/").rsplit("/", 2)
                assert f"lake/{pipeline.lake.receipts.at(asset, partition, int(number[:8])).path}" in there
        assert mirror(pipeline.lake.root, target).returncode == 0
        whole = whole or names(target)
        assert names(target) == whole
    assert {name.split("/")[0] for name in whole} == {"raw", "lake", "receipts"}


def test_receipts_that_two_machines_wrote_apart_are_refused_and_kept(pipeline, bucket, tmp_path):
    pipeline.run(selection=CHEAP)
    mirror(pipeline.lake.root, bucket)
    other = Pipeline(tmp_path / "other")
    shutil.copytree(pipeline.lake.root / "raw", tmp_path / "other" / "raw")
    other.run(selection=CHEAP)
    before = {asset: other.lake.newest(asset, "ml100k").run_id for asset in ASSETS}
    done = mirror(bucket, other.lake.root)
    assert done.returncode != 0
    assert "immutable file modified" in done.stderr
    assert {asset: Lake(tmp_path / "other").newest(asset, "ml100k").run_id for asset in ASSETS} == before


def test_a_server_that_is_gone_is_an_error(pipeline, bucket, monkeypatch):
    monkeypatch.setenv("RCLONE_CONFIG_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("RCLONE_LOW_LEVEL_RETRIES", "1")
    pipeline.run(selection='key:"raw_dataset"')
    assert mirror(pipeline.lake.root, bucket).returncode != 0
