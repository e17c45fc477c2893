"""What prompts may say of items and users, looked up in the tables that a variant passes; the wording is in `render`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.prompts.render import Item, Window

_SAID = ("title", "brand", "price", "year", "about")


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
        history = self.history(row["history_item_ids"], row["history_liked"])
        return Window(history, self.items[row["target_item_id"]], self.profiles.get(row["user_id"], ""))


def load_context(items: Path, *, descriptions: Path | None = None, profiles: Path | None = None) -> Context:
    """Read the Parquet files that a variant's prompts may see: ``items``, ``item_descriptions``, ``user_profiles``."""
    rows: list[dict[str, Any]] = read_rows(items)
    known = {row["item_id"]: Item(**{said: row[said] for said in _SAID}, genres=tuple(row["genres"])) for row in rows}
    described = _texts(descriptions, "item_id").items()  # which may be older than the items
    known |= {item: replace(known[item], description=text) for item, text in described if item in known}
    return Context(known, _texts(profiles, "user_id"))


def _texts(path: Path | None, key: str) -> dict[str, str]:
    return {} if path is None else {str(row[key]): str(row["text"]) for row in read_rows(path, [key, "text"])}
