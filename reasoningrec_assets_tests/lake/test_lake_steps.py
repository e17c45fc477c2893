"""A materialization either counts with its receipt or left nothing: reuse, damage, failure, kills and races."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import exclusive, pause
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Lake, Output, Step, run_step, seal, verify


def silent(_: str) -> None:
    return None


def scratch_of(lake: Lake) -> list[Path]:
    folder = lake.root / "scratch"
    return [path for path in folder.glob("*") if not path.name.startswith(".")]


def test_unchanged_step_is_reused_without_building(publish, lake):
    first, _ = publish("items")
    assert publish("items", table=object()) == (first, True)


@pytest.mark.parametrize("change", [{"code_version": "2"}, {"settings": {"salt": "other"}}])
def test_changed_code_or_settings_build_again(change, publish):
    first, _ = publish("items")
    second, reused = publish("items", **change)
    assert not reused
    assert second.sequence == first.sequence + 1
    assert second.data_version == first.data_version


def test_changed_upstream_builds_again_and_unchanged_content_does_not(publish):
    publish("raw_dataset")
    cleaned, _ = publish("cleaned_interactions", upstream=("raw_dataset",))
    publish("raw_dataset", force=True)
    again, reused = publish("cleaned_interactions", upstream=("raw_dataset",))
    assert reused
    assert again == cleaned

    changed, _ = publish("raw_dataset", salt="new")
    again, reused = publish("cleaned_interactions", upstream=("raw_dataset",))
    assert not reused
    assert (again.upstream[0].data_version, again.upstream[0].sequence) == (changed.data_version, changed.sequence)


def test_what_an_input_was_itself_made_from_is_the_version_that_it_read(publish, lake):
    read, _ = publish("study/titles/sft_splits", salt="old")
    scored, _ = publish("study/titles/predictions", upstream=("study/titles/sft_splits",))
    floor, _ = publish("baselines/like_rate/predictions")
    publish("study/titles/sft_splits", salt="new")
    inputs = Inputs(lake, {receipt.asset: receipt for receipt in (scored, floor)}, lake.root)
    assert inputs.read_by(scored.asset, "sft_splits") == lake.path_of(read)
    assert inputs.read_by(floor.asset, "sft_splits") is None
    lake.path_of(read).unlink()
    assert inputs.read_by(scored.asset, "sft_splits") is None


def test_force_builds_again(publish):
    publish("items")
    receipt, reused = publish("items", force=True)
    assert not reused
    assert receipt.sequence == 2


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"cut"), lambda path: path.unlink()], ids=["altered", "missing"]
)
def test_damaged_file_is_made_again(damage, publish, lake, rows):
    first, _ = publish("items")
    damage(lake.path_of(first))
    second, reused = publish("items")
    assert not reused
    assert verify(lake, second)
    assert pq.read_table(lake.path_of(second)).equals(rows(TABLES["items"], "fashion"))


def test_partitions_do_not_touch_each_other(publish, lake):
    publish("items", "fashion")
    publish("items", "beauty")
    assert lake.newest("items", "fashion").sequence == lake.newest("items", "beauty").sequence == 1


def test_failure_is_recorded_and_the_version_before_still_reads(publish, lake, rows):
    good, _ = publish("items")

    def build(_):
        raise RuntimeError("the engine fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        run_step(lake, Step("items", "fashion", "2", run_id="run-7"), build, log=silent)
    failed = lake.receipts.read(lake.root / "receipts" / "items" / "fashion" / "00000002.json")
    assert (failed.status, failed.run_id, failed.error) == ("failed", "run-7", "RuntimeError: the engine fell over")
    assert failed.path is None
    assert lake.newest("items", "fashion") == good
    assert pq.read_table(lake.path_of(good)).equals(rows(TABLES["items"], "fashion"))
    assert scratch_of(lake) == []


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
def test_a_damaged_input_is_not_read(damage, publish, lake):
    damage(lake.path_of(publish("items")[0]))
    with pytest.raises(PermanentError, match=r"read items\[fashion\] for item_descriptions.*missing or damaged"):
        publish("item_descriptions", upstream=("items",))


def test_what_a_step_waits_for_others_is_no_part_of_its_seconds(publish, lake, rows):
    def build(_):
        pause(0.5)
        return Output(table=rows(TABLES["items"], "fashion"))

    assert run_step(lake, Step("items", "fashion", "1"), build, log=silent)[0].seconds < 0.5


def test_a_read_only_disk_is_said_before_the_step_begins(publish, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", "x.lock")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermanentError, match="Read-only file system"):
        publish("items")


def test_missing_input_names_the_command_that_makes_it(publish, lake):
    with pytest.raises(
        PermanentError, match=r"read items\[fashion\] for item_descriptions.*--select '\+key:\"items\"' --partition fashion"
    ):
        publish("item_descriptions", upstream=("items",))
    assert lake.receipts.read(lake.root / "receipts/item_descriptions/fashion/00000001.json").status == "failed"


def test_interrupt_leaves_a_failed_receipt(lake):
    def build(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(lake, Step("items", "fashion", "1"), build, log=silent)
    assert lake.receipts.read(lake.root / "receipts/items/fashion/00000001.json").status == "failed"
    assert scratch_of(lake) == []


KILLED = """
import sys, time
from pathlib import Path
from reasoningrec_assets.lake.steps import Lake, Step, run_step
def build(inputs):
    (inputs.scratch / "half").write_bytes(b"x" * 1000)
    print("building", flush=True)
    time.sleep(60)
