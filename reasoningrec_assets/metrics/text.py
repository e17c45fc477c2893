"""How close a method's explanation is to the teacher's reasoning.

What belongs here: functions of candidate and reference texts alone. What doesn't: choosing which rows are explained. BERTScore on
its own says little, since any two film reviews are alike: `shuffled_reference_floor` is printed beside it.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reasoningrec_assets.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

# bert_score keeps the token embeddings of all texts of one call in memory (1 MB a text with deberta-xlarge).
_PAIRS_PER_CALL = 512


@dataclass(frozen=True)
class TextSettings:
    """Which encoder BERTScore uses, and how.

    ``encoder`` is a local folder or a name on the Hugging Face hub, ``num_layers`` the layer whose states are compared
    (None takes the library's choice, which exists for known hub names only), ``device`` a torch device.
    """

    encoder: str
    num_layers: int | None = None
    batch_size: int = 32
    device: str = "cpu"


class TextScores(NamedTuple):
    """Precision, recall and F1 of each pair, arrays of shape (pairs,)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@contextmanager
def _loadable(encoder: str) -> Generator[str]:
    """A name of the encoder that bert_score loads as what it is.

    bert_score 0.3.13 takes any model whose name contains "t5" for a T5 encoder, so a folder below ``.../dt5f0/...``
    fails to load; such a folder is reached through a link with another name.
    """
    if "t5" not in encoder or not Path(encoder).is_dir():
        yield encoder
        return
    for _ in range(20):
        with tempfile.TemporaryDirectory(prefix="encoder-") as folder:
            link = Path(folder) / "model"
            # Random names contain "t5" by chance as well; a model that is really a T5 has it in its architecture.
            if "t5" not in str(link):
                link.symlink_to(Path(encoder).resolve(), target_is_directory=True)
                yield str(link)
                return
    raise PermanentError(
        "load the encoder of BERTScore",
        where=encoder,
        problem="bert_score would take it for a T5 model because of its path, and so does the temporary folder",
        remedy="Move the model to a folder without 't5' in its path",
    )


def _load_scorer(encoder: str, num_layers: int | None, batch_size: int, device: str) -> Any:
    from bert_score import BERTScorer  # pyright: ignore[reportMissingTypeStubs]

    if num_layers is None and Path(encoder).is_dir():
        raise PermanentError(
            "load the encoder of BERTScore",
            where=encoder,
            problem="num_layers is not set, and bert_score has no choice of its own for a local folder",
            remedy="Set num_layers (5 for all-MiniLM-L6-v2)",
        )
    with _loadable(encoder) as name:
        scorer: Any = BERTScorer(model_type=name, num_layers=num_layers, batch_size=batch_size, device=device)
    # A tokenizer saved without a limit claims 10**30 tokens, which its Rust core refuses and the model could not read.
    limit = getattr(scorer._model.config, "max_position_embeddings", None)
    if limit and scorer._tokenizer.model_max_length > limit:
        scorer._tokenizer.model_max_length = limit
    return scorer


def bertscore(
    candidates: Sequence[str],
    references: Sequence[str],
    *,
    encoder: str,
    num_layers: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
) -> TextScores:
    """BERTScore (Zhang et al. 2020) of each candidate against its reference, without idf weights or rescaling.

    An empty candidate or reference scores 0: bert_score raises on them with transformers 5. The encoder is loaded once
    per call, and only where a pair needs it.

    Args:
        candidates: The method's texts.
        references: The teacher's texts, one per candidate.
        encoder: Local folder, or hub name.
        num_layers: Layer whose states are compared; needed for a local folder.
        batch_size: Texts encoded together.
        device: Torch device.

    Raises:
        PermanentError: A local folder without num_layers.
        ValueError: The two lengths differ.
    """
    import numpy as np

    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates for {len(references)} references")
    scores = TextScores(*(np.zeros(len(candidates)) for _ in TextScores._fields))
    filled = [row for row in range(len(candidates)) if candidates[row].strip() and references[row].strip()]
    if not filled:
        return scores
    scorer = _load_scorer(encoder, num_layers, batch_size, device)
    for start in range(0, len(filled), _PAIRS_PER_CALL):
        rows = filled[start : start + _PAIRS_PER_CALL]
        columns = scorer.score([candidates[row] for row in rows], [references[row] for row in rows], batch_size=batch_size)
        for target, column in zip(scores, columns, strict=True):
            target[rows] = column.numpy()
    return scores


def deranged(rows: int, seed: int) -> NDArray[np.intp]:
    """A seeded permutation without a fixed point (one random cycle), shape (rows,); one row has none and is refused."""
    import numpy as np

    if rows == 1:
        raise ValueError("one row cannot be paired with another row's reference")
    order = np.random.default_rng(seed).permutation(rows)
    partner = np.empty(rows, dtype=np.intp)
    partner[order] = np.roll(order, -1)
    return partner


def shuffled_reference_floor(
    candidates: Sequence[str],
    references: Sequence[str],
    *,
    encoder: str,
    num_layers: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    seed: int = 0,
) -> TextScores:
    """BERTScore of each candidate against another row's reference: what a fluent text about nothing in particular gets.

    The references are shuffled by a seeded derangement of rows, so no candidate meets its own; where two rows have the
    same reference text, the floor is that much higher, rightly. Arguments and errors as in `bertscore`; at least two rows.
    """
    shuffled = [references[int(row)] for row in deranged(len(references), seed)]
    return bertscore(candidates, shuffled, encoder=encoder, num_layers=num_layers, batch_size=batch_size, device=device)
