"""Both ways to start the web UI load the workspace, asked through GraphQL as the browser does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from reasoningrec_assets.definitions import build_definitions

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
QUERY = """
{ assetNodes { assetKey { path } groupName partitionKeys hasAssetChecks }
  repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } schedules { name scheduleState { status } } } } } }
"""


def ask(port, query, deadline):
    body = json.dumps({"query": query}).encode()
    while True:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                data = json.load(answer)["data"]
            if data["assetNodes"]:
                return data
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        assert time.monotonic() < deadline, "the web UI did not answer"
        time.sleep(0.5)


@pytest.mark.parametrize("command", [["dagster-webserver"], ["dagster", "dev"]], ids=["webserver", "dev"])
def test_the_web_ui_loads_the_workspace(command, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(SCRIPTS / command[0]), *command[1:], "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    log = (tmp_path / "log").open("wb")
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"DAGSTER_HOME": str(home), "REASONINGREC_DATA": str(tmp_path / "data")}
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        # a shell starts what it runs in the background with interrupts ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        data = ask(port, QUERY, time.monotonic() + 90)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        log.close()
    nodes = {"/".join(node["assetKey"]["path"]): node for node in data["assetNodes"]}
    assert len(nodes) == len(list(build_definitions().resolve_all_asset_keys()))
    assert "ml100k_demo" in nodes["evaluation_metrics"]["partitionKeys"]
    assert {node["groupName"] for node in nodes.values()} == {
        *("sources", "interactions", "language", "student", "baselines", "evaluation"),
    }
    (repository,) = data["repositoriesOrError"]["nodes"]
    assert {"refresh", "prepare"} <= {job["name"] for job in repository["jobs"]}
    assert [(schedule["name"], schedule["scheduleState"]["status"]) for schedule in repository["schedules"]] == [
        ("weekly_refresh", "STOPPED")
    ]
