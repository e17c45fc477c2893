"""What the teacher's assets offer beyond writing: dry runs, engines by config, the blind teacher, observations."""

from __future__ import annotations

import dagster as dg
import pytest

from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets_tests.assets.conftest import DEMO

DESCRIPTIONS = '+key:"item_descriptions"'  # with everything upstream of it
PROFILES = '+key:"user_profiles"'
LABELS = '+key:"reasoning_labels"'


def rows_of(pipeline, asset):
    return read_rows(pipeline.lake.path_of(pipeline.lake.receipts.newest(asset, DEMO)))


def test_a_dry_run_says_what_it_would_spend_and_materializes_nothing(pipeline, capfd):
    dry = {"item_descriptions": {"config": {"dry_run": True}}}
    result = pipeline.run(selection=PROFILES, config=dry)
    assert result.success
    done = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert done == {"raw_dataset", "cleaned_interactions", "items", "interaction_windows"}
    assert pipeline.lake.receipts.newest("item_descriptions", DEMO) is None
    assert not list((pipeline.lake.root / "cache").rglob("*.parquet"))
    said = capfd.readouterr().err
    assert "40 requests, 40 different, 0 in the cache, 40 to write with" in said
    assert "dry run: nothing was spent" in said


def test_progress_is_observed_and_figures_are_numbers(pipeline):
    result = pipeline.run(selection=DESCRIPTIONS)
    (seen,) = [
        event.event_specific_data.asset_observation
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    ]
    assert seen.asset_key == dg.AssetKey("item_descriptions")
    assert seen.metadata["written"].value == seen.metadata["planned"].value == 40
    receipt = pipeline.lake.receipts.newest("item_descriptions", DEMO)
    for name in (
        "calls",
        "cache_hits",
        "prompt_tokens",
        "completion_tokens",
        "tokens_per_second",
        "seconds",
        "over_word_limit_share",
    ):
        assert isinstance(receipt.metrics[f"generation_{name}"], float)


def test_a_blind_teacher_keeps_right_answers_and_falls_back_where_it_has_none(pipeline, monkeypatch):
    from reasoningrec_assets.generation.engines.transformers import TransformersEngine

    def answers(self, chunk, sampling):
        from reasoningrec_assets.generation.requests import Answer

        # asked for a prediction it says Yes twice, then No; told the label, it says why
        told = [
            ("told" if "known" in request.message else f"Prediction: {'No' if request.draw == 2 else 'Yes'}\nbecause")
            for _, request in chunk
        ]
        return [
            Answer(key, f"{text} {request.draw}.", "stop", 5, 3, 0.1) for (key, request), text in zip(chunk, told, strict=True)
        ]

    monkeypatch.setattr(TransformersEngine, "generate", answers)
    mode = {"teacher_mode": "blind", "temperature": 0.7}

    def reasoned(samples):
        config = {"reasoning_labels": {"config": {"reasoning_labels": {**mode, "blind_samples": samples}, "sampling": {"k": 8}}}}
        pipeline.run(selection=LABELS, config=config)
        return rows_of(pipeline, "reasoning_labels")

    three = reasoned(3)
    assert {(row["label"], row["teacher_mode"], row["text"]) for row in three} == {
        (True, "blind", "because 0."),
        (False, "blind", "because 2."),
    }
    two = reasoned(2)
    assert {(row["label"], row["teacher_mode"], row["text"]) for row in two} == {
        (True, "blind", "because 0."),
        (False, "conditioned_fallback", "told 0."),
    }
    liked = sum(row["label"] for row in two) / len(two)
    assert pipeline.lake.receipts.newest("reasoning_labels", DEMO).metrics["blind_right_share"] == pytest.approx(liked)


def test_another_engine_is_another_version_of_the_texts(pipeline):
    wrong = {"item_descriptions": {"config": {"engine": {"kind": "openai"}}}}
    result = pipeline.run(selection=DESCRIPTIONS, config=wrong, raise_on_error=False)
    assert not result.success
    quick = {"item_descriptions": {"config": {"engine": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "retries": 0}}}}
    result = pipeline.run(selection=DESCRIPTIONS, config=quick, raise_on_error=False)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "http://127.0.0.1:9/v1" in failure.event_specific_data.error.cause.message or "http://127.0.0.1:9/v1" in str(
        failure.event_specific_data
    )


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantised_teacher_writes_on_the_processor(pipeline, quantization):
    config = {"item_descriptions": {"config": {"engine": {"quantization": quantization}}}}
    pipeline.run(selection=DESCRIPTIONS, config=config)
    assert len(rows_of(pipeline, "item_descriptions")) == 40
