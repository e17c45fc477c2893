"""Every benchmark runs to its end with little work; what it measures then means nothing, and is written nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def quick(name):
    results = ROOT / "benchmarks" / "results" / f"{name}.json"
    before = results.read_bytes() if results.exists() else None
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (results.read_bytes() if results.exists() else None) == before
    figures = [line for line in done.stdout.splitlines() if line.startswith(f"{name}: ")]
    assert figures
    assert all("(bar " in line for line in figures)
    return figures


@pytest.mark.parametrize("name", ["generation-warm", "generation-memory"])
def test_a_benchmark_runs(name):
    quick(name)


def test_metrics_are_those_of_scikit_learn():
    figures = quick("metrics")
    held = [line for line in figures if "width of the interval" in line or "difference" in line]
    assert len(held) == 5
    assert not [line for line in held if "MISSED" in line]  # unlike seconds, they mean something however little is done


def test_bertscores_are_those_of_bert_score():
    (off,) = [line for line in quick("bertscore") if "largest difference of F1" in line]
    assert "MISSED" not in off


def test_the_committed_leaderboards_are_computed_again():
    figures = [line for line in quick("leaderboard") if "largest difference from the run's own AUC" in line]
    assert figures
    assert not [line for line in figures if "MISSED" in line]


def test_some_faults_leave_nothing_wrong():
    figures = quick("faults")
    assert not [line for line in figures if "MISSED" in line]


# `training`, `scoring` and `generation-throughput` start or install peers with torch for minutes: they are run by hand
@pytest.mark.engines
@pytest.mark.parametrize("name", ["scoring-prefix", "training-resume"])
def test_a_benchmark_of_students_runs(name):
    quick(name)


@pytest.mark.engines
@pytest.mark.parametrize("name", ["generation-prefix", "generation-kill"])
def test_a_benchmark_of_engines_runs(name):
    figures = quick(name)
    if name == "generation-kill":  # its bars hold however little is done
        assert not [line for line in figures if "MISSED" in line]


def test_a_missed_bar_is_said_and_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import __main__ as runner
    from benchmarks import harness

    pages = []
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(harness.runpy, "run_path", lambda path, **_: pages.append(Path(path).name))
    (tmp_path / "made_up.py").touch()
    monkeypatch.setattr(
        runner.importlib,
        "import_module",
        lambda _: type("Made", (), {"run": staticmethod(lambda _: [harness.Figure("speed", 2.3, 2.4)])}),
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks", "made-up"])
    assert runner.main() == 1
    assert capsys.readouterr().out == "made-up: speed 2.3 (bar at least 2.4, MISSED)\n"
    assert '"met": false' in (tmp_path / "results" / "made-up.json").read_text()
    assert pages == ["make_results.py"]
