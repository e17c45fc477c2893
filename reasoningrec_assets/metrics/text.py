"""BERTScore of explanations against the teacher's reasoning. Which rows are explained is decided in `evaluate`."""

import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.intervals import Floats

# bert_score keeps the token embeddings of all texts of one call in memory (1 MB a text with deberta-xlarge).
_PAIRS_PER_CALL = 512


class TextScores(NamedTuple):
    """Precision, recall and F1 of each pair, arrays of shape (pairs,)."""

    precision: Floats
    recall: Floats
    f1: Floats


@dataclass
class BertScore:
    """BERTScore (Zhang et al. 2020) without idf weights or rescaling; the encoder is loaded once, where a pair needs it."""

    encoder: str  # a local folder or a name on the Hugging Face hub
    num_layers: int | None = None  # the layer whose states are compared; the library has a choice for known hub names only
    device: str = "cpu"

    def score(self, candidates: Sequence[str], references: Sequence[str]) -> TextScores:
        """The score of each candidate against its reference; 0 where either is empty."""
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates for {len(references)} references")
        scores = np.zeros((3, len(candidates)))
        # bert_score raises on empty texts with transformers 5.
        filled = [row for row in range(len(candidates)) if candidates[row].strip() and references[row].strip()]
        for start in range(0, len(filled), _PAIRS_PER_CALL):
            rows = filled[start : start + _PAIRS_PER_CALL]
            pairs = [candidates[row] for row in rows], [references[row] for row in rows]
            scores[:, rows] = [column.numpy() for column in self._scorer.score(*pairs, batch_size=32)]
        return TextScores(*scores)

    @cached_property
    def _scorer(self) -> Any:
        from bert_score import BERTScorer

        if self.num_layers is None and Path(self.encoder).is_dir():
            problem = "num_layers is not set, and bert_score has no choice of its own for a local folder"
            remedy = "Set num_layers (5 for all-MiniLM-L6-v2)"
            raise PermanentError("load the encoder of BERTScore", where=self.encoder, problem=problem, remedy=remedy)
        link = Path(tempfile.gettempdir()) / f"encoder-{uuid.uuid4().hex}"
        try:
            # bert_score 0.3.13 takes any model whose name contains "t5" for a T5 encoder, so a folder below ``.../dt5f0/...``
            # fails to load; such a folder is reached through a link with another name: hexadecimal digits hold no "t".
            if linked := "t5" in self.encoder and Path(self.encoder).is_dir():
                link.symlink_to(Path(self.encoder).resolve(), target_is_directory=True)
            name = str(link) if linked else self.encoder
            scorer: Any = BERTScorer(model_type=name, num_layers=self.num_layers, device=self.device)
        finally:
            link.unlink(missing_ok=True)
        # A tokenizer saved without a limit claims 10**30 tokens, which its Rust core refuses and the model could not read.
        limit = getattr(scorer._model.config, "max_position_embeddings", None)
        if limit and scorer._tokenizer.model_max_length > limit:
            scorer._tokenizer.model_max_length = limit
        return scorer


def deranged(rows: int, seed: int) -> NDArray[np.intp]:
    """A seeded permutation without a fixed point (one random cycle), shape (rows,); one row has none, shape (0,)."""
    order = np.random.default_rng(seed).permutation(rows if rows > 1 else 0)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    return partner
