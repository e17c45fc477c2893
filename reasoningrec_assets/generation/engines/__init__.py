"""Engines: each turns chunks of requests into answers, and knows nothing of caches or tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from reasoningrec_assets.generation.requests import TextGenerator
from reasoningrec_assets.settings import EngineSettings


def open_engine(
    settings: EngineSettings, model: str, data_root: Path, *, batch_size: int, log: Callable[[str], None] = print
) -> AbstractContextManager[TextGenerator]:
    """The engine that the settings name, ready to answer inside the block.

    `model` is a model reference, or the name of a model on a server; `batch_size` is what transformers decodes together.
    """
    # each engine's libraries are imported only where it is the one that is used
    if settings.kind == "openai":
        from reasoningrec_assets.generation.engines import openai

        return openai.open_engine(model, settings, log=log)
    if settings.kind == "vllm":
        from reasoningrec_assets.generation.engines import vllm

        return vllm.open_engine(model, data_root, settings, log=log)
    from reasoningrec_assets.generation.engines import transformers

    adapter = Path(settings.adapter) if settings.adapter else None
    assert settings.quantization != "fp8", "the settings refuse it for this engine"
    return transformers.open_engine(
        model, data_root, batch_size=batch_size, adapter=adapter, quantization=settings.quantization, log=log
    )
