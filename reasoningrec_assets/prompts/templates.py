"""The wording of every question, as `templates.toml` has it. A template's hash is part of every fingerprint of what it leads to."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Template:
    """A named text with ``{fields}``."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the wording."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def fill(self, **values: object) -> str:
        """The text with its fields filled in; braces inside the values stay as they are."""
        return self.text.format(**values)


_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ITEM_DESCRIPTION = Template("item_description", _TEXTS["item_description"])
ITEM_REVIEWS = Template("item_reviews", _TEXTS["item_reviews"])
USER_PROFILE = Template("user_profile", _TEXTS["user_profile"])
REASONING = Template("reasoning", _TEXTS["reasoning"])
REASONING_BLIND = Template("reasoning_blind", _TEXTS["reasoning_blind"])
STUDENT_INSTRUCTION = Template("student_instruction", _TEXTS["student_instruction"])
LABEL_INSTRUCTION = Template("label_instruction", _TEXTS["label_instruction"])
STUDENT_INPUT = Template("student_input", _TEXTS["student_input"])
HINT_HISTORY = Template("hint_history", _TEXTS["hint_history"])
HINT_ITEM = Template("hint_item", _TEXTS["hint_item"])
HINT_FACTORISATION = Template("hint_factorisation", _TEXTS["hint_factorisation"])
STUDENT_OUTPUT = Template("student_output", _TEXTS["student_output"])

ANSWERS = {True: "Yes", False: "No"}  # the label words of the student's answer, by label
DESCRIPTION = (ITEM_DESCRIPTION, ITEM_REVIEWS)
# what the student's rows are made of
STUDENT = (
    *(STUDENT_INSTRUCTION, LABEL_INSTRUCTION, STUDENT_INPUT, STUDENT_OUTPUT),
    *(HINT_HISTORY, HINT_ITEM, HINT_FACTORISATION),
)
