"""What `python -m reasoningrec_assets.catalog` prints, and how it fails."""

from __future__ import annotations

import re
import subprocess
import sys

import duckdb
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


def cells(lines: list[str]) -> list[list[str]]:
    """The cells of the tables among the lines, one list a row, names of columns first; DuckDB's types are left out."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    return [row for row in rows if not {*row} <= {"varchar", "int64", "double", "boolean", "timestamp"}]


def test_sync_and_rebuild_report(store, command):
    store.chain()
    assert command("sync")[1][0].startswith("catalogue synced: 9 receipt(s) in ")
    assert command("sync")[1][0].startswith("catalogue synced: 0 receipt(s) in ")
    assert command("rebuild")[1][0].startswith("catalogue synced: 9 receipt(s) in ")


def test_reading_brings_the_catalogue_up_to_date_and_does_without_where_it_is_taken(store, command):
    store.publish("items")
    assert len(cells(command("show")[1])) == 1 + 1
    store.publish("items", "beauty")
    with exclusive(store.root / "locks" / "catalog.lock"):
        code, lines, errors = command("show")
        assert (code, len(cells(lines))) == (0, 1 + 1)
        assert errors == ["The catalogue is open elsewhere: what follows may be older than the lake."]
    assert len(cells(command("show")[1])) == 1 + 2


def test_a_failed_run_is_no_asset(store, command):
    store.publish("items")
    store.fail("runs/refresh")
    assert [row[0] for row in cells(command("show")[1])[1:]] == ["items"]


def test_a_catalogue_without_tables_is_said_in_one_line(store, command, monkeypatch):
    store.publish("items")
    duckdb.connect(str(store.root / "catalog.duckdb")).close()
    monkeypatch.setattr("reasoningrec_assets.__main__.sync", lambda *_, **__: 0)
    code, _, errors = command("show")
    assert (code, len(errors)) == (1, 1)
    assert "rebuild" in errors[0]


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
    rows = cells(lines)
    assert code == 0
    assert rows[0] == ["asset", "partition", "seq", "rows", "seconds", "version", "finished (UTC)"]
    assert len(rows) == 1 + 19
    assert len(cells(command("show", "--partition", "beauty")[1])) == 1 + 9
    assert command("show", "--partition", "ml1m")[1] == ["Nothing was materialized yet."]
    assert any(row[0] == "user_profiles" and row[5] == "failed" for row in rows)


def test_show_prints_everything_of_one_materialization(store, command):
    store.chain()
    store.fail("item_descriptions")
    store.check(store.lake.newest("item_descriptions", "fashion"))
    store.sync()
    code, lines, _ = command("show", "item_descriptions", "--partition", "fashion")
    receipt = store.lake.newest("item_descriptions", "fashion")
    assert code == 0
    titles = [
        "Materialization",
        "Failed since",
        "Schema (? may be null)",
        "Column lineage",
        "Metrics",
        "Details",
        "Settings",
        "Read",
    ]
    for title in [*titles, "Models, prompts and files", "Checks"]:
        assert title in lines, title
    known = dict(row for row in cells(lines) if len(row) == 2)
    assert known["data_version"] == receipt.data_version
    assert known["path"] == str(store.lake.path_of(receipt))
    assert known["attempt 2"] == "RuntimeError: the engine fell over"
    assert "generation_requests" in known
    assert "items.title" in known["text"]
    assert known["leak_probe"].startswith("passed (error)")


def test_show_of_an_asset_that_only_failed(store, command):
    store.fail("items")
    store.sync()
    code, lines, _ = command("show", "items")
    assert code == 0
    assert dict(row for row in cells(lines) if len(row) == 2)["error"] == "RuntimeError: the engine fell over"
    assert cells(command("lineage", "items")[1])[1][:2] == ["items[fashion]", "failed"]


def test_lineage_is_indented_and_tells_what_was_replaced(store, command):
    store.chain()
    store.publish("raw_dataset", salt="new", run_id="second-run")
    store.sync()
    code, lines, _ = command("lineage", "predictions", "--partition", "fashion")
    rows = cells(lines)
    assert code == 0
    version = store.lake.newest("predictions", "fashion").data_version
    assert rows[0] == ["asset", "version", "run", "read by", "note"]
    assert rows[1] == ["predictions[fashion]", version[:12], "run-1", "", ""]
    assert rows[2][0] == "lora_model[fashion]"
    assert rows[3][3] == "lora_model, predictions"
    assert (rows[-1][0], rows[-1][4]) == ("raw_dataset[fashion]", "replaced since")
    assert any("│         raw_dataset[fashion]" in line for line in lines)  # indented by the steps between
    assert len(rows) == 1 + 8


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
    assert "Population of fashion" in lines
    assert "Best AUC first, with 95 % intervals; *: too small a sample, the AUC may be off by more than 0.05" in lines
    assert cells(lines) == [
        ["metric", "value"],
        ["test_rows", "797"],
        ["method", "n", "auc", "accuracy", "brier", "coverage"],
        ["student *", "80", "0.750 [0.650, 0.850]", "0.700 [0.600, 0.800]", "", ""],
        ["like_rate", "797", "0.610 [0.570, 0.650]", "0.600", "", ""],
        ["one_class", "12", "", "", "", ""],
    ]


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


def test_a_live_table_that_is_gone_is_one_line_too(store, capsys):
    receipt = store.publish("item_descriptions")
    (store.root / "lake" / receipt.path).unlink()
    assert main(["--data", str(store.root), "gc"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
