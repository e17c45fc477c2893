"""What the student may be told and how it answers: every variant of the study, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hint = Literal["history", "item"]


@dataclass(frozen=True)
class Variant:
    """One form of the student's rows; what it does not see, the texts that it learns from were not written with either."""

    name: str
    descriptions: bool = False
    profile: bool = False
    reasoning: bool = False  # it explains its prediction; else the label is all that it learns
    hints: tuple[Hint, ...] = ()  # of the floors' figures, from training events alone


FULL = Variant("full", descriptions=True, profile=True, reasoning=True)
VARIANTS = {
    variant.name: variant
    for variant in (
        FULL,
        Variant("no_profile", descriptions=True, reasoning=True),
        Variant("no_description", profile=True, reasoning=True),
        Variant("label_only", descriptions=True, profile=True),
        Variant("titles"),
        Variant("grounded", hints=("history", "item")),
    )
}
