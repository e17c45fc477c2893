"""How close a method's explanation is to the teacher's reasoning.

What belongs here: functions of candidate and reference texts alone. What doesn't: choosing which rows are explained. BERTScore on
its own says little, since any two film reviews are alike: the score against another row's reference is printed beside it.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasoningrec_assets.errors import PermanentError

# bert_score keeps the token embeddings of all texts of one call in memory (1 MB a text with deberta-xlarge).
_PAIRS_PER_CALL = 512


class TextScores(NamedTuple):
    """Precision, recall and F1 of each pair, arrays of shape (pairs,)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@dataclass
class BertScore:
    """BERTScore (Zhang et al. 2020) without idf weights or rescaling; the encoder is loaded once, where a pair needs it.

    ``encoder`` is a local folder or a name on the Hugging Face hub, ``num_layers`` the layer whose states are compared
    (None takes the library's choice, which exists for known hub names only), ``device`` a torch device.
    """

    encoder: str
    num_layers: int | None = None
    batch_size: int = 32
    device: str = "cpu"

    def score(self, candidates: Sequence[str], references: Sequence[str]) -> TextScores:
        """The score of each candidate against its reference.

        An empty candidate or reference scores 0: bert_score raises on them with transformers 5.

        Raises:
            PermanentError: A local folder without num_layers.
            ValueError: The two lengths differ.
        """
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates for {len(references)} references")
        scores = TextScores(*(np.zeros(len(candidates)) for _ in TextScores._fields))
        filled = [row for row in range(len(candidates)) if candidates[row].strip() and references[row].strip()]
        for start in range(0, len(filled), _PAIRS_PER_CALL):
            rows = filled[start : start + _PAIRS_PER_CALL]
            pairs = [candidates[row] for row in rows], [references[row] for row in rows]
            for target, column in zip(scores, self._scorer.score(*pairs, batch_size=self.batch_size), strict=True):
                target[rows] = column.numpy()
        return scores

    @cached_property
    def _scorer(self) -> Any:
        from bert_score import BERTScorer  # pyright: ignore[reportMissingTypeStubs]

        if self.num_layers is None and Path(self.encoder).is_dir():
            raise PermanentError(
                "load the encoder of BERTScore",
                where=self.encoder,
                problem="num_layers is not set, and bert_score has no choice of its own for a local folder",
                remedy="Set num_layers (5 for all-MiniLM-L6-v2)",
            )
        with _loadable(self.encoder) as name:
            scorer: Any = BERTScorer(model_type=name, num_layers=self.num_layers, batch_size=self.batch_size, device=self.device)
        # A tokenizer saved without a limit claims 10**30 tokens, which its Rust core refuses and the model could not read.
        limit = getattr(scorer._model.config, "max_position_embeddings", None)
        if limit and scorer._tokenizer.model_max_length > limit:
            scorer._tokenizer.model_max_length = limit
        return scorer


@contextmanager
def _loadable(encoder: str) -> Generator[str]:
    """A name of the encoder that bert_score loads as what it is.

    bert_score 0.3.13 takes any model whose name contains "t5" for a T5 encoder, so a folder below ``.../dt5f0/...``
    fails to load; such a folder is reached through a link with another name.
    """
    if "t5" not in encoder or not Path(encoder).is_dir():
        yield encoder
        return
    # Hexadecimal digits hold no "t".
    link = Path(tempfile.gettempdir()) / f"encoder-{uuid.uuid4().hex}"
    link.symlink_to(Path(encoder).resolve(), target_is_directory=True)
    try:
        yield str(link)
    finally:
        link.unlink()


def deranged(rows: int, seed: int) -> NDArray[np.intp]:
    """A seeded permutation without a fixed point (one random cycle), shape (rows,); one row has none, shape (0,)."""
    order = np.random.default_rng(seed).permutation(rows if rows > 1 else 0)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    return partner