run_step(Lake(Path(sys.argv[1])), Step("items", "fashion", "1"), build)
"""


def test_killed_step_leaves_no_receipt_and_the_next_sweeps_up(publish, lake):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(lake.root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    assert len(scratch_of(lake)) == 2
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert lake.receipts.newest("items", "fashion") is None
    assert list((lake.root / "receipts").rglob("*.json")) == []

    receipt, reused = publish("items")
    assert (receipt.sequence, reused) == (1, False)
    assert scratch_of(lake) == []


TWICE = """
import sys, time
from pathlib import Path
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step
def build(inputs):
    time.sleep(0.5)
    page = inputs.scratch / "page.html"
    page.write_text("one")
    return Output(path=page)
receipt, reused = run_step(Lake(Path(sys.argv[1])), Step("report", "fashion", "1"), build, log=lambda line: None)
print(receipt.sequence, reused)
"""


def test_of_two_identical_runs_one_builds_and_one_reuses(lake):
    children = [
        subprocess.Popen([sys.executable, "-c", TWICE, str(lake.root)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sorted(child.communicate()[0] for child in children) == ["1 False\n", "1 True\n"]


def append_many(root: Path, count: int) -> None:
    from reasoningrec_assets.lake.receipts import Receipt, ReceiptStore

    for _ in range(count):
        ReceiptStore(root).append(Receipt("items", "fashion", "failed", f"run-{os.getpid()}", "", "", 0.0, "1", ""))


def test_concurrent_receipts_get_consecutive_numbers(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=append_many, args=(tmp_path, 15)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    folder = tmp_path / "items" / "fashion"
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:08d}.json" for number in range(1, 61)]
    for path in folder.iterdir():
        assert json.loads(path.read_text())["sequence"] == int(path.stem)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), duckdb.IOException("IO Error: Could not write x: No space left on device")],
    ids=["system", "duckdb"],
)
def test_full_disk_names_the_folder_and_the_way_out(error, publish, lake, monkeypatch):
    good, _ = publish("items")

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(PermanentError) as caught:
        publish("items", salt="new")
    monkeypatch.undo()
    assert str(lake.root) in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert "REASONINGREC_DATA" in caught.value.remedy
    assert lake.newest("items", "fashion") == good
    assert scratch_of(lake) == []


def test_a_disk_without_room_for_the_failed_receipt_still_tells_the_first_error(publish, lake, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reasoningrec_assets.lake.receipts.create_exclusive", full)
    with pytest.raises(PermanentError, match="No space left"):
        publish("items")
    assert lake.receipts.newest("items", "fashion") is None


def test_other_system_errors_pass_through(lake):
    def build(_):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        run_step(lake, Step("items", "fashion", "1"), build, log=silent)


def train(lake: Lake, weights: bytes = b"weights", *, sealed_twice: bool = False, **step: object):
    def build(inputs):
        folder = inputs.scratch / "model"
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "weights.safetensors").write_bytes(weights)
        seal(folder, {"base_model": "small", "rank": 8})
        if sealed_twice:
            seal(folder, {"base_model": "small", "rank": 8})
        return Output(path=folder, metrics={"loss": 1.5}, models=({"role": "base", "reference": "small", "revision": "1"},))

    arguments = {"code_version": "1", **step}
    return run_step(lake, Step("lora_model", "fashion", **arguments), build, log=silent)


def test_model_directory_describes_and_verifies_itself(lake):
    receipt, _ = train(lake)
    folder = lake.path_of(receipt)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert receipt.kind == "model"
    assert receipt.row_count is None
    assert manifest["rank"] == 8
    assert list(manifest["files"]) == ["adapter/weights.safetensors"]
    assert verify(lake, receipt)
    assert train(lake)[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "adapter" / "weights.safetensors").write_bytes(b"other"),
        lambda folder: (folder / "adapter" / "weights.safetensors").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{}"),
    ],
    ids=["altered", "missing", "manifest"],
)
def test_damaged_model_is_made_again_in_place(damage, lake):
    first, _ = train(lake)
    damage(lake.path_of(first))
    assert not verify(lake, first)
    second, reused = train(lake)
    assert not reused
    assert second.path == first.path
    assert verify(lake, second)


def test_sealing_twice_still_verifies(lake):
    receipt, _ = train(lake, sealed_twice=True)
    assert verify(lake, receipt)


def test_equal_weights_are_one_version(lake):
    first, _ = train(lake)
    second, reused = train(lake, force=True)
    assert not reused
    assert (second.path, second.sequence) == (first.path, 2)
    assert train(lake, b"other", force=True)[0].path != first.path


def test_damaged_receipt_is_named(publish, lake):
    publish("items")
    path = lake.root / "receipts/items/fashion/00000001.json"
    for content in ("{", "[]", '{"asset": "items"}'):
        path.write_text(content)
        with pytest.raises(PermanentError, match=r"00000001\.json"):
            lake.receipts.newest("items", "fashion")


def test_the_number_of_a_receipt_that_was_set_aside_stays_taken(publish, lake):
    publish("items", salt="A")
    read, _ = publish("items", salt="B")
    made, _ = publish("user_profiles", upstream=("items",))
    path = lake.root / "receipts/items/fashion/00000002.json"
    path.rename(f"{path}.damaged")
    assert lake.receipts.newest("items", "fashion").sequence == 1, "the one before it counts"
    again, _ = publish("items", salt="C")
    assert (read.sequence, again.sequence) == (2, 3), "what was made from number 2 names no other data"
    assert [one.asset for one in lake.receipts.ancestry([made])] == ["user_profiles"]


def test_receipt_of_a_newer_version_reads(publish, lake):
    receipt, _ = publish("items")
    path = lake.root / "receipts/items/fashion/00000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "carbon": 3}))
    assert lake.newest("items", "fashion") == receipt


def test_lock_is_free_when_its_holder_is_killed(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from reasoningrec_assets.lake.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "x.lock")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    waited = []
    clock = time.monotonic()
    with exclusive(tmp_path / "x.lock", on_wait=lambda: waited.append(1)):
        assert time.monotonic() - clock < 5
    assert waited == []
