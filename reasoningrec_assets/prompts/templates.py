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
_TEMPLATES = {name: Template(name, text) for name, text in _TEXTS.items()}
ITEM_DESCRIPTION = _TEMPLATES["item_description"]
ITEM_ABOUT = _TEMPLATES["item_about"]
ITEM_REVIEWS = _TEMPLATES["item_reviews"]
USER_PROFILE = _TEMPLATES["user_profile"]
REASONING = _TEMPLATES["reasoning"]
REASONING_BLIND = _TEMPLATES["reasoning_blind"]
STUDENT_INSTRUCTION = _TEMPLATES["student_instruction"]
LABEL_INSTRUCTION = _TEMPLATES["label_instruction"]
STUDENT_INPUT = _TEMPLATES["student_input"]
HINT_HISTORY = _TEMPLATES["hint_history"]
HINT_ITEM = _TEMPLATES["hint_item"]
HINT_FACTORISATION = _TEMPLATES["hint_factorisation"]
STUDENT_OUTPUT = _TEMPLATES["student_output"]

ANSWERS = {True: "Yes", False: "No"}  # the label words of the student's answer, by label
DESCRIPTION = (ITEM_DESCRIPTION, ITEM_ABOUT, ITEM_REVIEWS)
# what the student's rows are made of
STUDENT = (
    *(STUDENT_INSTRUCTION, LABEL_INSTRUCTION, STUDENT_INPUT, STUDENT_OUTPUT),
    *(HINT_HISTORY, HINT_ITEM, HINT_FACTORISATION),
)
