"""Studies on a tiny model: a branch holds what its variant uses and nothing else, and runs without the main pipeline's rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.assets import evaluation
from reasoningrec_assets.assets.baselines import baselines
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Output, Step, run_step
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.models.adapters import with_adapter
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.render import student_message
from reasoningrec_assets.training import student
from reasoningrec_assets.training.variants import VARIANTS

texts_of = evaluation._texts


def upstream_of(pipeline, key):
    return {receipt.asset for receipt in pipeline.lake.receipts.ancestry([pipeline.lake.newest(key, "ml100k")])}


def written_scores(pipeline):
    """By method the BERTScore on the leaderboard, where it has one."""
    rows = read_rows(pipeline.lake.path_of(pipeline.lake.newest("leaderboard", "ml100k")))
    return {row["method"]: row["bertscore_f1"] for row in rows if row["bertscore_f1"] is not None}


@pytest.mark.slow
def test_a_branch_is_made_from_what_its_variant_sees(pipeline, monkeypatch):
    selection = " or ".join(f'+key:"study/{name}/predictions"' for name in ("no_profile", "no_description", "collaborative"))
    pipeline.run(selection=selection)
    no_profile = upstream_of(pipeline, "study/no_profile/predictions")
    assert "study/no_profile/reasoning_labels" in no_profile
    assert not {"user_profiles", "reasoning_labels", "predictions"} & no_profile
    no_description = upstream_of(pipeline, "study/no_description/predictions")
    assert "study/no_description/user_profiles" in no_description
    assert "item_descriptions" not in no_description
    assert "item_descriptions" not in upstream_of(pipeline, "study/collaborative/predictions")
    table = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("study/no_profile/predictions", "ml100k")))
    assert set(table["method"].to_pylist()) == {"no_profile"}
    shown = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("study/no_profile/sft_splits", "ml100k")))["input"]
    assert not any("User profile" in text for text in shown.to_pylist())
    held_against = []
    monkeypatch.setattr(evaluation, "_texts", lambda *told: held_against.append(texts_of(*told)) or held_against[0])
    pipeline.run(selection='+key:"sft_splits"')
    pipeline.run(selection='key:"leaderboard"')
    main, own = (
        pipeline.lake.path_of(pipeline.lake.newest(f"{branch}sft_splits", "ml100k")) for branch in ("", "study/no_profile/")
    )
    assert held_against[0].prompts["no_profile"] == own != main
    assert written_scores(pipeline).keys() == {"no_profile", "no_description"}
    pipeline.run(selection='key:"leaderboard"', config={"leaderboard": {"config": {"evaluation": {"encoder": ""}}}})
    assert written_scores(pipeline) == {}


@pytest.mark.slow
def test_a_student_that_reasons_first_is_scored_after_its_own_reason(pipeline, monkeypatch):
    import torch

    write = student.write_texts

    def concluded(rows, ask, writer):
        written = write(rows, ask, writer)
        return replace(written, texts=[replace(one, text=f"{one.text}. Prediction: Yes") for one in written.texts])

    monkeypatch.setattr(student, "write_texts", concluded)  # as one that was trained for longer ends
    pipeline.run(selection='+key:"study/reason_first/predictions"')
    splits, adapter, made = (
        pipeline.lake.newest(f"study/reason_first/{table}", "ml100k") for table in ("sft_splits", "lora_model", "predictions")
    )
    rows = {(row["split"], row["user_id"]): row for row in read_rows(pipeline.lake.path_of(splits))}
    learned = [row for (split, _), row in rows.items() if split == "train"]
    assert all(row["output"].splitlines()[-1] == f"Prediction: {'Yes' if row['label'] else 'No'}" for row in learned)
    assert any("\n" in row["output"] for row in learned)
    assert "valid_auc" not in adapter.metrics, "nobody wrote the reasons that the validation labels would follow"

    folder = store.resolve(made.models[0]["reference"], pipeline.lake.root)
    chat = Chat(store.load_tokenizer(folder))
    model = with_adapter(store.load_causal_model(folder, "float32", "cpu"), pipeline.lake.path_of(adapter))
    labels = chat.label_tokens()

    def log_odds(row, begin):
        ids = [*chat.prompt(student_message(rows[row["split"], row["user_id"]]), begin), *labels.prefix]
        with torch.inference_mode():
            last = model(torch.tensor([ids])).logits[0, -1].float()
        return float(last[list(labels.yes)].logsumexp(0) - last[list(labels.no)].logsumexp(0))

    explained = [row for row in read_rows(pipeline.lake.path_of(made)) if row["explanation"]]
    assert not [row for row in explained if "Prediction" in row["explanation"]]
    scores = [row["score"] for row in explained]
    after = [log_odds(row, f"{row['explanation']}\n") for row in explained]
    at_once = [log_odds(row, "") for row in explained]
    assert scores == pytest.approx(after, abs=0.05), "bf16 beside fp32"
    assert scores != pytest.approx(at_once, abs=0.05)


@pytest.mark.slow
def test_a_student_is_asked_on_the_base_that_it_was_trained_on_with_no_more_than_that_can_take(pipeline, model_copy, monkeypatch):
    """Quantised, over the same cards, and of a context that is shorter than the settings allow rows to be."""
    config = json.loads((model_copy / "config.json").read_text()) | {"max_position_embeddings": 400}
    (model_copy / "config.json").write_text(json.dumps(config))
    load, loaded = store.load_causal_model, []

    def recorded(folder, *where, **more):
        loaded.extend([more] if folder == model_copy else [])
        return load(folder, *where, **more | {"max_memory": None})

    monkeypatch.setattr(store, "load_causal_model", recorded)
    training = {"base_model": str(model_copy), "quantization": "nf4", "max_memory": {"0": "1GB"}}
    keys = ("lora_model", "predictions")
    pipeline.run(selection='+key:"predictions"', config={key: {"config": {"training": training}} for key in keys})
    assert loaded == [{"quantization": "nf4", "max_memory": {"0": "1GB"}}] * 2
    assert all(pipeline.lake.newest(key, "ml100k").metrics["history_lines_dropped"] > 0 for key in keys)


@pytest.mark.slow
def test_a_base_is_asked_in_every_form_of_the_papers_prompts(pipeline):
    keys = {key.to_user_string() for key in pipeline.definitions.resolve_all_asset_keys()}
    asked = {key.split("/")[1] for key in keys if key.startswith("zero_shot/")}
    forms = {
        "titles": "no text",
        "no_profile": "descriptions",
        "no_description": "profile",
        "label_only": "both",
        "reworded": "all, asked in other words",
        "student": "all",
    }
    assert forms.keys() <= asked
    graph = pipeline.definitions.resolve_asset_graph()
    splits = graph.get(dg.AssetKey(["zero_shot", "label_only", "predictions"])).parent_keys
    assert splits == {dg.AssetKey(["study", "label_only", "sft_splits"])}


def test_the_zero_shot_teacher_is_the_model_that_wrote_the_reasonings(pipeline):
    key = "zero_shot/teacher/predictions"
    no_student = {"training": {"base_model": "pypi:not-a-model==1"}}
    pipeline.run(selection=f'+key:"{key}"', config={key.replace("/", "__"): {"config": no_student}})
    made, wrote = (pipeline.lake.newest(name, "ml100k") for name in (key, "reasoning_labels"))
    assert [model["reference"] for model in made.models] == [model["reference"] for model in wrote.models]
    scored = read_rows(pipeline.lake.path_of(made))
    assert {row["method"] for row in scored} == {"zero_shot_teacher"}


def test_every_variant_has_a_job_and_a_branch_that_ends_in_predictions(pipeline):
    jobs = {job.name for job in pipeline.definitions.jobs}
    keys = {key.to_user_string() for key in pipeline.definitions.resolve_all_asset_keys()}
    for name in VARIANTS.keys() - {"full"}:
        assert f"study_{name}" in jobs
        assert {f"study/{name}/{table}" for table in ("sft_splits", "lora_model", "predictions")} <= keys


def test_a_dataset_of_rows_made_elsewhere_needs_their_files_alone(data_root, monkeypatch):
    declared = data_root / "datasets" / "mine.toml"
    declared.parent.mkdir()
    declared.write_text('title = "Mine"\nadapter = "published"\nmin_ratings = 1\nliked_above = 3\nhistory_length = 1\n')
    monkeypatch.setenv("REASONINGREC_DATA", str(data_root))
    raw = registry.get("mine").raw_files
    assert {role: file.names for role, file in raw.items()} == {split: (f"{split}.json",) for split in ("train", "valid", "test")}


@pytest.mark.slow
def test_the_leaderboard_takes_what_exists_and_follows_when_more_does(pipeline, capfd):
    pipeline.run(selection='+key:"baselines/like_rate/predictions" or key:"leaderboard"')
    before = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("leaderboard", "ml100k")))["method"].to_pylist()
    assert before == ["like_rate"]
    more = 'key:"baselines/logistic_regression/predictions" or key:"baselines/sasrec/predictions" or key:"leaderboard"'
    pipeline.run(selection=more)
    table = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("leaderboard", "ml100k"))).to_pylist()
    assert {row["method"] for row in table} == {"like_rate", "logistic_regression", "sasrec"}
    assert all(row["coverage"] == 1 for row in table)

    spoilt = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("baselines/sasrec/predictions", "ml100k")))
    twice = Step("baselines/sasrec/predictions", "ml100k", "0", settings={"spoilt": True})
    run_step(pipeline.lake, twice, lambda _: Output(pa.concat_tables([spoilt, spoilt[:1]])), log=print)
    board = pipeline.run(selection='key:"leaderboard"').asset_materializations_for_node("leaderboard")[0].metadata
    problem = "it has 2 rows for a user and item that it scores more than once"
    table = read_rows(pipeline.lake.path_of(pipeline.lake.newest("leaderboard", "ml100k")))
    assert {row["method"]: row["problem"] for row in table} == {"like_rate": None, "logistic_regression": None, "sasrec": problem}
    assert (board["methods"].value, board["methods_left_out"].value) == (3, 1)
    assert problem in board["left_out"].value
    assert problem in capfd.readouterr().err


def test_every_variant_and_baseline_is_in_the_documentation():
    text = (Path(__file__).parent.parent.parent / "docs" / "studies.md").read_text(encoding="utf-8")
    names = VARIANTS.keys() - {"full"} | {name.removesuffix("_k") for name in baselines}
    assert not [name for name in names if f"`{name}`" not in text]
