"""From raw events to each user's sequence: which rows and users stay, by reason. `adapters` read, `windows` cut it up."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.datasets.adapters import amazon, movielens, tables
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.sql import Connection, Reader, Table, connect, execute, query, statements, stream

# Three targets, and at least one item of history before the first of them.
MIN_SEQUENCE = 4
_Adapter = Callable[[Dataset], Any]
ADAPTERS: dict[str, _Adapter] = {"movielens": lambda _: movielens, "amazon": lambda _: amazon, "tables": tables.adapter}
_SQL = statements(__file__)
# What that does, as an adapter's RULES do: by rule, the column it is about, the rows that it meets and its effect.
_ITEM_RULES = {
    "row_of_no_rated_item": ("item_id", "raw_items ANTI JOIN rated USING (item_id)", "the row is left out"),
    "row_repeated": ("item_id", "copies WHERE copy > 1", "the row is left out: an item's first one counts"),
    "item_without_title": ("item_id", "copies WHERE copy = 1 AND title IS NULL", "the item's id is its title"),
    "item_without_row": ("item_id", "rated ANTI JOIN raw_items USING (item_id)", "the item's id is its title"),
}
_MET_SQL = "SELECT count(*) AS rows, coalesce(min(DISTINCT left({column}, 120), 3), []) AS examples FROM {source}"


def adapter_of(dataset: Dataset) -> Any:
    """What reads the dataset's raw files; PermanentError where they are no ratings."""
    if dataset.adapter not in ADAPTERS:
        problem, remedy = "its rows were made elsewhere, it has no ratings", "Run the job study_published: docs/studies.md"
        raise PermanentError("read ratings", where=f"dataset {dataset.name}", problem=problem, remedy=remedy)
    return ADAPTERS[dataset.adapter](dataset)


def clean(
    dataset: Dataset,
    files: Mapping[str, Path],
    *,
    repeated_pairs: Literal["last", "first", "keep"] = "last",
    scratch: Path | None = None,
) -> tuple[Reader, dict[str, int], dict[str, str]]:
    """Filter users on raw rows, resolve repeated pairs, drop short sequences, sample users, number the positions.

    ``repeated_pairs`` says which row of a repeated (user, item) pair stays: with ``keep``, a target can stand in its own
    history with its label, which is the leak that the published code has.
    Returns the rows of ``cleaned_interactions``, sorted by user id (as text) and position, to be read once; counts, of which
    the five ``dropped_<reason>`` add up to rows_in - rows_out; and as JSON, ``dropped``, up to three examples of each reason.
    PermanentError where the file that holds the ratings breaks its layout, or no user is left.
    """
    connection = connect(temp_directory=scratch)
    adapter_of(dataset).load_ratings(connection, files)
    rule, order = {"last": ("true", "DESC"), "first": ("true", "ASC"), "keep": ("false", "ASC")}[repeated_pairs]
    connection.execute(_SQL["repeats"].format(rule=rule, order=order))
    limits = {"fewest": dataset.min_ratings, "shortest": MIN_SEQUENCE, "sample": dataset.sample_users or 2**62}
    connection.execute(_SQL["users"], {**limits, "one": dataset.one_user_per_sequence, "seed": str(dataset.sample_seed)})
    counts = query(_SQL["counts"], on=connection).to_pylist()[0]
    if not counts["users_out"]:
        most, longest = query("SELECT max(raw), max(raw - given_up) FROM users", on=connection).to_pylist()[0].values()
        where = f"dataset {dataset.name}, {', '.join(map(str, files.values()))}"
        problem = f"no user has the {dataset.min_ratings} ratings that min_ratings asks for, and the {MIN_SEQUENCE} rows that"
        problem += f" three targets and a history need; the most that any user has is {most}, the longest sequence has {longest}"
        remedy = "Lower min_ratings in the dataset's record, or use a file with longer histories"
        raise PermanentError("clean the interactions", where=where, problem=problem, remedy=remedy)
    liked = {"least": dataset.liked_at_least, "above": dataset.liked_above}
    examples = {row["rule"]: row["examples"] for row in query(_SQL["examples"], on=connection).to_pylist() if row["examples"]}
    rows = stream(_SQL["sequences"], on=connection, dataset=dataset.name, **liked)
    return rows, counts, {"dropped": json.dumps(examples, ensure_ascii=False)}


def read_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> tuple[Table, dict[str, int]]:
    """One row of ``items`` per item that ``interactions`` (`cleaned_interactions`) names, sorted by item id; and counts.

    Of several raw rows for one item the first in the file counts; the title of an item without one is its id. The role
    ``items`` (MovieLens) or ``metadata`` (Amazon) is read; PermanentError where the file breaks its layout.
    """
    connection = _load_items(dataset, files, interactions)
    found = query(_SQL["items"], on=connection, dataset=dataset.name)
    counts = {"items": found.num_rows, "items_without_title": sum(found["untitled"].to_pylist())}
    return found.drop_columns("untitled"), counts


def report(
    dataset: Dataset, files: Mapping[str, Path], interactions: Path, counts: Mapping[str, float], details: Mapping[str, str]
) -> Table:
    """The rows of ``cleaning_report``: the rules of `clean`, of which counts and details are, of the adapter, of `read_items`."""
    connection = _load_items(dataset, files, interactions)
    dropped = {name.removeprefix("dropped_"): rows for name, rows in counts.items() if name.startswith("dropped_")}
    known, left_out = json.loads(details["dropped"]), {"what": "the rating is left out"}
    rows = [{"rule": rule, **left_out, "rows": int(n), "examples": known.get(rule, [])} for rule, n in dropped.items()]
    for rule, (column, source, effect) in (getattr(adapter_of(dataset), "RULES", {}) | _ITEM_RULES).items():
        met = query(_MET_SQL.format(column=column, source=source), on=connection).to_pylist()[0]
        rows.append({"rule": rule, "what": effect, **met})
    return TABLES["cleaning_report"].table([{"dataset": dataset.name, **row} for row in rows])


def _load_items(dataset: Dataset, files: Mapping[str, Path], interactions: Path) -> Connection:
    """A connection with ``raw_items``, the items ``rated`` in the interactions, and the raw rows of these, ``copies``."""
    connection = connect()
    adapter_of(dataset).load_items(connection, files)
    execute(_SQL["copies"], on=connection, interactions=interactions)
    return connection
