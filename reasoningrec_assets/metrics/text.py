"""BERTScore of explanations against the teacher's reasoning. Which rows are explained is decided in `evaluate`."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.intervals import Floats

_PAIRS_TOGETHER = 512
_TOKENS_PER_BATCH = 4096  # of one forward pass: what its layers make of them stays near the cores
_TOKENS_KEPT = 400_000  # embedded tokens that are kept: 0.6 GB of the small encoder's 384 numbers each


class TextScores(NamedTuple):
    """Precision, recall and F1 of each pair, arrays of shape (pairs,)."""

    precision: Floats
    recall: Floats
    f1: Floats


@dataclass
class BertScore:
    """BERTScore (Zhang et al. 2020) without idf weights or rescaling; the encoder is loaded once, where a pair needs it."""

    encoder: str  # a folder
    num_layers: int  # whose states are compared: those of the last one
    device: str = "cpu"
    _kept: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def score(self, candidates: Sequence[str], references: Sequence[str]) -> TextScores:
        """The score of each candidate against its reference; 0 where either is empty."""
        scores, pairs = np.zeros((3, len(candidates))), enumerate(zip(candidates, references, strict=True))
        filled = [row for row, (candidate, reference) in pairs if candidate.strip() and reference.strip()]
        for start in range(0, len(filled), _PAIRS_TOGETHER):
            rows = filled[start : start + _PAIRS_TOGETHER]
            known = self._embedded({text for row in rows for text in (candidates[row], references[row])})
            for row in rows:
                # The marks at both ends of a text are there to be matched, and have no weight themselves.
                alike = known[candidates[row]] @ known[references[row]].T
                precision, recall = (float(alike.amax(axis)[1:-1].mean()) for axis in (1, 0))
                scores[:, row] = precision, recall, 2 * precision * recall / ((precision + recall) or 1.0)
        return TextScores(*np.nan_to_num(scores))  # a text without one token, say of control characters, has a mean of nothing

    def _embedded(self, texts: Set[str]) -> dict[str, Any]:
        """Each text's token states of length 1, tensors of shape (tokens, width); references come again for every method, and are kept."""
        import torch
        from bert_score.utils import sent_encode

        self._kept |= {text: self._kept.pop(text) for text in texts & self._kept.keys()}  # asked for last, so dropped last
        size = sum(map(len, self._kept.values()))
        while size > _TOKENS_KEPT:
            size -= len(self._kept.pop(next(iter(self._kept))))
        tokenizer, model = self._encoder
        tokens = {text: sent_encode(tokenizer, text) for text in sorted(texts - self._kept.keys())}
        missing = sorted(tokens, key=lambda text: -len(tokens[text]))
        while missing:
            batch = missing[: max(1, _TOKENS_PER_BATCH // len(tokens[missing[0]]))]
            padded = tokenizer.pad({"input_ids": [tokens[text] for text in batch]}, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                states = torch.nn.functional.normalize(model(**padded)[0], dim=-1)
            self._kept |= {text: states[place, : len(tokens[text])].clone() for place, text in enumerate(batch)}
            missing = missing[len(batch) :]
        return self._kept

    @cached_property
    def _encoder(self) -> Any:
        """The tokenizer, and the model up to the layer that is compared."""
        import transformers

        transformers.utils.logging.disable_progress_bar()
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(self.encoder, trust_remote_code=False)
        config: Any = transformers.AutoConfig.from_pretrained(self.encoder)
        if self.num_layers > config.num_hidden_layers:
            problem, remedy = f"it has {config.num_hidden_layers} layers, not {self.num_layers}", "Lower evaluation.encoder_layer"
            raise PermanentError("load the encoder of BERTScore", where=self.encoder, problem=problem, remedy=remedy)
        config.num_hidden_layers, safe = self.num_layers, any(Path(self.encoder).glob("*.safetensors"))
        model: Any = transformers.AutoModel.from_pretrained(self.encoder, config=config, use_safetensors=safe, weights_only=True)
        # A tokenizer saved without a limit claims 10**30 tokens, which its Rust core refuses and the model could not read.
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
        return tokenizer, model.eval().to(self.device)


def deranged(rows: int, seed: int) -> NDArray[np.intp]:
    """A seeded permutation without a fixed point (one random cycle), shape (rows,); one row has none, shape (0,)."""
    order = np.random.default_rng(seed).permutation(rows if rows > 1 else 0)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    return partner
