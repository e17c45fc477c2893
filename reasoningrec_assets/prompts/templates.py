"""The wording of every question, as `templates.toml` has it. A template's hash is part of every fingerprint of what it leads to."""

import hashlib
import tomllib
from pathlib import Path
from typing import Literal

Reasons = Literal["after", "before", ""]  # where a student's reason stands: after its label, before it, or nowhere

# filled in by `str.format`, which leaves braces inside the values as they are
TEXTS: dict[str, str] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SHA256 = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in TEXTS.items()}
ANSWERS = {True: "Yes", False: "No"}  # the label words of the student's answer, by label
DESCRIPTION = ("item_description", "item_about", "item_reviews")
HINTS = ("hint_history", "hint_item", "hint_factorisation")
INSTRUCTIONS = {"after": "student_instruction", "before": "reason_first_instruction", "": "label_instruction"}
STUDENT = (*INSTRUCTIONS.values(), "student_input", "student_output", "reason_first_output", *HINTS)
