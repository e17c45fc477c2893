"""One declared record per dataset: files, sources, like rule, filter, history length.

What belongs here: what differs between datasets, as data. What doesn't: any code that reads a file. The Dagster
definitions import this module, so it needs nothing but pydantic.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from reasoningrec_assets.errors import PermanentError

Setting = int | float | str | bool


class Source(BaseModel, frozen=True, extra="forbid"):
    """One place that holds a dataset's raw files.

    ``location`` is the URL of one archive, a URL that ends with a slash (a folder: each member is a file below it,
    fetched by itself), or ``package==version`` of a wheel. ``members`` says for each role where in it the file lies.
    """

    kind: Literal["url", "wheel"]
    location: str
    checksum: str | None = Field(default=None, pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")
    members: dict[str, str]


class RawRole(BaseModel, frozen=True, extra="forbid"):
    """One kind of raw file: the names under which a user may place it, and whether the dataset needs it."""

    names: tuple[str, ...]
    required: bool = True


class Dataset(BaseModel, frozen=True, extra="forbid"):
    """A dataset as the pipeline sees it. Figures follow the paper's section 4 unless the title says otherwise."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="Partition key.")
    title: str = Field(description="Name for people.")
    adapter: Literal["movielens", "amazon"] = Field(description="Which adapter reads the raw files.")
    item_kind: str = Field(default="movie", description="What prompts call an item.")
    raw_files: dict[str, RawRole] = Field(description="Expected raw files by role.")
    sources: tuple[Source, ...] = Field(default=(), description="Where the files come from, in the order tried.")
    min_ratings: int = Field(ge=1, description="Users with fewer raw rows are left out.")
    liked_at_least: float | None = Field(default=None, description="Liked means rating >= this.")
    liked_above: float | None = Field(default=None, description="Liked means rating > this.")
    history_length: int = Field(ge=1, description="Rated items before the target that a prompt shows.")
    profile_items: int = Field(default=15, ge=0, description="At most this many first items make the profile.")
    # The three targets must stay out of the profile, hence at least 3.
    profile_skip_last: int = Field(default=3, ge=3, description="This many last items are never profile items.")
    profile_words: int = Field(default=100, ge=1, description="Longest user profile in words.")
    base: str | None = Field(default=None, description="Dataset whose raw files this one shares.")
    sample_users: int | None = Field(default=None, ge=1, description="Keep a seeded sample of this many users.")
    sample_seed: int = Field(default=42, description="Seed of the user sample.")
    settings: dict[str, dict[str, Setting]] = Field(default={}, description="Overrides of profile settings, by section.")

    @model_validator(mode="after")
    def _one_like_rule(self) -> Dataset:
        if (self.liked_at_least is None) == (self.liked_above is None):
            raise ValueError("set exactly one of liked_at_least and liked_above")
        return self

    @property
    def raw_name(self) -> str:
        """Name of the folder that holds the raw files: the base's where there is one."""
        return self.base or self.name


def _files(ratings: str, items: str, users: str, recbole: str) -> dict[str, RawRole]:
    """MovieLens files by role, each under GroupLens's name or RecBole's."""
    return {
        "ratings": RawRole(names=(ratings, f"{recbole}.inter")),
        "items": RawRole(names=(items, f"{recbole}.item")),
        "users": RawRole(names=(users, f"{recbole}.user"), required=False),
    }


def _archive(name: str, md5: str, files: dict[str, RawRole]) -> Source:
    """GroupLens's official archive."""
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    members = {role: f"{name}/{raw.names[0]}" for role, raw in files.items()}
    return Source(kind="url", location=url, checksum=f"md5:{md5}", members=members)


_ML100K_FILES = _files("u.data", "u.item", "u.user", "ml-100k")
_ML100K = Dataset(
    name="ml100k",
    title="MovieLens-100K",
    adapter="movielens",
    raw_files=_ML100K_FILES,
    sources=(
        _archive("ml-100k", "0e33842e24a9c977be4e0107933c0723", _ML100K_FILES),
        # RecBole ships MovieLens-100K as its example; the data may be used but not passed on.
        Source(
            kind="wheel",
            location="recbole==1.2.1",
            checksum="sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            members={role: f"recbole/dataset_example/ml-100k/{raw.names[1]}" for role, raw in _ML100K_FILES.items()},
        ),
    ),
    min_ratings=20,
    liked_above=3,
    history_length=12,
)

_ML100K_DEMO = _ML100K.model_copy(
    update={
        "name": "ml100k_demo",
        "title": "MovieLens-100K, a seeded sample of 80 users",
        "base": "ml100k",
        "history_length": 8,
        "profile_items": 8,
        "sample_users": 80,
        "settings": {"sampling": {"k": 32, "valid_rows": 12, "explained_rows": 6}, "training": {"epochs": 2}},
    }
)

_ML1M_FILES = _files("ratings.dat", "movies.dat", "users.dat", "ml-1m")
_ML1M = Dataset(
    name="ml1m",
    title="MovieLens-1M",
    adapter="movielens",
    raw_files=_ML1M_FILES,
    sources=(_archive("ml-1m", "c4d9eecfca2ab87c1945afe126590906", _ML1M_FILES),),
    min_ratings=20,
    liked_at_least=3,
    history_length=20,
    profile_words=200,
    settings={"training": {"learning_rate": 4e-5}},
)


def _amazon(name: str, title: str, category: str, min_ratings: int, history_length: int, **training: Setting) -> Dataset:
    """An Amazon Review 2018 category; the profile takes all but the last ``min_ratings`` items (paper section 4)."""
    # The official files of the McAuley lab, which publishes no checksums.
    official = Source(
        kind="url",
        location="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/",
        members={
            "ratings": f"categoryFilesSmall/{category}.csv",
            "reviews": f"categoryFiles/{category}.json.gz",
            "metadata": f"metaFiles2/meta_{category}.json.gz",
        },
    )
    return Dataset(
        name=name,
        title=title,
        adapter="amazon",
        item_kind="product",
        raw_files={
            "ratings": RawRole(names=(f"{category}.csv",)),
            "reviews": RawRole(names=(f"{category}.json",)),
            "metadata": RawRole(names=(f"meta_{category}.json",)),
        },
        sources=(official,),
        min_ratings=min_ratings,
        liked_above=3,
        history_length=history_length,
        profile_skip_last=min_ratings,
        settings={"training": training} if training else {},
    )


_RECORDS = (
    _ML100K,
    _ML100K_DEMO,
    _ML1M,
    _amazon("beauty", "Amazon All Beauty (2018)", "All_Beauty", min_ratings=6, history_length=5, batch_size=6),
    _amazon("fashion", "Amazon Fashion (2018)", "AMAZON_FASHION", min_ratings=7, history_length=4),
)


def datasets() -> dict[str, Dataset]:
    """Every declared dataset by name, in the order in which a list shows them."""
    return {record.name: record for record in _RECORDS}


def get(name: str) -> Dataset:
    """The record of one dataset.

    Raises:
        PermanentError: No dataset has that name; the message lists those that exist.
    """
    known = datasets()
    if name not in known:
        raise PermanentError(
            "find the dataset",
            where=f"dataset {name!r}",
            problem="no such dataset is declared",
            remedy=f"Use one of {', '.join(known)}",
        )
    return known[name]
