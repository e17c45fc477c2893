from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics import text
from reasoningrec_assets.metrics.text import BertScore, TextScores, deranged

CANDIDATES = ["the user likes slow dramas", "the user dislikes comedies because funny films", "films .", "dramas"]
REFERENCES = ["the user likes dramas .", "funny comedies", "the user dislikes the films", "dramas"]


def bertscore(candidates: list[str], references: list[str], encoder: Path | str, layers: int = 2) -> TextScores:
    return BertScore(str(encoder), layers).score(candidates, references)


def directly(candidates: list[str], references: list[str], encoder: Path, tmp_path: Path) -> list[np.ndarray]:
    """bert_score's own function, through a link without "t5" in its name."""
    import bert_score

    link = tmp_path / "encoder"
    assert "t5" not in str(link)
    if not link.exists():
        link.symlink_to(encoder)
    # sent_encode hands this limit to the tokenizer's Rust core, which the fixture's unlimited tokenizer would overflow.
    tokenizer = bert_score.utils.get_tokenizer(str(link))
    model = bert_score.utils.get_model(str(link), 2)
    tokenizer.model_max_length = 24
    idf = dict.fromkeys(range(len(tokenizer)), 1.0)
    idf[tokenizer.cls_token_id] = idf[tokenizer.sep_token_id] = 0.0
    scores = bert_score.utils.bert_cos_score_idf(model, references, candidates, tokenizer, idf, device="cpu")
    return [column.numpy() for column in scores.unbind(-1)]


def test_equals_bert_score_called_directly(encoder: Path, tmp_path: Path) -> None:
    ours = bertscore(CANDIDATES, REFERENCES, encoder)
    expected = directly(CANDIDATES, REFERENCES, encoder, tmp_path)
    for column, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(column, reference, atol=1e-5)
    assert ours.f1[3] == pytest.approx(1.0, abs=1e-5)
    assert ours.precision[1] != pytest.approx(ours.recall[1], abs=1e-4)


def test_the_layer_asked_for_is_the_layer_compared(encoder: Path) -> None:
    first, second = (bertscore(CANDIDATES, REFERENCES, encoder, layers).f1 for layers in (1, 2))
    assert abs(first - second).max() > 1e-3


