"""Shared prompt prefixes, computed once: of a CPU run's prompts, chat header and instruction are a fifth to a half."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

SHORTEST = 16  # tokens below which a shared prefix is not worth a forward pass of its own


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all rows begin with, at least one token short of the shortest row; empty where too few."""
    if len(rows) < 2:
        return []
    shared = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))]
    shared = shared[: min(map(len, rows)) - 1]
    return shared if len(shared) >= SHORTEST else []


def prefix_cache(model: Any, prefix: Sequence[int], rows: int, device: str) -> Any:
    """Keys and values that a causal language model has for a prefix, for a batch of `rows`; None where the prefix is empty."""
    import torch

    if not prefix:
        return None
    with torch.inference_mode():
        cache = model.get_decoder()(input_ids=torch.tensor([list(prefix)], device=device), use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows)
    return cache
