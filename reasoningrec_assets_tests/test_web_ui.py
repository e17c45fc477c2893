"""Both ways to start the web UI load the workspace, asked through GraphQL as the browser does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
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


@contextlib.contextmanager
def serving(command, folder, **environment):
    """The web UI on a free port of loopback, with an instance of its own; ended by an interrupt, as a person ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(SCRIPTS / command[0]), *command[1:], "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    home = folder / "home"
    home.mkdir(exist_ok=True)
    own = {"DAGSTER_HOME": str(home), "REASONINGREC_DATA": str(folder / "data"), **environment}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | own,
            start_new_session=True,
            # a shell starts what it runs in the background with interrupts ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield port, own
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("command", [["dagster-webserver"], ["dagster", "dev"]], ids=["webserver", "dev"])
def test_the_web_ui_loads_the_workspace(command, tmp_path):
    with serving(command, tmp_path) as (port, _):
        data = ask(port, QUERY, time.monotonic() + 90)
    nodes = {"/".join(node["assetKey"]["path"]): node for node in data["assetNodes"]}
    assert len(nodes) == len(list(build_definitions().resolve_all_asset_keys()))
    assert "ml100k_demo" in nodes["evaluation_metrics"]["partitionKeys"]
    assert {node["groupName"] for node in nodes.values()} == {
        *("sources", "interactions", "language", "student", "baselines", "evaluation"),
    }
    (repository,) = data["repositoriesOrError"]["nodes"]
    assert {"refresh", "prepare"} <= {job["name"] for job in repository["jobs"]}
    states = {schedule["name"]: schedule["scheduleState"]["status"] for schedule in repository["schedules"]}
    assert states == {"daily_preparation": "STOPPED", "weekly_refresh": "STOPPED"}


@pytest.mark.operations
def test_a_person_launches_a_partition_and_finds_its_figures_and_the_report(tmp_path, data_root, tiny_profile):
    """Also makes the README's pictures of the graph and of the report, where DOCS_PICTURES names a folder for them."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with serving(["dagster", "dev"], tmp_path) as (port, own), sync_playwright() as playwright:
        ask(port, QUERY, time.monotonic() + 90)
        # the whole pipeline from the command line, on the instance that the browser looks at
        words = ["asset", "materialize", "-m", "reasoningrec_assets.definitions", "--partition", "ml100k"]
        select = ["--select", "+evaluation_metrics,evaluation_report"]
        done = subprocess.run(
            [SCRIPTS / "dagster", *words, *select], cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1500, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        root = f"http://127.0.0.1:{port}"

        page.goto(f"{root}/asset-groups")
        # what Dagster asks every new visitor: left to itself, it closes whatever dialog is open when it comes
        page.get_by_role("button", name="Skip").click()
        for group in ("sources", "interactions", "language", "student", "baselines", "evaluation"):
            expect(page.get_by_text(group, exact=True).first).to_be_visible()
        page.goto(f"{root}/locations/reasoningrec_assets.definitions/jobs/prepare")
        page.get_by_role("button", name="Materialize all").first.click()
        page.get_by_text("Select a partition or create one").click()
        # the name stands there twice, once for its full length
        page.get_by_role("menuitem").filter(has_text=re.compile(r"^(ml100k){2}$")).click()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Launch 1 run").click()
        expect(page.get_by_text("Launched run")).to_be_visible()
        page.goto(f"{root}/runs")
        expect(page.get_by_role("link", name="prepare")).to_be_visible()
        # that of the command line, and this one
        expect(page.get_by_text("Success", exact=True)).to_have_count(2, timeout=120_000)

        page.goto(f"{root}/assets/interaction_windows?view=partitions&partition=ml100k")
        for name in ("preview", "made_of", "upstream", "windows"):
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
        page.goto(f"{root}/assets/evaluation_report?view=partitions&partition=ml100k")
        link = page.locator('a[href^="file://"]').first
        expect(link).to_be_visible()
        report = link.get_attribute("href")
        assert Path(report.removeprefix("file://")).is_file()
        if folder := os.environ.get("DOCS_PICTURES"):
            page.set_viewport_size({"width": 1800, "height": 800})
            page.goto(f"{root}/asset-groups")
            page.wait_for_timeout(8_000)
            page.screenshot(path=Path(folder) / "graph.png")
            page.set_viewport_size({"width": 1200, "height": 1500})
            page.goto(report)
            page.screenshot(path=Path(folder) / "report.png")
        browser.close()
