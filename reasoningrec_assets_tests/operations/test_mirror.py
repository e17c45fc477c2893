"""A data root copied to an S3 server on loopback and back, undisturbed and not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid

import pytest

from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.lake import mirror as module
from reasoningrec_assets.lake.mirror import mirror
from reasoningrec_assets.lake.steps import Lake, verify

pytestmark = pytest.mark.operations
CHEAP = 'key:"raw_dataset" or key:"cleaned_interactions" or key:"items" or key:"interaction_windows"'
ASSETS = ("raw_dataset", "cleaned_interactions", "items", "interaction_windows")


@pytest.fixture
def bucket(monkeypatch):
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("ENDPOINT_URL", f"http://{host}:{port}")):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4()}"  # the server's state outlives it
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/lake"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def names(address):
    import fsspec

    system, root = fsspec.url_to_fs(address)
    system.invalidate_cache()
    return {path[len(root) + 1 :] for path in system.find(root)}


def test_another_machine_goes_on_from_the_mirror_and_does_no_work_twice(pipeline, bucket, tmp_path):
    from reasoningrec_assets_tests.assets.conftest import Pipeline

    pipeline.run(selection=CHEAP)
    assert mirror(str(pipeline.lake.root), bucket) > len(ASSETS)
    assert mirror(str(pipeline.lake.root), bucket) == 0, "nothing changed"
    other = Pipeline(tmp_path / "other")
    mirror(bucket, str(other.lake.root))
    assert other.versions() == pipeline.versions()
    assert all(verify(other.lake, other.lake.newest(asset, "ml100k")) for asset in ASSETS)
    again = other.run(selection=CHEAP)
    reused = [
        event.step_materialization_data.materialization.metadata["reused"].value
        for event in again.all_events
        if event.is_step_materialization
    ]
    assert reused == [True] * len(ASSETS)


def test_a_mirror_that_was_cut_off_holds_no_receipt_without_its_data_and_is_finished_by_the_next(pipeline, bucket, monkeypatch):
    pipeline.run(selection=CHEAP)
    real, root = module._copy, str(pipeline.lake.root)
    total = mirror(root, f"{bucket}-whole")
    for allowed in range(1, total, 3):
        done = []

        def cut(*known, done=done, allowed=allowed):
            if len(done) == allowed:
                raise ConnectionError("the network went away")
            done.append(known)
            real(*known)

        monkeypatch.setattr(module, "_copy", cut)
        target = f"{bucket}-{allowed}"
        with pytest.raises(TransientError, match="the network went away"):
            mirror(root, target)
        there = names(target)
        for name in there:
            if name.startswith("receipts/") and "/checks/" not in name:
                asset, partition, number = name.removeprefix("receipts/").rsplit("/", 2)
                receipt = pipeline.lake.receipts.at(asset, partition, int(number[:8]))
                assert f"lake/{receipt.path}" in there
    monkeypatch.setattr(module, "_copy", real)
    assert mirror(root, target) == total - allowed
    assert mirror(root, target) == 0


def test_receipts_that_two_machines_wrote_apart_are_refused_by_name(pipeline, bucket, tmp_path):
    from reasoningrec_assets_tests.assets.conftest import Pipeline

    pipeline.run(selection=CHEAP)
    mirror(str(pipeline.lake.root), bucket)
    other = Pipeline(tmp_path / "other")
    (tmp_path / "other").mkdir()
    shutil.copytree(pipeline.lake.root / "raw", tmp_path / "other" / "raw")
    other.run(selection=CHEAP)
    with pytest.raises(PermanentError, match=r"receipts differ from those of the same name .*receipts/"):
        mirror(str(other.lake.root), bucket)


def test_an_empty_source_and_a_server_that_is_gone_are_one_line_each(tmp_path, monkeypatch):
    with pytest.raises(PermanentError, match="it has no receipt"):
        mirror(str(tmp_path), str(tmp_path / "target"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    command = [sys.executable, "-m", "reasoningrec_assets", "mirror", "s3://bucket/lake", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Run it again" in done.stderr
    assert "Traceback" not in done.stderr
    assert Lake(tmp_path).receipts.files() == set()
