"""What the student may be told, what it learns and how it answers: every variant of the study, as `variants.toml` has it."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.prompts.templates import Reasons
from reasoningrec_assets.settings import SectionName

Hint = Literal["history", "item", "factorisation"]
OWN = ("sft_splits", "lora_model", "predictions")  # what every variant but the paper's has for itself


@dataclass(frozen=True)
class Variant:
    """One form of the student's rows; what it does not see, the texts that it learns from were not written with either."""

    name: str
    descriptions: bool = False
    profile: bool = False
    reasoning: Reasons = ""  # where its reason stands beside its prediction; else the label is all that it learns
    lists: bool = False  # TALLRec's form: titles alone, those liked first
    given: bool = False  # rows made elsewhere, in the published code's files: see `exchange`
    earlier: int = 0  # so many of a train row's history are targets too, each after what came before it
    hints: Sequence[Hint] = ()  # of the floors' figures, from training events alone
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
        wanted = {"item_descriptions": self.descriptions, "user_profiles": self.profile}
        wanted |= {"reasoning_labels": bool(self.reasoning), "cleaned_interactions": bool(self.hints)}
        return ("interaction_windows", "items", *(table for table, used in wanted.items() if used))

    def asset(self, table: str) -> str:
        """The key of the asset that is this variant's table: one below ``study/<name>`` where it differs from the main one's."""
        blind, told = not (self.descriptions and self.profile), self.settings.keys() & {"reasoning_labels", "sampling"}
        own = {"user_profiles": self.profile and not self.descriptions, "reasoning_labels": blind or told}
        return f"study/{self.name}/{table}" if self is not FULL and (table in OWN or own.get(table)) else table


_KNOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FULL = Variant("full", **_KNOWN.pop("full"))
VARIANTS = {"full": FULL} | {
    name: replace(FULL if known.pop("as", None) else Variant(name), name=name, **known) for name, known in _KNOWN.items()
}
