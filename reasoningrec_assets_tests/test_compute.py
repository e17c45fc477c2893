import os
import signal
import subprocess
import sys
import time

import pytest

from reasoningrec_assets import compute

HOLD = """
import sys, time
from reasoningrec_assets import compute
with compute.lease(log=lambda line: None) as device:
    print(device.name, flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def own_leases(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))


def hold(seconds):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_without_cards_the_cpu_is_one_device(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert compute.visible_devices() == ["cpu:0"]


def test_a_second_holder_waits_and_says_so(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process, name = hold(1.5)
    lines = []
    started = time.monotonic()
    with compute.lease(log=lines.append, poll_seconds=0.05) as device:
        waited = time.monotonic() - started
    process.wait()
    assert (name, device.name) == ("cpu:0", "cpu:0")
    assert waited > 0.5
    assert len(lines) == 1
    assert "cpu:0" in lines[0]


def test_two_cards_serve_two_holders_and_each_sees_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    process, name = hold(30)
    with compute.lease(poll_seconds=0.05) as device:
        assert {name, device.name} == {"cuda:0", "cuda:3"}
        assert os.environ["CUDA_VISIBLE_DEVICES"] == device.name.removeprefix("cuda:")
        assert device.torch_name == "cuda:0"
    process.kill()
    process.wait()


def test_a_killed_holder_frees_the_device(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process, _ = hold(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    with compute.lease(poll_seconds=0.05):
        assert time.monotonic() - started < 1
