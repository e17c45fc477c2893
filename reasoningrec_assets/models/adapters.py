"""LoRA adapters on a base model: loaded, refused where they were made for another one, and rounded once."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import safetensors
import torch

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.steps import MANIFEST
from reasoningrec_assets.models import store


def with_adapter(model: Any, adapter: Path, base_model: str | None = None, quantization: str = "none") -> Any:
    """The model with a LoRA adapter on it, for inference; not merged, which would round small updates away with the weights.

    PermanentError where the folder is no adapter for a model of these layers, or its manifest names another `base_model`.
    """
    problem, manifest = None, adapter / MANIFEST
    if base_model and manifest.is_file():  # ours have one, another trainer's have not
        made: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        if (made["base_identity"], loaded_in := made["settings"]["quantization"]) != (store.identity(base_model), quantization):
            problem = f"it was trained on {made['base_model']} in {loaded_in}; the settings name {base_model} in {quantization}"
    loaded: Any = None
    try:
        loaded = None if problem else peft.PeftModel.from_pretrained(model, str(adapter))
        if loaded and (file := adapter / "adapter_model.safetensors").is_file():  # peft leaves out what one of them lacks
            with safetensors.safe_open(file, "pt") as saved:
                odd = {*saved.keys()} ^ peft.get_peft_model_state_dict(loaded, save_embedding_layers=False).keys()
            if odd := sorted(name for name in odd if "lora_" in name):
                problem = f"it has other layers than this base: {len(odd)} tensors are of one of them alone, such as {odd[0]}"
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        problem = f"{type(error).__name__}: {error}"[:500]
    if problem:
        remedy = "Name the base that it was trained on, and its quantization, in the settings, or train it again (lora_model)"
        raise PermanentError("put an adapter on its base", where=str(adapter), problem=problem, remedy=remedy)
    return rounded_once(loaded.eval())


def rounded_once(model: Any) -> Any:
    """The model, what its adapter adds to 16-bit outputs added before these are rounded; after it, small updates would be lost."""
    for layer in model.modules():
        plain = type(layer) is peft.tuners.lora.Linear and not layer.lora_variant and not any(layer.lora_bias.values())
        if plain and layer.base_layer.weight.dtype.itemsize == 2:
            layer.forward = partial(_adapted_output, layer)
    return model


def _adapted_output(layer: Any, x: Any) -> Any:
    if layer.disable_adapters or layer.merged:
        return type(layer).forward(layer, x)
    (name,) = layer.active_adapters
    outer = layer.lora_B[name].weight * layer.scaling[name]
    inner = layer.lora_A[name](layer.lora_dropout[name](x.to(outer.dtype)))
    base = layer.base_layer
    return _OneProduct.apply(x, inner.to(x.dtype), base.weight, outer.to(x.dtype), base.bias)


class _OneProduct(torch.autograd.Function):
    """One product, summed in fp32, of both inputs side by side and both weights; autograd would keep copies of frozen ones."""

    @staticmethod
    def forward(ctx: Any, x: Any, inner: Any, weight: Any, outer: Any, bias: Any) -> Any:
        ctx.save_for_backward(inner, weight, outer)
        return torch.nn.functional.linear(torch.cat([x, inner], -1), torch.cat([weight, outer], 1), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        inner, weight, outer = ctx.saved_tensors
        (gradient,) = gradients
        return gradient @ weight, gradient @ outer, None, gradient.flatten(0, -2).T @ inner.flatten(0, -2), None
