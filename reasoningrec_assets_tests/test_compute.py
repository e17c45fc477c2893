import os
import signal
import subprocess
import sys
import time

import pytest

from reasoningrec_assets import compute
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import try_exclusive

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


def test_a_model_that_is_spread_over_cards_holds_those_cards(monkeypatch):
    monkeypatch.setattr(compute, "visible_devices", lambda: ["cuda:4", "cuda:5", "cuda:7"])
    with compute.lease(cards={"2": "20GiB", "1": "20GiB", "cpu": "64GiB"}) as device:
        assert (device.name, device.torch_name) == ("cuda:5+cuda:7", "cuda:1")
        for name, free in (("cuda:4", True), ("cuda:5", False), ("cuda:7", False)):
            with try_exclusive(compute.lease_file(name)) as mine:
                assert mine is free, name
    with pytest.raises(PermanentError, match="2 are asked for"), compute.lease(cards={"0": "20GiB", "3": "20GiB"}):
        pass


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
    assert len(lines) == 1, "the next line comes after twenty seconds"
    assert "cpu:0, by the locks in" in lines[0]


def test_two_cards_serve_two_holders(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    process, name = hold(30)
    with compute.lease(poll_seconds=0.05) as device:
        assert {name, device.name} == {"cuda:0", "cuda:3"}
        assert device.torch_name == {"cuda:0": "cuda:0", "cuda:3": "cuda:1"}[device.name]
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


def test_several_cards_are_leased_together_after_one_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with compute.lease(poll_seconds=0.05) as one:
        assert one.torch_name == "cuda:0"
    with compute.lease(count=2, poll_seconds=0.05) as both:
        assert (both.name, both.torch_name) == ("cuda:0+cuda:3", "cuda:0")


def test_more_cards_than_there_are_is_refused_instead_of_waited_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with pytest.raises(PermanentError, match="3 are asked for"), compute.lease(count=3):
        pass


def test_two_runs_that_want_both_cards_do_not_wait_for_each_other_for_ever(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    process, _ = hold(1)
    with compute.lease(count=2, poll_seconds=0.05) as both:
        assert both.name == "cuda:0+cuda:3"
    assert process.wait() == 0
