"""The model's own chat format, in tokens.

What belongs here: wrapping a message in the chat template, the tokens of an answer, and the label tokens, all found
from the tokenizer at run time. What doesn't: wording (`templates`). Training, scoring and generation share these
functions, so their prompts cannot differ by a blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.prompts.render import student_answer


@dataclass(frozen=True)
class LabelTokens:
    """Where the label stands in an answer.

    Attributes:
        prefix: Token ids of the answer before its label word, the same for both labels.
        yes: Id of the token that says Yes.
        no: Id of the token that says No.
    """

    prefix: tuple[int, ...]
    yes: int
    no: int


class Chat:
    """A tokenizer together with its chat template.

    Args:
        tokenizer: A transformers tokenizer that has a chat template and an end-of-sequence token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def prompt(self, message: str) -> list[int]:
        """Token ids of a conversation with one user message, up to where the assistant starts to write."""
        return self._ids(self._opened(message))

    def answer(self, message: str, answer: str) -> list[int]:
        """Token ids of the assistant's turn, its end-of-turn token included: the student has to learn to stop.

        Raises:
            PermanentError: The template changes the prompt once an answer follows, so the two cannot be put together.
        """
        opened = self._opened(message)
        whole: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": message}, {"role": "assistant", "content": answer}], tokenize=False
        )
        if not whole.startswith(opened):
            raise PermanentError(
                "render an answer",
                where="the model's chat template",
                problem="the prompt of a conversation with an answer does not start with the prompt without one (a template that thinks aloud does this)",
                remedy="Use a model or a chat_template.jinja whose assistant turn directly follows the generation prompt",
            )
        ids = self._ids(whole[len(opened) :])
        end = int(self.tokenizer.eos_token_id)
        return [*ids[: ids.index(end)], end] if end in ids else [*ids, end]

    def prefill(self, text: str) -> list[int]:
        """Token ids of the beginning of an answer that the model is to continue."""
        return self._ids(text)

    def label_tokens(self) -> LabelTokens:
        """Resolve the label words to the single tokens at which the two possible answers part.

        Raises:
            PermanentError: A label word is more than one token, or both begin with the same token.
        """
        message = "?"
        reasoning = "Because."
        yes, no = (self.answer(message, student_answer(liked=liked, reasoning=reasoning)) for liked in (True, False))
        split = next((place for place, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
        if split is None or yes[split + 1 :] != no[split + 1 :]:
            pieces = [
                self.tokenizer.convert_ids_to_tokens(ids[split : split + 3] if split is not None else ids) for ids in (yes, no)
            ]
            raise PermanentError(
                "resolve the label tokens",
                where="the model's tokenizer",
                problem=f"Yes and No are not one token each that differ: the answers go on with {pieces[0]} and {pieces[1]}",
                remedy="Use a model whose tokenizer holds each label word as one token, or change ANSWERS in prompts/templates.py",
            )
        return LabelTokens(tuple(yes[:split]), yes[split], no[split])

    def decode(self, ids: list[int]) -> str:
        """Text of generated token ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _opened(self, message: str) -> str:
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
        )

    def _ids(self, text: str) -> list[int]:
        # the template writes the special tokens itself; those spelled in data are broken up by `text.one_line`
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
