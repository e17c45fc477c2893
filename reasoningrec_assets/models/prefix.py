"""Shared prompt prefixes, computed once: of a CPU run's prompts, chat header and instruction are a fifth to a half."""

from __future__ import annotations

import copy
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


class PrefixCache:
    """Keys and values that a causal language model has for a prefix, possibly empty, handed out for batches of any size."""

    def __init__(self, model: Any, prefix: Sequence[int], device: str) -> None:
        import torch

        self.length = len(prefix)
        self._cache: Any = None
        if prefix:
            ids = torch.tensor([list(prefix)], device=device)
            with torch.inference_mode():
                self._cache = model.get_decoder()(input_ids=ids, use_cache=True).past_key_values

    def for_batch(self, rows: int) -> Any:
        """A cache of its own for a batch of `rows`, or None where there is no prefix."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return cache
