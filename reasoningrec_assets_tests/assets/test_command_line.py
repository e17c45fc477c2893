"""The README's commands as a user's shell runs them, killed and undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reasoningrec_assets.definitions import defs
from reasoningrec_assets.lake.steps import Lake, verify
from reasoningrec_assets_tests.assets.conftest import DEMO

ROOT = Path(__file__).parents[2]
DAGSTER = str(Path(sys.executable).parent / "dagster")
COMMAND = [
    DAGSTER,
    "asset",
    "materialize",
    "-m",
    "reasoningrec_assets.definitions",
    "--select",
    "+evaluation_metrics",
    "--partition",
    DEMO,
]
ASSETS = [key.to_user_string() for key in defs.resolve_all_asset_keys()]


def environment(data_root, home=None):
    variables = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return variables | {"REASONINGREC_DATA": str(data_root)} | ({"DAGSTER_HOME": str(home)} if home else {})


def versions(data_root):
    receipts = {asset: Lake(data_root).receipts.newest(asset, DEMO) for asset in ASSETS}
    return {asset: receipt.data_version for asset, receipt in receipts.items() if receipt}


def assert_every_receipt_verifies(data_root):
    lake = Lake(data_root)
    for asset in ASSETS:
        receipt = lake.receipts.newest(asset, DEMO)
        assert receipt is None or verify(lake, receipt), f"{asset}: a receipt without its data"


@pytest.fixture
def undisturbed(data_root, tiny_profile):
    subprocess.run(COMMAND, check=True, capture_output=True, env=environment(data_root), cwd=ROOT)
    return versions(data_root)


def test_the_readmes_command_works_with_and_without_a_dagster_home(data_root, undisturbed, tmp_path):
    assert len(undisturbed) == 16
    other = tmp_path / "other"
    shutil.copytree(data_root / "raw", other / "raw")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
    subprocess.run(COMMAND, check=True, capture_output=True, env=environment(other, home), cwd=ROOT)
    assert versions(other) == undisturbed
    assert list((home / "history").rglob("*.db")), "the instance kept no history"

    for words in (
        ["show"],
        ["lineage", "evaluation_metrics", "--partition", DEMO],
        ["metrics", "--partition", DEMO],
        ["sync"],
        ["rebuild"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "reasoningrec_assets.catalog", *words],
            capture_output=True,
            text=True,
            check=True,
            env=environment(other),
            cwd=ROOT,
        )
        assert done.stdout
        if words[0] == "lineage":
            assert "raw_dataset" in done.stdout


def test_a_killed_run_is_finished_by_the_next_one_with_the_same_tables(data_root, undisturbed, tmp_path):
    draw = random.Random(2026)
    for trial in range(int(os.environ.get("REASONINGREC_KILL_TRIALS", "2"))):
        other = tmp_path / f"killed-{trial}"
        shutil.copytree(data_root / "raw", other / "raw")
        # an instance that remembers: what a killed run held in it must not keep the next one waiting
        home = tmp_path / f"home-{trial}"
        home.mkdir()
        shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
        process = subprocess.Popen(
            COMMAND,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(other, home),
            cwd=ROOT,
            start_new_session=True,
        )
        deadline = time.monotonic() + draw.uniform(2, 9)
        while time.monotonic() < deadline and process.poll() is None:
            assert_every_receipt_verifies(other)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert_every_receipt_verifies(other)
        subprocess.run(COMMAND, check=True, capture_output=True, env=environment(other, home), cwd=ROOT, timeout=180)
        assert versions(other) == undisturbed
        scratch = [path.name for path in (other / "scratch").iterdir()]
        assert scratch in ([], [".sweep"])
        assert not list((other / "cache").rglob("*.tmp"))
        assert not list((other / "receipts").rglob("*.tmp"))
