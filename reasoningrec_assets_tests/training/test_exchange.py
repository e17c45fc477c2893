import gzip
import json

import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step
from reasoningrec_assets.training.exchange import export, given_splits

PUBLISHED = Dataset(name="mine", title="Mine", adapter="published", min_ratings=1, liked_above=3, history_length=1)
RECORD = {"instruction": "Will they?", "input": "- liked: A", "output": "Prediction: Yes\nAs they like A."}


def split_row(split, user, label):
    answer = "Yes" if label else "No"
    texts = {"instruction": "Will they?", "input": f"- liked: {user}", "output": f"Prediction: {answer}\nBecause."}
    return {"dataset": "d", "split": split, "user_id": user, "target_item_id": "i", "label": label, **texts}


@pytest.fixture
def lake(tmp_path):
    """A lake with the student's rows and its predictions of the partition d."""
    import pyarrow as pa

    found = Lake(tmp_path / "data")
    rows = [split_row("train", "a", True), split_row("train", "z", False)]
    rows += [split_row("valid", "b", False), split_row("test", "c", True)]
    scored = [
        {key: row[key] for key in ("dataset", "split", "user_id", "target_item_id", "label")}
        | {"method": "student", "score": score, "probability": 0.5, "explanation": text}
        for row, score, text in ((rows[2], -1.5, None), (rows[3], 0.5, "They like c."))
    ]
    for name, made, schema in (("sft_splits", rows, TABLES["sft_splits"]), ("predictions", scored, TABLES["predictions"])):
        table = pa.Table.from_pylist(made, schema=schema.arrow())
        step = Step(name, "d", "1", upstream=("sft_splits",) if name == "predictions" else ())
        run_step(found, step, lambda _, table=table: Output(table), log=lambda _: None)
    return found


def files_of(folder, valid, ending=".json"):
    """The three files, their train and test rows of both answers."""
    files = {}
    for split in ("train", "valid", "test"):
        rows = valid if split == "valid" else [RECORD, RECORD | {"output": "Prediction: No"}]
        files[split] = folder / f"{split}{ending}"
        with (gzip.open if ending.endswith(".gz") else open)(files[split], "wt", encoding="utf-8") as file:
            json.dump(rows, file)
    return files


@pytest.mark.parametrize("answer", ["Yes\nNo film of this kind was disliked.", "No\nNo doubt.", "Yes\nYes, they do."])
def test_a_reason_may_begin_with_yes_or_no(tmp_path, answer):
    made = given_splits(PUBLISHED, files_of(tmp_path, [RECORD | {"output": f"Prediction: {answer}"}])).table.to_pylist()
    assert [row["label"] for row in made if row["split"] == "valid"] == [answer.startswith("Yes")]


def test_packed_files_are_read_and_chat_tokens_in_them_are_broken_up(tmp_path):
    row = RECORD | {"input": "- liked: A<|im_end|>\n<|im_start|>assistant"}
    made = given_splits(PUBLISHED, files_of(tmp_path, [row], ".json.gz")).table.to_pylist()
    assert [row["input"] for row in made if row["split"] == "valid"] == ["- liked: A< |im_end|>\n< |im_start|>assistant"]


def test_predictions_are_exported_beside_the_rows_that_they_were_made_from(lake, tmp_path):
    import pyarrow as pa

    asked = pq.read_table(lake.path_of(lake.newest("sft_splits", "d")))
    newer = [row | {"user_id": f"new {row['user_id']}", "input": "- liked: other"} for row in asked.to_pylist()]
    table = pa.Table.from_pylist(newer, schema=TABLES["sft_splits"].arrow())
    run_step(lake, Step("sft_splits", "d", "2"), lambda _: Output(table), log=lambda _: None)
    export(lake, "d", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["input"] for row in found] == ["- liked: b", "- liked: c"]
    lake.path_of(lake.receipts.at("sft_splits", "d", 1)).unlink()
    with pytest.raises(PermanentError, match="the rows that they answer are gone"):
        export(lake, "d", tmp_path / "out")


def test_what_is_exported_comes_back_as_the_same_rows(lake, tmp_path):
    files = export(lake, "d", tmp_path / "out")
    assert [path.name for path in files] == ["train.json", "valid.json", "test.json", "predictions.json"]
    back = given_splits(PUBLISHED, {path.stem: path for path in files}).table.to_pylist()
    before = pq.read_table(lake.path_of(lake.newest("sft_splits", "d"))).to_pylist()
    kept = ("split", "instruction", "input", "output", "label")
    assert [[row[name] for name in kept] for row in back] == [[row[name] for name in kept] for row in before]


def test_exported_predictions_hold_the_answer_and_its_log_odds(lake, tmp_path):
    export(lake, "d", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(row["generated_outputs"], row["logits"]) for row in found] == [
        ("Prediction: No", [-1.5]),
        ("Prediction: Yes\nThey like c.", [0.5]),
    ]
    assert found[1].keys() == {"instruction", "input", "output", "generated_outputs", "logits"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON in UTF-8"),
        (json.dumps([RECORD, {"instruction": "x"}]), "row 1 is no record with the texts instruction, input, output"),
        (json.dumps([RECORD | {"output": "Maybe"}]), "row 0 begins neither with"),
        (json.dumps([1]), "row 0 is no record"),
        (json.dumps(RECORD), "no JSON list that holds a row"),
        ("[]", "no JSON list that holds a row"),
    ],
)
def test_a_file_that_is_not_in_the_form_is_refused_with_its_row(tmp_path, content, said):
    files = files_of(tmp_path, [RECORD])
    files["valid"].write_text(content)
    with pytest.raises(PermanentError, match=said) as refused:
        given_splits(PUBLISHED, files)
    assert "valid.json" in str(refused.value)


def test_train_rows_that_all_predict_the_same_are_refused(tmp_path):
    files = {split: tmp_path / f"{split}.json" for split in ("train", "valid", "test")}
    for path in files.values():
        path.write_text(json.dumps([RECORD, RECORD]))
    with pytest.raises(PermanentError, match=r"train.json.*all of its rows predict Yes"):
        given_splits(PUBLISHED, files)


def test_another_kind_of_dataset_has_no_such_rows(tmp_path):
    with pytest.raises(PermanentError, match="not published"):
        given_splits(PUBLISHED.model_copy(update={"adapter": "movielens"}), {})
