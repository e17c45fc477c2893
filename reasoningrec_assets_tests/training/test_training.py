import json
import random
from types import SimpleNamespace

import pytest
import torch

from reasoningrec_assets import compute
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.models import prefix
from reasoningrec_assets.models.store import load_causal_model, load_tokenizer, with_adapter
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import TrainingSettings
from reasoningrec_assets.training import lora
from reasoningrec_assets.training.encode import batches_by_tokens, encode_rows
from reasoningrec_assets.training.scoring import label_log_odds

CPU = compute.Device("cpu:0", "cpu")
QUIET = {"log": lambda _: None}


@pytest.fixture
def chat(tiny_model):
    return Chat(load_tokenizer(tiny_model))


@pytest.fixture
def settings(tiny_model):
    return TrainingSettings(
        base_model=str(tiny_model),
        lora_rank=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules=["v_proj", "q_proj"],
        learning_rate=0.02,
        batch_size=4,
        tokens_per_micro_batch=100_000,
        epochs=3,
        patience=3,
        max_tokens=4000,
        seed=5,
    )


def rows(number=16, seed=0):
    """Rows whose label stands in their history: something a model of any size can learn."""
    draw = random.Random(seed)
    made = []
    for index in range(number):
        label = index % 2 == 0
        lines = [f'- {"liked" if label else "disliked"}: "Movie {draw.randrange(99)}"' for _ in range(draw.randrange(1, 6))]
        answer = "Yes" if label else "No"
        made.append(
            {
                "user_id": f"u{index}",
                "target_item_id": "t",
                "instruction": "Will the user like it? Answer with the instruction's own words.",
                "input": "\n".join([*lines, "", "Target:", '"Alien"']),
                "output": f"Prediction: {answer}\nBecause of the list.",
                "label": label,
            }
        )
    return made


def train(tiny_model, chat, settings, folder, *, training_rows=None):
    encoded = encode_rows(training_rows or rows(), chat, max_tokens=settings.max_tokens)
    valid = encode_rows(rows(8, seed=1), chat, max_tokens=settings.max_tokens)
    return lora.train_adapter(
        encoded, valid, base=tiny_model, chat=chat, settings=settings, tokens_per_batch=10_000, device=CPU, folder=folder, **QUIET
    )


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def score(model, chat, encoded):
    return label_log_odds(model, encoded, chat, tokens_per_batch=500, device="cpu", **QUIET)


@pytest.mark.parametrize("shortest", [1, 10**9], ids=["shared prefix", "no shared prefix"])
def test_scores_equal_a_plain_forward_of_each_row(tiny_model, chat, monkeypatch, shortest):
    monkeypatch.setattr(prefix, "SHORTEST", shortest)
    model = load_causal_model(tiny_model, torch.float32, "cpu")
    encoded = encode_rows(rows(), chat, max_tokens=4000)
    labels = chat.label_tokens()
    plain = []
    with torch.inference_mode():
        for row in encoded:
            logits = model(torch.tensor([[*row.prompt, *labels.prefix]])).logits[0, -1].log_softmax(-1)
            plain.append(float(logits[labels.yes] - logits[labels.no]))
    assert score(model, chat, encoded) == pytest.approx(plain, abs=1e-4)
    assert len({round(value, 4) for value in plain}) > 4


def test_training_learns_and_the_saved_adapter_scores_as_it_was_validated(tiny_model, chat, settings, tmp_path):
    everywhere = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]  # two random layers need more than q and v
    longer = settings.model_copy(update={"epochs": 20, "patience": 20, "target_modules": everywhere})
    result = train(tiny_model, chat, longer, tmp_path / "adapter", training_rows=rows(32))
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss - 0.3
    best = result.epochs[result.best_epoch - 1]
    assert best.valid_auc == max(epoch.valid_auc for epoch in result.epochs)
    assert best.valid_auc > 0.9
    model = with_adapter(load_causal_model(tiny_model, torch.float32, "cpu"), tmp_path / "adapter")
    valid = encode_rows(rows(8, seed=1), chat, max_tokens=4000)
    assert lora.auc([row.label for row in valid], score(model, chat, valid)) == best.valid_auc


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tiny_model, chat, settings, tmp_path):
    for name in ("first", "second"):
        train(tiny_model, chat, settings, tmp_path / name)
    train(tiny_model, chat, settings.model_copy(update={"seed": 6}), tmp_path / "other")
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")
    assert files_of(tmp_path / "first")["adapter_model.safetensors"] != files_of(tmp_path / "other")["adapter_model.safetensors"]


