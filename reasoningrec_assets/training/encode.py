"""Student rows as token ids, and batches of them.

What belongs here: tokenising rows with the shared chat format, fitting them into the context, grouping and padding.
What doesn't: models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.render import drop_oldest, student_message

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EncodedRow:
    """One student row in tokens.

    Attributes:
        row: User and target, for messages about the row.
        prompt: Token ids up to where the assistant starts to write.
        answer: Token ids of the whole answer, end of turn included.
        dropped: History lines left out to fit the context.
    """

    row: str
    message: str
    prompt: list[int]
    answer: list[int]
    label: bool
    dropped: int


def encode_rows(rows: Iterable[Mapping[str, object]], chat: Chat, *, max_tokens: int) -> list[EncodedRow]:
    """Tokenise student rows; a row that is too long loses its oldest history lines, never its question or target.

    Args:
        rows: Rows of ``sft_splits``.
        chat: The model's chat format.
        max_tokens: Most tokens of prompt and answer together.

    Raises:
        PermanentError: A row does not fit with a single history line.
    """
    return [_encode(row, chat, max_tokens) for row in rows]


def _encode(row: Mapping[str, object], chat: Chat, max_tokens: int) -> EncodedRow:
    name = f"user {row['user_id']}, item {row['target_item_id']}"
    record = {"instruction": str(row["instruction"]), "input": str(row["input"])}
    dropped = 0
    while True:
        message = student_message(record)
        prompt, answer = chat.prompt(message), chat.answer(message, str(row["output"]))
        if len(prompt) + len(answer) <= max_tokens:
            return EncodedRow(name, message, prompt, answer, bool(row["label"]), dropped)
        shorter = drop_oldest(record["input"])
        if shorter is None:
            raise PermanentError(
                "fit a row into the context",
                where=name,
                problem=f"it has {len(prompt) + len(answer)} tokens with one history line, the limit is {max_tokens}",
                remedy="Raise training.max_tokens in the profile, up to what the model can take",
            )
        record["input"], dropped = shorter, dropped + 1


def batches_by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped into batches of similar length whose padded size stays within a token budget, longest first."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        # the batch's first row is its longest, so it alone decides the padded width
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, padded on the right, each of shape (rows, longest row)."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
