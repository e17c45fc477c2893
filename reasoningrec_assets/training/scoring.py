"""Scores: the log-odds of Yes against No, from one forward pass per row; metrics of them are not made here."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from reasoningrec_assets.errors import Log
from reasoningrec_assets.models.packing import check_apart, hidden_states, pack, packs_by_tokens
from reasoningrec_assets.models.store import AtOnce
from reasoningrec_assets.prompts.chat import LabelTokens
from reasoningrec_assets.training.encode import EncodedRow


def label_log_odds(
    model: Any, rows: Sequence[EncodedRow], labels: LabelTokens, *, tokens_per_batch: int, device: str, log: Log = print
) -> list[float]:
    """Log-odds of Yes against No for every row, in order, from a model in evaluation mode.

    What prompts begin with in common, such as a user's history before many targets, is computed once per batch of
    `tokens_per_batch` tokens, halved where memory runs out. The softmax over the vocabulary cancels in the difference of two
    log-probabilities, so only the label tokens' rows of the output matrix are computed, at one position per row.
    """
    scores, done = [0.0] * len(rows), 0
    at_once = AtOnce(tokens_per_batch, "tokens", "score rows", device, log)
    whole = [[*row.prompt, *labels.prefix] for row in rows]
    left = packs_by_tokens(whole, tokens_per_batch)[::-1]
    check_apart(model, device)
    weight = model.get_output_embeddings().weight[[*labels.yes, *labels.no]].float()
    started = said = time.monotonic()
    with torch.inference_mode():
        while left:
            batch = left.pop()
            packed = pack([whole[index] for index in batch], device)
            try:
                last = hidden_states(model, packed, device)[[places[-1] for places in packed.places]].float()
                logits = last @ weight.T.to(last.device)
            except (RuntimeError, MemoryError) as error:
                at_once.halve(error, rows[batch[0]].row, tried=len(packed.ids))
                again = [index for part in (*left, batch) for index in part]
                parts = packs_by_tokens([whole[index] for index in again], at_once.size)
                left = [[again[place] for place in part] for part in parts]
                continue
            odds = logits[:, : len(labels.yes)].logsumexp(1) - logits[:, len(labels.yes) :].logsumexp(1)
            for index, score in zip(batch, odds.tolist(), strict=True):
                scores[index] = score
            done += len(batch)
            if (now := time.monotonic()) - said >= 10:
                log(f"scored {done} of {len(rows)} rows, {done / (now - started):.1f} rows/s")
                said = now
    return scores