def test_micro_batches_do_not_change_the_result(tiny_model, chat, settings, tmp_path):
    whole = train(tiny_model, chat, settings, tmp_path / "whole")
    cut = train(tiny_model, chat, settings.model_copy(update={"tokens_per_micro_batch": 64}), tmp_path / "cut")
    assert [epoch.train_loss for epoch in cut.epochs] == pytest.approx([epoch.train_loss for epoch in whole.epochs], rel=1e-4)


def test_the_loss_is_the_cross_entropy_of_the_answer_alone(tiny_model, chat):
    model = load_causal_model(tiny_model, torch.float32, "cpu")
    encoded = encode_rows(rows(4), chat, max_tokens=4000)
    expected = 0.0
    with torch.inference_mode():
        for row in encoded:
            logits = model(torch.tensor([[*row.prompt, *row.answer]])).logits[0].log_softmax(-1)
            start = len(row.prompt)
            expected -= sum(float(logits[start - 1 + place, token]) for place, token in enumerate(row.answer))
        assert float(lora._answer_loss(model, encoded, chat, "cpu")) == pytest.approx(expected, rel=1e-4)


def test_early_stopping_keeps_the_best_epoch(tiny_model, chat, settings, tmp_path, monkeypatch):
    validated = iter([0.6, 0.7, 0.65, 0.5, 0.9])
    monkeypatch.setattr(lora, "auc", lambda *_: next(validated))
    result = train(tiny_model, chat, settings.model_copy(update={"epochs": 5, "patience": 2}), tmp_path / "adapter")
    assert (result.best_epoch, len(result.epochs)) == (2, 4)


def test_validation_rows_of_one_class_leave_the_last_epoch(tiny_model, chat, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "auc", lambda *_: None)
    result = train(tiny_model, chat, settings, tmp_path / "adapter")
    assert result.best_epoch == 3
    assert "valid_auc" not in result.metrics


def test_a_loss_that_is_no_number_names_the_rows(tiny_model, chat, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "_answer_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(PermanentError, match=r"user u\d+, item t.*nan"):
        train(tiny_model, chat, settings, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_the_adapter_names_its_base_by_reference_not_by_path(tiny_model, chat, settings, tmp_path):
    train(tiny_model, chat, settings, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == settings.base_model
    assert config["target_modules"] == ["q_proj", "v_proj"]


def test_a_row_too_long_loses_its_oldest_history_and_keeps_its_target(chat):
    (row,) = rows(1)
    row["input"] = "\n".join([*[f'- liked: "Old {number}"' for number in range(50)], "", "Target:", '"Alien"'])
    (whole,) = encode_rows([row], chat, max_tokens=10_000)
    (short,) = encode_rows([row], chat, max_tokens=len(whole.prompt) // 2)
    assert short.dropped > 10
    assert len(short.prompt) + len(short.answer) <= len(whole.prompt) // 2
    assert "Old 49" in short.message
    assert "Alien" in short.message
    assert "Old 0" not in short.message


def test_a_row_that_cannot_fit_is_named(chat):
    with pytest.raises(PermanentError, match="user u0, item t"):
        encode_rows(rows(1), chat, max_tokens=20)


def test_batches_stay_within_their_tokens_and_hold_every_row_once():
    lengths = [random.Random(1).randrange(1, 60) for _ in range(200)]
    batches = batches_by_tokens(lengths, 128)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert all(len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= 128 for batch in batches)


def test_the_schedule_warms_up_and_falls_to_nothing():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = lora._linear_schedule(optimizer, warmup=2, total=6)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])
    assert SimpleNamespace(**optimizer.param_groups[0]).lr == pytest.approx(0.0)
