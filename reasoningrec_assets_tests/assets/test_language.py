"""What the teacher's assets offer beyond writing: reviews, dry runs, engines by config, the blind teacher, observations."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets_tests.assets.conftest import DEMO

DESCRIPTIONS = '+key:"item_descriptions"'  # with everything upstream of it
PROFILES = '+key:"user_profiles"'
LABELS = '+key:"reasoning_labels"'


def rows_of(pipeline, asset, partition=DEMO):
    return read_rows(pipeline.lake.path_of(pipeline.lake.receipts.newest(asset, partition)))


def test_a_dry_run_says_what_it_would_spend_and_materializes_nothing(pipeline, capfd):
    dry = {"item_descriptions": {"config": {"dry_run": True}}}
    result = pipeline.run(selection=PROFILES, config=dry)
    assert result.success
    done = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert done == {"raw_dataset", "cleaned_interactions", "items", "interaction_windows", "item_reviews"}
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
    receipt = pipeline.lake.receipts.newest("reasoning_labels", DEMO)
    assert receipt.prompts.keys() == {"reasoning", "reasoning_blind"}
    blind = receipt.metrics["blind_generation_requests"]
    assert receipt.metrics["generation_requests"] == blind + receipt.row_count * (1 - receipt.metrics["blind_right_share"])
    assert receipt.metrics["blind_right_share"] == pytest.approx(liked)


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


@pytest.fixture
def fashion(pipeline):
    """Three users who rated and reviewed the same nine products, of which all but the last have metadata."""
    folder = pipeline.lake.root / "raw" / "fashion"
    folder.mkdir(parents=True)
    pairs = [(user, f"B{n}", 1_400_000_000 + n * 86_400) for user in ("A1", "A2", "A3") for n in range(9)]
    (folder / "AMAZON_FASHION.csv").write_text("".join(f"{item},{user},5.0,{time}\n" for user, item, time in pairs))
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewerID": user,
            "asin": item,
            "reviewText": f"{user} wore {item}",
            "unixReviewTime": time,
        }
        for user, item, time in [*pairs, ("A4", "B8", 1), ("A4", "B0", 1)]
    ]
    (folder / "AMAZON_FASHION.json").write_text("".join(json.dumps(review) + "\n" for review in reviews))
    metadata = [{"asin": f"B{n}", "title": f"Sock {n}", "price": ".css{}"} for n in range(8)]
    (folder / "meta_AMAZON_FASHION.json").write_text("".join(json.dumps(row) + "\n" for row in metadata))
    return pipeline


def test_amazons_descriptions_are_asked_for_with_reviews_that_tell_of_no_target(fashion, monkeypatch):
    from reasoningrec_assets.generation import teacher

    asked = {}

    def ask_only(rows, ask, writer):
        asked.update({row: ask(row).message for row in rows})
        return original(rows, ask, writer)

    original = teacher.write_texts
    monkeypatch.setattr(teacher, "write_texts", ask_only)
    fashion.run(selection=f"{DESCRIPTIONS} or key:cleaning_report", partition="fashion")
    # the last three are targets: only A4, who has no window, may tell of them
    assert "A4 wore B8" in asked["B8"]
    assert not any(f"A{user} wore B{item}" in asked[f"B{item}"] for user in (1, 2, 3) for item in (6, 7, 8))
    assert all(f"A{user} wore B5" in asked["B5"] for user in (1, 2, 3))
    assert "Customers' reviews" not in asked["B6"]
    described = {row["item_id"] for row in rows_of(fashion, "item_descriptions", "fashion")}
    assert described == {row["item_id"] for row in rows_of(fashion, "item_reviews", "fashion")} == set(asked)
    receipt = fashion.lake.newest("item_descriptions", "fashion")
    assert set(receipt.prompts) == {"item_description", "item_about", "item_reviews"}
    assert {"asset": "item_reviews", "column": "reviews"} in receipt.column_lineage["text"]
    report = {row["rule"]: row["rows"] for row in rows_of(fashion, "cleaning_report", "fashion")}
    assert (report["price_no_amount"], report["item_without_row"]) == (8, 1)


def test_reviews_as_in_the_paper_are_another_version_that_says_so(fashion):
    reviews = '+key:"item_reviews"'
    fashion.run(selection=reviews, partition="fashion")
    safe = fashion.lake.newest("item_reviews", "fashion")
    fashion.run(selection=reviews, partition="fashion", config={"item_reviews": {"config": {"reviews": "paper"}}})
    paper = fashion.lake.newest("item_reviews", "fashion")
    assert (safe.settings["reviews"], paper.settings["reviews"]) == ("leak_safe", "paper")
    assert (safe.metrics["leak_safe"], paper.metrics["leak_safe"]) == (1.0, 0.0)
    assert (safe.metrics["withheld"], paper.metrics["withheld"]) == (9.0, 0.0)
    texts = [text for row in rows_of(fashion, "item_reviews", "fashion") for text in row["reviews"]]
    assert "rated 5: A1 wore B8" in texts


def test_another_word_for_which_reviews_is_refused(fashion):
    with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type Reviews got all"):
        fashion.run(selection="item_reviews", partition="fashion", config={"item_reviews": {"config": {"reviews": "all"}}})
