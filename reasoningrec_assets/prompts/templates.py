"""The wording of every question, as `templates.toml` has it. A template's hash is part of every fingerprint of what it leads to."""

import hashlib
import tomllib
from pathlib import Path
from typing import Literal

Reasons = Literal["after", "reworded", "before", ""]  # a reason's place: after the label, so too in other words, before it, none

# filled in by `str.format`, which leaves braces inside the values as they are
TEXTS: dict[str, str] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SHA256 = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in TEXTS.items()}
ANSWERS = {True: "Yes", False: "No"}  # the label words of the student's answer, by label
DESCRIPTION = ("item_description", "item_about", "item_reviews")
HINTS = ("hint_history", "hint_item", "hint_factorisation")
_ASKED = {"after": "student", "reworded": "reworded", "before": "reason_first", "": "label"}
INSTRUCTIONS = {reasons: f"{name}_instruction" for reasons, name in _ASKED.items()}
STUDENT = (*INSTRUCTIONS.values(), "student_input", "student_output", "reason_first_output", *HINTS)
