"""Student rows as token ids in the shared chat format, fitted into the context. No models here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.render import drop_oldest, student_message


@dataclass(frozen=True)
class EncodedRow:
    """One student row in tokens."""

    user: str  # whose rows are drawn together
    row: str  # user and target, for messages about the row
    message: str
    prompt: list[int]  # up to where the assistant starts to write
    answer: list[int]  # the whole answer, end of turn included
    label: bool
    dropped: int  # history lines left out to fit the context


def encode_rows(rows: Iterable[Mapping[str, object]], chat: Chat, *, max_tokens: int) -> list[EncodedRow]:
    """Tokenise rows of ``sft_splits``, each with at most `max_tokens` of prompt and answer together.

    A longer row loses its oldest history lines, never its question or target; PermanentError where one line is still too much.
    """
    return [_encode(row, chat, max_tokens) for row in rows]


def _encode(row: Mapping[str, object], chat: Chat, max_tokens: int) -> EncodedRow:
    name = f"user {row['user_id']}, item {row['target_item_id']}"
    record, dropped = {"instruction": str(row["instruction"]), "input": str(row["input"])}, 0
    while True:
        message = student_message(record)
        prompt, answer = chat.prompt(message), chat.answer(message, str(row["output"]))
        length = len(prompt) + len(answer)
        if length <= max_tokens:
            return EncodedRow(str(row["user_id"]), name, message, prompt, answer, bool(row["label"]), dropped)
        shorter = drop_oldest(record["input"])
        if shorter is None:
            problem = f"it has {length} tokens and no line of history left to leave out, the limit is {max_tokens}"
            remedy = "Raise training.max_tokens in the profile, where the model can take more, or shorten the row"
            raise PermanentError("fit a row into the context", where=name, problem=problem, remedy=remedy)
        record["input"], dropped = shorter, dropped + 1
