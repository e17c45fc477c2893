"""What the student may be told, what it learns and how it answers: every variant of the study, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from reasoningrec_assets.settings import SectionName

Hint = Literal["history", "item", "factorisation"]
OWN = ("sft_splits", "lora_model", "predictions")  # what every variant but the paper's has for itself


@dataclass(frozen=True)
class Variant:
    """One form of the student's rows; what it does not see, the texts that it learns from were not written with either."""

    name: str
    descriptions: bool = False
    profile: bool = False
    reasoning: bool = False  # it explains its prediction; else the label is all that it learns
    lists: bool = False  # TALLRec's form: titles alone, those liked first
    given: bool = False  # rows made elsewhere, in the published code's files: see `exchange`
    hints: tuple[Hint, ...] = ()  # of the floors' figures, from training events alone
    settings: Mapping[SectionName, Mapping[str, Any]] = field(default_factory=dict[SectionName, Mapping[str, Any]])

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the form of its rows, and so belongs into a fingerprint."""
        return {name: value for name, value in asdict(self).items() if name not in {"name", "settings"}}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables that its rows are made of."""
        if self.given:
            return ("raw_dataset",)
        wanted = {
            "item_descriptions": self.descriptions,
            "user_profiles": self.profile,
            "reasoning_labels": self.reasoning,
            "cleaned_interactions": bool(self.hints),
        }
        return ("interaction_windows", "items", *(table for table, used in wanted.items() if used))

    def asset(self, table: str) -> str:
        """The key of the asset that is this variant's table: one below ``study/<name>`` where it differs from the main one's."""
        own = {
            "user_profiles": self.profile and not self.descriptions,
            "reasoning_labels": not (self.descriptions and self.profile)
            or self.settings.keys() & {"reasoning_labels", "sampling"},
        }
        return f"study/{self.name}/{table}" if self is not FULL and (table in OWN or own.get(table)) else table


def _full(name: str, **settings: Mapping[str, Any]) -> Variant:
    return Variant(name, descriptions=True, profile=True, reasoning=True, settings=settings)  # pyright: ignore[reportArgumentType]


FULL = _full("full")
VARIANTS = {
    variant.name: variant
    for variant in (
        FULL,
        *(_full(f"k{k}", sampling={"k": k}) for k in (64, 128, 256)),
        Variant("no_profile", descriptions=True, reasoning=True),
        Variant("no_description", profile=True, reasoning=True),
        Variant("label_only", descriptions=True, profile=True),
        _full("blind_teacher", reasoning_labels={"teacher_mode": "blind", "temperature": 0.7, "top_p": 0.9}),
        _full("label_weight", training={"label_weight": 20.0}),
        Variant("published", reasoning=True, given=True),
        Variant("titles"),
        Variant("tallrec", lists=True),
        Variant("grounded", hints=("history", "item")),
        Variant("collaborative", hints=("history", "item", "factorisation")),
    )
}
