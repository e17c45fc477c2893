import json

import peft
import pytest
import torch
import transformers

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.models import adapters, store


def adapted(folder, dtype="float32", **more):
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["q_proj"], lora_dropout=0.0, **more)
    return peft.get_peft_model(store.load_causal_model(folder, dtype, "cpu"), config)


def first_layer(model):
    return next(module for module in model.modules() if type(module) is peft.tuners.lora.Linear)


def test_updates_below_the_grid_of_16_bits_are_not_lost(tiny_model):
    model = adapted(tiny_model, "bfloat16")
    layer = first_layer(model)
    x = torch.randn(4096, layer.in_features).bfloat16()
    with torch.no_grad():
        base = layer.base_layer(x).float()
        inner, outer = layer.lora_A["default"](x.float()), layer.lora_B["default"].weight
        outer.normal_()
        # a sixteenth of the step from one number of seven bits to the next
        outer *= base.abs().mean() / 2048 / (inner @ outer.T * layer.scaling["default"]).abs().mean()
        share = inner @ outer.T * layer.scaling["default"]

        def kept(output):
            return float(((output.float() - base) * share).sum() / (share**2).sum())

        assert kept(layer(x)) < 0.5, "what peft does by itself: mend adapters.rounded_once where this is no longer so"
        adapters.rounded_once(model)
        assert kept(layer(x)) == pytest.approx(1, abs=0.15)
        with model.disable_adapter():
            assert torch.equal(layer(x).float(), base)


def test_layers_that_need_more_than_a_product_keep_the_forward_of_peft(tiny_model):
    for dtype, more, mine in (("bfloat16", {}, True), ("float32", {}, False), ("bfloat16", {"use_dora": True}, False)):
        model = adapters.rounded_once(adapted(tiny_model, dtype, **more))
        layers = [module for module in model.modules() if type(module) is peft.tuners.lora.Linear]
        assert layers
        assert all(("forward" in vars(layer)) is mine for layer in layers)


def test_the_gradients_are_those_of_peft_and_no_copy_of_the_frozen_weight_is_kept_for_them(tiny_model):
    model = adapted(tiny_model, "bfloat16")
    layer = first_layer(model)
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    x = torch.randn(2, 50, layer.in_features).bfloat16().requires_grad_()
    wanted = (x, layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    expected = torch.autograd.grad((layer(x).float() ** 2).sum(), wanted)
    adapters.rounded_once(model)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        found = torch.autograd.grad((layer(x).float() ** 2).sum(), wanted)
    for mine, theirs in zip([one.float() for one in found], [one.float() for one in expected], strict=True):
        assert torch.nn.functional.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > 0.999
        torch.testing.assert_close(mine.norm(), theirs.norm(), rtol=0.01, atol=0)
    weight = layer.base_layer.weight
    assert any(one.data_ptr() == weight.data_ptr() for one in kept)
    assert not any(one.shape == (weight.shape[0], weight.shape[1] + 8) for one in kept)


def saved(model, folder, **manifest):
    model.save_pretrained(folder)
    if manifest:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_adapter_of_another_base_is_refused_by_name(tiny_model, tmp_path):
    about = {"base_model": "pypi:one==1", "base_identity": store.identity(str(tiny_model)), "settings": {"quantization": "none"}}
    folder = saved(adapted(tiny_model), tmp_path / "adapter", **about)
    plain = store.load_causal_model(tiny_model, "float32", "cpu")
    assert isinstance(adapters.with_adapter(plain, folder, str(tiny_model)), peft.PeftModel)
    with pytest.raises(PermanentError, match="trained on pypi:one==1 in none; the settings name pypi:two==2 in none"):
        adapters.with_adapter(plain, folder, "pypi:two==2")
    with pytest.raises(PermanentError, match=f"in none; the settings name {tiny_model} in nf4"):
        adapters.with_adapter(plain, folder, str(tiny_model), "nf4")


@pytest.mark.parametrize("layers", [1, 3])
def test_an_adapter_of_more_layers_or_fewer_than_its_base_is_refused(tiny_model, tmp_path, layers):
    folder = saved(adapted(tiny_model), tmp_path / "adapter")  # of two
    config = transformers.AutoConfig.from_pretrained(tiny_model, num_hidden_layers=layers)
    other = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(PermanentError, match=r"other layers than this base: 2 tensors .*\.layers\.[12]\."):
        adapters.with_adapter(other, folder)


def test_an_adapter_for_a_model_of_other_shapes_is_refused_with_its_folder(tiny_model, tmp_path):
    folder = saved(adapted(tiny_model, r=4), tmp_path / "adapter")
    wrong = json.loads((folder / "adapter_config.json").read_text()) | {"r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(wrong))
    with pytest.raises(PermanentError, match="size mismatch") as refused:
        adapters.with_adapter(store.load_causal_model(tiny_model, "float32", "cpu"), folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("spoiled", ["nothing", "weights"])
def test_a_folder_that_is_no_adapter_is_named(tiny_model, tmp_path, spoiled):
    folder = tmp_path / "adapter"
    if spoiled == "weights":
        saved(adapted(tiny_model), folder)
        (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PermanentError) as refused:
        adapters.with_adapter(store.load_causal_model(tiny_model, "float32", "cpu"), folder)
    assert str(folder) in str(refused.value)
