"""Shared prompt prefixes: what every row of a batch begins with is computed once.

What belongs here: finding a common prefix and its keys and values. What doesn't: what rows mean. Every prompt of a step
begins with the same chat header and the same instruction; on a processor that is a fifth to a half of its tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

SHORTEST = 16
"""Tokens below which a shared prefix is not worth a forward pass of its own."""


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all rows begin with, at least one token short of the shortest row; empty where too few."""
    if len(rows) < 2:
        return []
    shared = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))]
    shared = shared[: min(map(len, rows)) - 1]
    return shared if len(shared) >= SHORTEST else []


class PrefixCache:
    """Keys and values of a prefix, handed out for batches of any size.

    Args:
        model: A causal language model in inference mode.
        prefix: Token ids, possibly none.
        device: Torch device that the model is on.
    """

    def __init__(self, model: Any, prefix: Sequence[int], device: str) -> None:
        import torch

        self.length = len(prefix)
        self._cache: Any = None
        if prefix:
            with torch.inference_mode():
                self._cache = model.get_decoder()(
                    input_ids=torch.tensor([list(prefix)], device=device), use_cache=True
                ).past_key_values

    def for_batch(self, rows: int) -> Any:
        """A cache of its own for a batch of `rows`, or None where there is no prefix."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return cache
