"""Writes docs/settings.md, the reference of all settings, from the classes that check them: `python docs/make_settings.py`."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Literal, get_args, get_origin

from reasoningrec_assets import settings

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Every setting, by section. A profile's TOML file has these sections as tables; a dataset's record has them below `[settings.<section>]`; the run config of an asset has those that it uses, in `ops.<asset>.config.<section>`. The weakest is the profile (`REASONINGREC_PROFILE`), then the dataset, then the variant of a study, then the run config. A run config holds for its run alone: a later run without it makes the partition again without it. This page is made from the code by `.venv/bin/python docs/make_settings.py`.

| asset | sections in its run config | besides |
| --- | --- | --- |
| every asset | | `force`: make the partition again though nothing changed |
| `cleaned_interactions` | | `repeated_pairs`: which of a user's ratings of one item stays, `last`, `first` or `keep` (all of them, which leaks) |
| `item_reviews` | | `reviews`: `leak_safe`, or `paper` (all of them, which leaks) |
| `item_descriptions`, `user_profiles` | `engine`, and their own | `dry_run`: say what it would cost, and stop |
| `reasoning_labels` | `engine`, `sampling`, `reasoning_labels` | `dry_run` |
| `sft_splits` | `sampling` (`k` counts in `reasoning_labels` alone where reasons are learnt) | |
| `lora_model` | `training` | |
| `predictions`, `zero_shot/.../predictions` of the main pipeline | `training`, `scoring` | |
| `recommendations` | `recommendations`, `scoring`, `training` | |
| `evaluation_metrics`, `leaderboard` | `evaluation` | |

The assets of a study and of `zero_shot/<variant>` take `force` alone: a study's settings are what its name says. `base_model` and `quantization` have to be those of `lora_model` wherever the student is asked, or the adapter is refused: set them in a profile. In a run config an asset with a slash in its key is an op with two underscores, `zero_shot__student__predictions`.

| variable | what |
| --- | --- |
| `REASONINGREC_PROFILE` | `small`, `paper`, or the path of a TOML file |
| `REASONINGREC_DATA` | the data root, by default `data` in the working directory |
| `REASONINGREC_WEBHOOK` | where the sensor `run_failures` posts |
| `DAGSTER_HOME` | Dagster's own history; `make` sets `data/dagster_home` |
| `OPENAI_API_KEY` | the key of the engine `openai` |
| `HF_TOKEN`, `HF_HOME` | the Hub's key, for models with a licence to accept, and where its files are kept |
| `CUDA_VISIBLE_DEVICES` | the cards that may be leased |
"""


def kind(annotation: object) -> str:
    """A type as a person writes it: allowed values of a choice, `or none` where it may be left out."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is types.UnionType:
        return " or ".join("none" if one is type(None) else kind(one) for one in get_args(annotation))
    return str(annotation).removeprefix("<class '").removesuffix("'>")


def bounds(field) -> str:
    """The limits of a number."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [(signs[name], getattr(limit, name)) for limit in field.metadata for name in signs if hasattr(limit, name)]
    return " ".join(f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}" for sign, value in limits)


def page() -> str:
    """The whole page; the shipped profiles' values stand beside every setting."""
    profiles = {name: settings.load_profile(name) for name in ("small", "paper")}
    text = HEAD
    for section, field in settings.Profile.model_fields.items():
        text += f"\n## {section}\n\n{field.annotation.__doc__}\n\n| setting | small | paper | takes | meaning |\n| --- | --- | --- | --- | --- |\n"
        for name, one in field.annotation.model_fields.items():
            values = [getattr(getattr(profile, section), name) for profile in profiles.values()]
            shown = [f"`{value}`" if value not in (None, []) else "" for value in values]
            takes = f"{kind(one.annotation)} {bounds(one)}".strip()
            text += f"| `{name}` | {' | '.join(shown)} | {takes} | {one.description} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
