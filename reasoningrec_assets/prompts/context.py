"""What prompts may say of items and users, looked up from the tables.

What belongs here: joining a window's ids with items, descriptions and profiles. What doesn't: wording (`render`). A
variant decides what its prompts see by which tables it passes: without descriptions there is none to look up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.prompts.render import Item, Window


@dataclass(frozen=True)
class Context:
    """Items by id, with their descriptions where there are any, and profiles by user."""

    items: Mapping[str, Item]
    profiles: Mapping[str, str]

    def history(self, item_ids: Sequence[str], liked: Sequence[bool]) -> tuple[tuple[Item, bool], ...]:
        """Items tagged liked or disliked, in order."""
        return tuple((self.items[item_id], tag) for item_id, tag in zip(item_ids, liked, strict=True))

    def window(self, row: Mapping[str, Any]) -> Window:
        """The prompt's view of one row of ``interaction_windows``."""
        return Window(
            history=self.history(row["history_item_ids"], row["history_liked"]),
            target=self.items[row["target_item_id"]],
            profile=self.profiles.get(row["user_id"], ""),
        )


def load_context(items: Path, *, descriptions: Path | None = None, profiles: Path | None = None) -> Context:
    """Read the tables that a variant's prompts may see.

    Args:
        items: Parquet file of ``items``.
        descriptions: Parquet file of ``item_descriptions``, where the variant shows them.
        profiles: Parquet file of ``user_profiles``, where the variant shows them.
    """
    known = {str(row["item_id"]): _item(row) for row in read_rows(items)}
    if descriptions is not None:
        for row in read_rows(descriptions, ["item_id", "text"]):
            known[str(row["item_id"])] = replace(known[str(row["item_id"])], description=str(row["text"]))
    users = (
        {} if profiles is None else {str(row["user_id"]): str(row["text"]) for row in read_rows(profiles, ["user_id", "text"])}
    )
    return Context(known, users)


def _item(row: Mapping[str, Any]) -> Item:
    return Item(title=row["title"], brand=row["brand"], price=row["price"], genres=tuple(row["genres"]), year=row["year"])