def test_blocks_of_pairs_do_not_change_the_scores(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bertscore(CANDIDATES, REFERENCES, encoder)
    monkeypatch.setattr(text, "_PAIRS_TOGETHER", 3)
    monkeypatch.setattr(text, "_TOKENS_PER_BATCH", 20)
    monkeypatch.setattr(text, "_TOKENS_KEPT", 0)
    np.testing.assert_allclose(bertscore(CANDIDATES, REFERENCES, encoder), whole, atol=1e-6)


def test_a_text_is_embedded_once_for_all_methods(encoder: Path) -> None:
    scorer = BertScore(str(encoder), 2)
    first = scorer.score(CANDIDATES, REFERENCES)
    asked: list[int] = []
    scorer._encoder[1].register_forward_pre_hook(lambda *inputs: asked.append(1))
    shuffled = scorer.score(CANDIDATES, REFERENCES[::-1])
    assert asked == []
    np.testing.assert_allclose(scorer.score(CANDIDATES, REFERENCES), first)
    np.testing.assert_allclose(shuffled, bertscore(CANDIDATES, REFERENCES[::-1], encoder), atol=1e-6)
    scorer.score(["another film"] * 4, REFERENCES)
    assert asked == [1]


@pytest.mark.parametrize("together", [2, 512])
def test_references_are_embedded_once_though_candidates_of_many_methods_make_room(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    from bert_score import utils

    encode, embedded = utils.sent_encode, []
    monkeypatch.setattr(utils, "sent_encode", lambda tokenizer, said: embedded.append(said) or encode(tokenizer, said))
    monkeypatch.setattr(text, "_TOKENS_KEPT", 60)
    monkeypatch.setattr(text, "_PAIRS_TOGETHER", together)
    scorer = BertScore(str(encoder), 2)
    for method in range(12):
        candidates = [f"{'films ' * method}{candidate}" for candidate in CANDIDATES]
        np.testing.assert_allclose(scorer.score(candidates, REFERENCES), bertscore(candidates, REFERENCES, encoder), atol=1e-6)
        embedded[-len({*candidates, *REFERENCES}) :] = []  # those of the one that keeps nothing from method to method
    assert sum(map(len, scorer._kept.values())) < 150
    assert [embedded.count(reference) for reference in REFERENCES] == [1] * 4


def test_an_encoder_saved_in_half_precision_scores_too(encoder: Path, tmp_path: Path) -> None:
    import torch
    import transformers

    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    transformers.AutoModel.from_pretrained(encoder, dtype=torch.float16).save_pretrained(tmp_path)
    found = bertscore(CANDIDATES, REFERENCES, tmp_path)
    np.testing.assert_allclose(found, bertscore(CANDIDATES, REFERENCES, encoder), atol=0.01)


def test_a_text_without_tokens_scores_zero(encoder: Path) -> None:
    assert bertscore(["\u200b", "films"], ["films", "films"], encoder).f1.tolist() == [0.0, pytest.approx(1.0, abs=1e-6)]


def test_empty_texts_score_zero_and_the_others_keep_their_place(encoder: Path) -> None:
    candidates, references = ["", CANDIDATES[0], "  \n", CANDIDATES[1]], ["films", REFERENCES[0], "films", " "]
    scores = bertscore(candidates, references, encoder)
    alone = bertscore(CANDIDATES[:1], REFERENCES[:1], encoder)
    assert scores.f1[[0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    assert scores.f1[1] == pytest.approx(alone.f1[0], abs=1e-6)
    assert alone.f1[0] > 0


def test_only_empty_texts_load_no_encoder() -> None:
    scores = bertscore(["", "a"], ["a", ""], "no/such-encoder")
    assert [column.tolist() for column in scores] == [[0.0, 0.0]] * 3


def test_texts_longer_than_the_encoder_are_cut_not_refused(encoder: Path) -> None:
    long = "the user likes slow dramas " * 40
    assert bertscore([long], [long], encoder).f1[0] == pytest.approx(1.0, abs=1e-5)


def test_a_layer_that_the_encoder_lacks_is_refused(encoder: Path) -> None:
    with pytest.raises(PermanentError, match=r"it has 2 layers, not 3.*Lower evaluation\.encoder_layer"):
        bertscore(["films"], ["films"], encoder, 3)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="is shorter"):
        bertscore(["a", "b"], ["a"], "unused")


@pytest.mark.parametrize("rows", [2, 3, 10, 101])
def test_derangement_is_a_seeded_permutation_without_fixed_points(rows: int) -> None:
    for seed in range(20):
        partner = deranged(rows, seed)
        assert sorted(partner.tolist()) == list(range(rows))
        assert (partner != np.arange(rows)).all()
        assert (partner == deranged(rows, seed)).all()
    if rows == 101:
        assert (deranged(rows, 0) != deranged(rows, 1)).any()


def test_a_single_row_has_no_derangement() -> None:
    assert deranged(0, 0).tolist() == deranged(1, 0).tolist() == []


def test_another_rows_reference_scores_lower(encoder: Path) -> None:
    text = BertScore(str(encoder), 2)
    shuffled = [REFERENCES[row] for row in deranged(4, 5)]
    assert text.score(CANDIDATES, shuffled).f1[3] < text.score(CANDIDATES, REFERENCES).f1[3]


def test_an_encoder_with_pickled_weights_alone_is_read_as_weights(encoder: Path, tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    old = shutil.copytree(encoder, tmp_path / "old")
    torch.save(safetensors.torch.load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    found, expected = (bertscore(CANDIDATES, REFERENCES, folder).f1 for folder in (old, encoder))
    assert found.tolist() == expected.tolist()
    torch.save({"run": os.system}, old / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights_only|unsupported global"):
        bertscore(CANDIDATES, REFERENCES, old)
