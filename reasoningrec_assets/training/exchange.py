"""The published code's files, JSON lists of instruction, input and output: written, and read by the adapter ``published``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.adapters.delimited import opened
from reasoningrec_assets.datasets.registry import SPLITS, Dataset
from reasoningrec_assets.datasets.windows import window_name
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Lake, Output
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.prompts.render import parse_answer, student_answer
from reasoningrec_assets.prompts.templates import ANSWERS
from reasoningrec_assets.prompts.text import unmarked

FIELDS = ("instruction", "input", "output")


def export(lake: Lake, partition: str, folder: Path) -> list[Path]:
    """Write ``train.json``, ``valid.json``, ``test.json`` and, with answers and log-odds as ``logits``, ``predictions.json``."""
    inputs = Inputs(lake, {"predictions": lake.newest("predictions", partition)}, folder)
    if (asked_of := inputs.read_by("predictions", "sft_splits")) is None:  # which may have been made anew since
        told = {"problem": "the rows that they answer are gone", "remedy": "Materialize predictions again"}
        raise PermanentError("export predictions", where=str(inputs["predictions"]), **told)
    rows, scored = read_rows(asked_of), read_rows(inputs["predictions"])
    lists = {split: [_fields(row) for row in rows if row["split"] == split] for split in SPLITS}
    asked = {(row["split"], window_name(row)): _fields(row) for row in rows}
    lists["predictions"] = []
    for row in scored:
        answer = student_answer(liked=row["score"] > 0, reasoning=row["explanation"] or "")
        found = {"generated_outputs": answer, "logits": [row["score"]]}
        lists["predictions"].append(asked[row["split"], window_name(row)] | found)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return [folder / f"{name}.json" for name in lists]


def given_splits(dataset: Dataset, files: Mapping[str, Path]) -> Output:
    """The rows of ``sft_splits`` that files in that form hold, by split; each is called by its place in its file.

    PermanentError, with the row, where one lacks a text or predicts neither Yes nor No, and where all train rows predict the same.
    """
    rows: list[dict[str, Any]] = []
    if lacking := [f"{split}.json" for split in SPLITS if split not in files]:
        raise _refused(Path(dataset.name), f"it has no {', '.join(lacking)}: its adapter is {dataset.adapter}, not published")
    for split in SPLITS:
        try:
            with opened(files[split]) as file:
                content: Any = json.loads(file.read())
        except ValueError as error:
            raise _refused(files[split], f"it is no JSON in UTF-8: {error}") from error
        if not isinstance(content, list) or not content:
            raise _refused(files[split], "it is no JSON list that holds a row")
        for place, record in enumerate(content):
            if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in FIELDS):
                raise _refused(files[split], f"row {place} is no record with the texts {', '.join(FIELDS)}")
            label, _ = parse_answer(record["output"])
            if label is None:
                raise _refused(files[split], f'row {place} begins neither with "Prediction: Yes" nor with "Prediction: No"')
            called = {"dataset": dataset.name, "split": split, "user_id": f"row {place}", "target_item_id": split, "label": label}
            rows.append(called | {name: unmarked(text) for name, text in _fields(record).items()})
        if split == "train" and len(answers := {row["label"] for row in rows}) == 1:
            raise _refused(files[split], f"all of its rows predict {ANSWERS[answers.pop()]}: there is nothing to tell apart")
    counts = {f"{split}_rows": float(sum(row["split"] == split for row in rows)) for split in SPLITS}
    return Output(TABLES["sft_splits"].table(rows), counts)


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FIELDS}


def _refused(path: Path, problem: str) -> PermanentError:
    return PermanentError("read the published rows", where=str(path), problem=problem, remedy="Correct the file")
