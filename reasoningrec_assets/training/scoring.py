"""Scores: the log-odds of Yes against No, from one forward pass per row; metrics of them are not made here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from reasoningrec_assets.models.prefix import PrefixCache, common_prefix
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.training.encode import EncodedRow, batches_by_tokens, padded


def label_log_odds(
    model: Any, rows: Sequence[EncodedRow], chat: Chat, *, tokens_per_batch: int, device: str, log: Callable[[str], None] = print
) -> list[float]:
    """Log-odds of Yes against No for every row, in order, from a model in evaluation mode.

    What all prompts begin with is computed once, the rest in batches of `tokens_per_batch` tokens, padding included. The
    softmax over the vocabulary cancels in the difference of two log-probabilities, so only the two label rows of the
    output matrix are computed, at one position per row.
    """
    import torch

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    labels, pad = chat.label_tokens(), chat.tokenizer.pad_token_id
    whole = [[*row.prompt, *labels.prefix] for row in rows]
    shared = PrefixCache(model, common_prefix(whole), device)
    rests = [tokens[shared.length :] for tokens in whole]
    weight = head.weight[[labels.yes, labels.no]].float()
    scores = [0.0] * len(rows)
    started = said = time.monotonic()
    done = 0
    with torch.inference_mode():
        for batch in batches_by_tokens([len(rest) for rest in rests], tokens_per_batch):
            ids, mask = padded([rests[index] for index in batch], pad, device)
            cache = shared.for_batch(len(batch))
            attended = torch.nn.functional.pad(mask, (shared.length, 0), value=1)
            output = decoder(input_ids=ids, attention_mask=attended, past_key_values=cache, use_cache=cache is not None)
            last = output.last_hidden_state[torch.arange(len(batch), device=device), mask.sum(1) - 1].float()
            logits = last @ weight.T
            for index, score in zip(batch, (logits[:, 0] - logits[:, 1]).tolist(), strict=True):
                scores[index] = score
            done += len(batch)
            now = time.monotonic()
            if now - said >= 10:
                log(f"scored {done} of {len(rows)} rows, {done / (now - started):.1f} rows/s")
                said = now
    return scores
