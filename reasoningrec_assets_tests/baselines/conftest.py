"""Sequences of a few users as plain dicts, and the Parquet files that the datasets package would make of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Data:
    """Interactions and windows as rows; write() puts both on disk."""

    folder: Path
    interactions: list[dict[str, Any]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)

    def write(self) -> tuple[Path, Path]:
        paths = self.folder / "windows.parquet", self.folder / "interactions.parquet"
        tables = (self.windows, TABLES["interaction_windows"]), (self.interactions, TABLES["cleaned_interactions"])
        for path, (rows, table) in zip(paths, tables, strict=True):
            pq.write_table(pa.Table.from_pylist(rows, schema=table.arrow()), path)
        return paths

    def window(self, user: str, split: str) -> dict[str, Any]:
        return next(row for row in self.windows if (row["user_id"], row["split"]) == (user, split))


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Thirty users with 3 to 16 items among 12; users with three items have an empty train history."""
    rng = random.Random(0)
    made = Data(tmp_path)
    for number in range(30):
        user = f"u{number:02d}"
        count = 3 if number < 3 else rng.randint(4, 12)
        items = rng.sample([f"i{item}" for item in range(12)], count)
        taste = rng.random()
        liked = [rng.random() < taste for _ in items]
        for position, (item, like) in enumerate(zip(items, liked, strict=True)):
            made.interactions.append(
                {
                    "dataset": "d",
                    "user_id": user,
                    "item_id": item,
                    "rating": 5.0 if like else 1.0,
                    "liked": like,
                    "timestamp": 0,
                    "position": position,
                }
            )
        for split, back in (("train", 3), ("valid", 2), ("test", 1)):
            at = count - back
            made.windows.append(
                {
                    "dataset": "d",
                    "split": split,
                    "user_id": user,
                    "target_item_id": items[at],
                    "target_rating": 5.0 if liked[at] else 1.0,
                    "label": liked[at],
                    "target_time": 0,
                    "history_item_ids": items[max(0, at - 7) : at],
                    "history_liked": liked[max(0, at - 7) : at],
                    "profile_item_ids": [],
                    "profile_liked": [],
                }
            )
    return made
