"""Which reviews an item's description is written from; leak-safe, none that tells of a target or of what came after it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.datasets.cleaning import ADAPTERS
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.prompts.text import plain_text
from reasoningrec_assets.sql import connect, execute, query

if TYPE_CHECKING:
    import pyarrow as pa

_NEEDED_SQL = """
CREATE TABLE needed AS
SELECT DISTINCT unnest([target_item_id] || history_item_ids || profile_item_ids) AS item_id FROM read_parquet($windows)
"""
_NONE_SQL = """
CREATE TABLE raw_reviews (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, "timestamp" BIGINT, verified BOOLEAN, text VARCHAR)
"""
# What does not say whether it is verified counts. Ordered by stars, every n/10th review, from a seeded start on, draws from each
# number of stars its share; from a fixed start the best review would always be drawn, and the worst never.
_CHOSEN_SQL = """
WITH told AS (
    SELECT user_id, item_id, text, min(rating) AS stars, min("timestamp") AS "time"
    FROM raw_reviews SEMI JOIN needed USING (item_id) WHERE coalesce(verified, true) AND trim(text) <> '' GROUP BY 1, 2, 3
), judged AS (
    SELECT told.*, $leak_safe AND (
        target_item_id IS NOT NULL OR told.user_id IS NULL OR ($cut::BIGINT IS NOT NULL AND coalesce("time" >= $cut, true))
    ) AS withheld
    FROM told LEFT JOIN (SELECT DISTINCT user_id, target_item_id FROM read_parquet($windows)) AS targets
    ON told.user_id = targets.user_id AND item_id = target_item_id
), ranked AS (
    SELECT *, count(*) OVER item AS n, (md5_number(concat_ws(':', $seed, item_id)) % n::UHUGEINT)::BIGINT AS start,
        row_number() OVER (item ORDER BY stars, md5(concat_ws(':', $seed, user_id, text))) AS r
    FROM judged WINDOW item AS (PARTITION BY item_id, withheld)
), quoted AS (
    SELECT user_id, item_id, withheld, r, CASE WHEN NOT withheld AND (r * $most + start) // n > ((r - 1) * $most + start) // n THEN
        coalesce(format('rated {:g}: ', stars), '')
        || nullif(array_to_string(string_split(plain_text(text), ' ')[:if(n > $most, 50, 100)], ' '), '') END AS review
    FROM ranked
)
SELECT $dataset AS dataset, item_id, coalesce(list(review ORDER BY r) FILTER (review IS NOT NULL), []) AS reviews,
    coalesce(list(coalesce(user_id, '') ORDER BY r) FILTER (review IS NOT NULL), []) AS reviewers,
    count(*) FILTER (NOT withheld) AS eligible, count(*) FILTER (withheld) AS withheld
FROM needed LEFT JOIN quoted USING (item_id) GROUP BY item_id ORDER BY item_id
"""


def choose(
    dataset: Dataset, files: Mapping[str, Path], windows: Path, *, leak_safe: bool = True, temp_directory: Path | None = None
) -> "tuple[pa.Table, dict[str, int]]":
    """The rows of ``item_reviews``, for each item in ``windows`` up to ten verified reviews, sorted by stars; and counts.

    Drawn, seeded and without replacement, in proportion to the item's stars; cut to 50 words where there are more than ten to
    choose from, else to 100 (paper section 3). Leak-safe, the reviews of all (user, item) pairs that are targets are withheld
    and, under global-temporal, those from the first cut on; the paper withholds none.
    """
    connection = connect(temp_directory=temp_directory)
    connection.create_function("plain_text", plain_text, ["VARCHAR"], "VARCHAR")  # pyright: ignore[reportArgumentType]
    execute(_NEEDED_SQL, on=connection, windows=windows)
    adapter = ADAPTERS[dataset.adapter](dataset)
    if "reviews" in files and hasattr(adapter, "load_reviews"):
        adapter.load_reviews(connection, files)
    else:
        connection.execute(_NONE_SQL)
    values = {"dataset": dataset.name, "windows": windows, "seed": str(dataset.sample_seed), "most": 10, "leak_safe": leak_safe}
    table = query(_CHOSEN_SQL, on=connection, **values, cut=min(dataset.cuts, default=None))
    sizes = [len(reviews) for reviews in table["reviews"].to_pylist()]
    counts = {"items": len(sizes), "reviews": sum(sizes), "items_with_reviews": sum(map(bool, sizes)), "leak_safe": leak_safe}
    return table, counts | {"withheld": sum(table["withheld"].to_pylist())}
