"""Scores: the log-odds of Yes against No, from one forward pass per row.

What belongs here: reading the label's logits off a model, whether it is being trained, is fine-tuned, or is zero-shot.
What doesn't: metrics of the scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from reasoningrec_assets.models.prefix import PrefixCache, common_prefix
from reasoningrec_assets.prompts.chat import LabelTokens
from reasoningrec_assets.training.encode import batches_by_tokens, padded


def label_log_odds(
    model: Any,
    prompts: Sequence[Sequence[int]],
    labels: LabelTokens,
    *,
    pad: int,
    tokens_per_batch: int,
    device: str,
    log: Callable[[str], None] = print,
) -> list[float]:
    """Log-odds of Yes against No for every prompt, in order.

    What all prompts begin with is computed once. The softmax over the vocabulary cancels in the difference of two log-probabilities, so only the two label rows of
    the output matrix are computed, at one position per row.

    Args:
        model: A causal language model in evaluation mode.
        prompts: Token ids of each prompt.
        labels: The answer's beginning and its two label tokens.
        pad: Padding token id.
        tokens_per_batch: Padded tokens in one forward pass.
        device: Torch device that the model is on.
        log: Receives a line at most every ten seconds.
    """
    import torch

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    whole = [[*prompt, *labels.prefix] for prompt in prompts]
    shared = PrefixCache(model, common_prefix(whole), device)
    rows = [row[shared.length :] for row in whole]
    weight = head.weight[[labels.yes, labels.no]].float()
    scores = [0.0] * len(rows)
    started = said = time.monotonic()
    done = 0
    with torch.inference_mode():
        for batch in batches_by_tokens([len(row) for row in rows], tokens_per_batch):
            ids, mask = padded([rows[index] for index in batch], pad, device)
            cache = shared.for_batch(len(batch))
            attended = torch.nn.functional.pad(mask, (shared.length, 0), value=1)
            hidden = decoder(
                input_ids=ids, attention_mask=attended, past_key_values=cache, use_cache=cache is not None
            ).last_hidden_state
            last = hidden[torch.arange(len(batch), device=device), mask.sum(1) - 1].float()
            logits = last @ weight.T
            for index, score in zip(batch, (logits[:, 0] - logits[:, 1]).tolist(), strict=True):
                scores[index] = score
            done += len(batch)
            now = time.monotonic()
            if now - said >= 10:
                log(f"scored {done} of {len(rows)} rows, {done / (now - started):.1f} rows/s")
                said = now
    return scores
