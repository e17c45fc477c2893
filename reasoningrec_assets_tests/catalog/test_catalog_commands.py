"""What `python -m reasoningrec_assets.catalog` prints, and how it fails."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from reasoningrec_assets.catalog.__main__ import main
from reasoningrec_assets.lake.files import exclusive

POPULATION = ("population", "test_rows", 797.0, None, None, 797)


@pytest.fixture
def command(store, capsys):
    """Runs one command on the store; returns the exit code, the lines printed and the lines on the error stream."""

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(["--data", str(store.root), *arguments])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def test_sync_and_rebuild_report(store, command):
    store.chain()
    assert command("sync")[1][0].startswith("catalogue synced: 9 receipt(s) in ")
    assert command("sync")[1][0].startswith("catalogue synced: 0 receipt(s) in ")
    assert command("rebuild")[1][0].startswith("catalogue synced: 9 receipt(s) in ")


def test_reading_brings_the_catalogue_up_to_date_and_does_without_where_it_is_taken(store, command):
    store.publish("items")
    assert len(command("show")[1]) == 1 + 1
    store.publish("items", "beauty")
    with exclusive(store.root / "locks" / "catalog.lock"):
        assert command("show")[::2] == (0, [])
    assert len(command("show")[1]) == 1 + 2


def test_report_names_the_newest_page(store, command):
    store.publish("evaluation_report", salt="old")
    newest = store.publish("evaluation_report", salt="new")
    assert command("report", "--partition", "fashion") == (0, [f"Report: {store.lake.path_of(newest)}"], [])
    code, lines, errors = command("report", "--partition", "beauty")
    assert (code, lines, len(errors)) == (1, [], 1)
    assert "evaluation_report[beauty]" in errors[0]


def test_show_lists_what_is_current(store, command):
    store.chain()
    store.chain("beauty")
    store.fail("user_profiles")
    store.sync()
    code, lines, _ = command("show")
    assert code == 0
    assert lines[0].split() == ["asset", "partition", "seq", "rows", "seconds", "version", "finished", "(UTC)"]
    assert len(lines) == 1 + 19
    assert len(command("show", "--partition", "beauty")[1]) == 1 + 9
    assert command("show", "--partition", "ml1m")[1] == ["Nothing was materialized yet."]
    assert any(line.startswith("user_profiles") and " failed " in line for line in lines)


def test_show_prints_everything_of_one_materialization(store, command):
    store.chain()
    store.fail("item_descriptions")
    store.check(store.lake.newest("item_descriptions", "fashion"))
    store.sync()
    code, lines, _ = command("show", "item_descriptions", "--partition", "fashion")
    text = "\n".join(lines)
    receipt = store.lake.newest("item_descriptions", "fashion")
    assert code == 0
    titles = ["Schema", "Column lineage", "Preview", "Metrics", "Details", "Settings", "Read", "Models, prompts", "Checks"]
    for title in titles:
        assert f"\n{title}" in text, title
    assert receipt.data_version in text
    assert "Failed since\n  attempt 2  RuntimeError: the engine fell over" in text
    assert "generation_requests" in text
    assert "items.title" in text
    assert "leak_probe  passed (error)" in text
    assert "\n    item_id        item_id0\n" in text
    paths = ("  path", "  receipt")
    assert max(len(line) for line in lines if not line.startswith(paths)) <= 110


def test_show_of_an_asset_that_only_failed(store, command):
    store.fail("items")
    store.sync()
    code, lines, _ = command("show", "items")
    assert code == 0
    assert "  error         RuntimeError: the engine fell over" in lines
    assert command("lineage", "items")[1][1].split()[:2] == ["items[fashion]", "failed"]


def test_lineage_is_indented_and_tells_what_was_replaced(store, command):
    store.chain()
    store.publish("raw_dataset", salt="new", run_id="second-run")
    store.sync()
    code, lines, _ = command("lineage", "predictions", "--partition", "fashion")
    assert code == 0
    version = store.lake.newest("predictions", "fashion").data_version
    assert lines[0].split() == ["asset", "version", "run", "read", "by", "note"]
    assert lines[1].split() == ["predictions[fashion]", version[:12], "run-1"]
    assert lines[2].startswith("  lora_model[fashion]")
    assert lines[3].endswith("  lora_model, predictions")
    assert lines[-1].startswith("        raw_dataset[fashion]")
    assert lines[-1].endswith("  replaced since")
    assert len(lines) == 1 + 8


def test_metrics_puts_the_best_first_and_says_when_a_sample_is_too_small(store, command, evaluation):
    table = evaluation(
        ("like_rate", "auc", 0.61, 0.57, 0.65, 797),
        ("like_rate", "accuracy", 0.6, None, None, 797),
        ("student", "auc", 0.75, 0.65, 0.85, 80),
        ("student", "accuracy", 0.7, 0.6, 0.8, 80),
        ("one_class", "auc", None, None, None, 12),
        POPULATION,
    )
    store.publish("evaluation_metrics", table=table)
    store.sync()
    code, lines, _ = command("metrics", "--partition", "fashion")
    assert code == 0
    assert lines == [
        "method     n    auc                   accuracy              brier  coverage",
        "student *  80   0.750 [0.650, 0.850]  0.700 [0.600, 0.800]",
        "like_rate  797  0.610 [0.570, 0.650]  0.600",
        "one_class  12",
        "",
        "Evaluation of fashion, best AUC first; [low, high] is the 95 % interval.",
        "",
        "Population: test_rows 797.",
        "",
        "* The sample is too small to judge these methods by: their AUC may be off by more than 0.05.",
    ]


def test_metrics_of_a_tiny_sample_and_of_many_metrics_fit_the_page(store, command, evaluation):
    names = ["auc", "brier", *(f"a_rather_long_metric_{number}" for number in range(9))]
    table = evaluation(*((f"method_{m}", name, 0.5, 0.1, 0.9, 40) for m in range(3) for name in names))
    store.publish("evaluation_metrics", table=table)
    store.sync()
    code, lines, _ = command("metrics")
    assert code == 0
    assert max(map(len, lines)) <= 110
    assert "Also in the table evaluation_metrics: a_rather_long_metric_" in "\n".join(lines)
    assert lines[-1].startswith("* The sample is too small")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "itmes"), "asset .*itmes.* none of this name.*: cleaned_interactions, items, raw_dataset"),
        (("lineage", "items", "--partition", "ml1m"), "partition of items .*ml1m.*: beauty, fashion"),
        (("show", "items"), "--partition is missing.*: beauty, fashion"),
        (("show", "it'ems; --"), "these: cleaned_interactions"),
        (("metrics", "--partition", "ml1m"), "evaluated partition .*none yet"),
    ],
)
def test_a_wrong_name_lists_the_known_ones(arguments, message, store, command):
    for partition in ("fashion", "beauty"):
        for asset in ("raw_dataset", "cleaned_interactions", "items"):
            store.publish(asset, partition)
    store.sync()
    code, lines, errors = command(*arguments)
    assert (code, lines, len(errors)) == (1, [], 1)
    assert re.search(message, errors[0]), errors


def test_errors_are_one_line_and_exit_1(tmp_path):
    for name in ("sync", "show"):
        command = [sys.executable, "-m", "reasoningrec_assets.catalog", name]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"REASONINGREC_DATA": str(tmp_path / "typo")}
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(tmp_path / "typo") in done.stderr
    assert not (tmp_path / "typo").exists()


def test_light_to_import():
    script = (
        "import sys, reasoningrec_assets.catalog.__main__; print({'dagster', 'duckdb', 'pyarrow', 'pandas'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
