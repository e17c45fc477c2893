"""Which reviews an item's description is written from; leak-safe, none that tells of a target or of what came after it."""

from collections.abc import Mapping
from pathlib import Path

from reasoningrec_assets.datasets.cleaning import adapter_of
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.prompts.text import plain_text
from reasoningrec_assets.sql import Table, connect, execute, query, statements

_SQL = statements(__file__)


def choose(
    dataset: Dataset, files: Mapping[str, Path], windows: Path, *, leak_safe: bool = True, scratch: Path | None = None
) -> tuple[Table, dict[str, int]]:
    """The rows of ``item_reviews``, for each item in ``windows`` up to ten verified reviews, sorted by stars; and counts.

    Drawn, seeded and without replacement, in proportion to the item's stars; cut to 50 words where there are more than ten to
    choose from, else to 100 (paper section 3). Leak-safe, the reviews of all (user, item) pairs that are targets are withheld
    and, under global-temporal, those from the first cut on; the paper withholds none. Of ``by_known_users`` 0, it is not safe.
    """
    connection = connect(temp_directory=scratch)
    connection.create_function("plain_text", plain_text, ["VARCHAR"], "VARCHAR")  # pyright: ignore[reportArgumentType]
    execute(_SQL["needed"], on=connection, windows=windows)
    adapter = adapter_of(dataset)
    if "reviews" in files and hasattr(adapter, "load_reviews"):
        adapter.load_reviews(connection, files)
    else:
        connection.execute(_SQL["none"])
    values = {"dataset": dataset.name, "windows": windows, "seed": str(dataset.sample_seed), "most": 10, "leak_safe": leak_safe}
    table = query(_SQL["chosen"], on=connection, **values, cut=min(dataset.cuts, default=None))
    sizes = table["reviews"].combine_chunks().value_lengths().to_pylist()
    known = query(_SQL["known"], on=connection, windows=windows).to_pylist()[0]["known"]
    counts = {"items": len(sizes), "reviews": sum(sizes), "items_with_reviews": sum(map(bool, sizes)), "by_known_users": known}
    safe = leak_safe and (known > 0 or not sum(sizes))  # where ids are spelled otherwise, nobody's review is found to be withheld
    return table, counts | {"leak_safe": safe, "withheld": sum(table["withheld"].to_pylist())}
