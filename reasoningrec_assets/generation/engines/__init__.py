"""Engines: each turns chunks of requests into answers, and knows nothing of caches or tables."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.requests import Answer, Keyed, Sampling, TextGenerator
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import EngineSettings


def open_engine(
    settings: EngineSettings, model: str, data_root: Path, *, batch_size: int, log: Log = print
) -> AbstractContextManager[TextGenerator]:
    """The engine that the settings name, ready inside the block; `model` is a reference, or a model's name on a server."""
    # each engine's libraries are imported only where it is the one that is used
    if settings.kind == "openai":
        from reasoningrec_assets.generation.engines import openai

        return openai.open_engine(model, settings, log=log)
    if settings.kind == "vllm":
        from reasoningrec_assets.generation.engines import vllm

        return vllm.open_engine(model, data_root, settings, log=log)
    from reasoningrec_assets.generation.engines import transformers

    return transformers.open_engine(model, data_root, settings, batch_size=batch_size, log=log)


def prompts_that_fit(
    chunk: Sequence[Keyed], chat: Chat, sampling: Sampling, context: int
) -> tuple[dict[str, list[int]], dict[str, Answer]]:
    """By key, the prompts in tokens that a model's context can hold, and answers to the others: flagged, never cut in silence."""
    prompts, flagged = dict[str, list[int]](), dict[str, Answer]()
    new = sampling.max_new_tokens
    for key, request in chunk:
        ids = chat.prompt(request.message, request.prefill)
        if len(ids) + new <= context:
            prompts[key] = ids
        else:
            problem = f"the prompt has {len(ids)} tokens, and with {new} new ones exceeds the model's context of {context}"
            flagged[key] = Answer(key, error=problem, attempts=0)
    return prompts, flagged
