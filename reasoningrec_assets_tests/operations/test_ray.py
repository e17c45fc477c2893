"""The same graph, every step a job on a Ray cluster of two nodes that the test starts; `deploy/ray_cluster.py` as users load it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reasoningrec_assets.lake.steps import Lake

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes on loopback with one logical card each; yields the address that takes jobs."""
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # sockets lie below it, and a socket's path is short
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")  # a node calls `dagster`
    port, dashboard = free_port(), free_port()
    common = [BIN / "ray", "start", "--block", "--num-cpus=1", "--num-gpus=1", "--disable-usage-stats"]
    common += ["--node-ip-address=127.0.0.1"]
    head = ["--head", f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    with contextlib.ExitStack() as running:
        for node in (head, [f"--address=127.0.0.1:{port}"]):
            process = running.enter_context(subprocess.Popen([*common, *node], stdout=subprocess.DEVNULL, cwd=ROOT))
            running.callback(process.terminate)  # takes what it started along
            deadline = time.monotonic() + 60
            while node is head and time.monotonic() < deadline:
                with contextlib.suppress(ConnectionError):
                    JobSubmissionClient(f"http://127.0.0.1:{dashboard}").list_jobs()
                    break
                time.sleep(1)
        yield f"http://127.0.0.1:{dashboard}"


def test_steps_run_as_jobs_on_the_cluster_and_leave_the_same_data(cluster, data_root, tmp_path, pipeline):
    (tmp_path / "home").mkdir()
    environment = {"REASONINGREC_DATA": str(data_root), "DAGSTER_HOME": str(tmp_path / "home"), "RAY_ADDRESS": cluster}
    command = [BIN / "dagster", "asset", "materialize", "-f", "deploy/ray_cluster.py", "--partition", "ml100k"]
    command += ["--select", "raw_dataset,cleaned_interactions,interaction_windows"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    on_ray = {
        asset: Lake(data_root).newest(asset, "ml100k") for asset in ("raw_dataset", "cleaned_interactions", "interaction_windows")
    }
    assert len({receipt.run_id for receipt in on_ray.values()}) == 1
    again = pipeline.run(
        selection=" or ".join(f'key:"{asset}"' for asset in on_ray),
        config={asset: {"config": {"force": True}} for asset in on_ray},
    )
    assert again.success
    for asset, receipt in on_ray.items():
        assert pipeline.lake.newest(asset, "ml100k").data_version == receipt.data_version
