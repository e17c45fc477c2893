"""The reviews of Amazon Fashion, 883,636 of them, joined to what 6,089 items' descriptions are written from, whole process.

The peer is a loop over all reviews for each item, as published; it runs for a few items, and its time for all is worked out
from those and says so.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.harness import CACHE, Figure, ours, whole_process
from reasoningrec_assets.sql import connect, literal

REVIEWS, ITEMS, NEEDED, USERS = 883_636, 186_637, 6_089, 1_273
# Review texts have 25 words at the median and a long tail; one in ten is not verified, one in a hundred has no text.
_REVIEWS = """
COPY (
    WITH drawn AS (SELECT r, hash(r, 1) / 18446744073709551616.0 AS a, hash(r, 2) / 18446744073709551616.0 AS b FROM range($reviews) AS rows(r))
    SELECT 1 + floor(5 * sqrt(b))::INTEGER AS overall, a < 0.9 AS verified, 'U' || hash(r, 3) % 750000 AS "reviewerID",
        'B' || lpad(floor($items * pow(a, 3))::BIGINT::VARCHAR, 9, '0') AS asin,
        CASE WHEN hash(r, 4) % 100 > 0 THEN repeat('these fit well & feel "good" to me ', (1 + 3 / (0.02 + b))::INTEGER) || r END AS "reviewText",
        'Five Stars' AS summary, 1400000000 + hash(r, 5) % 100000000 AS "unixReviewTime"
    FROM drawn
) TO {path} (FORMAT json)
"""
_WINDOWS = """
COPY (
    SELECT 'fashion' AS dataset, 'test' AS split, 'U' || w AS user_id, 'B' || lpad((w % $needed)::VARCHAR, 9, '0') AS target_item_id, 5.0 AS target_rating,
        true AS label, 1450000000 AS target_time, [('B' || lpad(((w * 5 + n) % $needed)::VARCHAR, 9, '0')) for n in range(1, 5)] AS history_item_ids,
        [true, true, true, true] AS history_liked, []::VARCHAR[] AS profile_item_ids, []::BOOLEAN[] AS profile_liked
    FROM range($windows) AS rows(w)
) TO {path} (FORMAT parquet)
"""


def inputs(reviews: int, needed: int) -> Path:
    """A folder with `AMAZON_FASHION.json` and `windows.parquet`."""
    folder = CACHE / "reviews" / f"{reviews}-{needed}"
    if not (folder / "windows.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        values = {"reviews": reviews, "items": max(needed, ITEMS * reviews // REVIEWS)}
        connect().execute(_REVIEWS.format(path=literal(str(folder / "AMAZON_FASHION.json"))), values)
        connect().execute(_WINDOWS.format(path=literal(str(folder / "windows.parquet"))), {"needed": needed, "windows": needed})
    return folder


def published(folder: Path, items: int) -> float:
    """Seconds that looking through all reviews takes for so many items."""
    with (folder / "AMAZON_FASHION.json").open(encoding="utf-8") as file:
        reviews = [json.loads(line) for line in file]
    begun = time.monotonic()
    for number in range(items):
        asin = f"B{number:09d}"
        [review["reviewText"] for review in reviews if review["asin"] == asin and review["verified"]]
    return time.monotonic() - begun


def run(quick: bool) -> list[Figure]:
    reviews, needed = (2_000, 50) if quick else (REVIEWS, NEEDED)
    folder = inputs(reviews, needed)
    runs = [whole_process(ours("data_reviews", str(folder))) for _ in range(1 if quick else 3)]
    sample = min(needed, 20)
    loop = published(folder, sample) / sample * needed
    seconds = sorted(one["seconds"] for one in runs)[len(runs) // 2]
    details = {"memory": f"{max(one['mb'] for one in runs):.0f} MB", f"the nested loop, from {sample} items": f"{loop:.0f} s"}
    return [Figure(f"{reviews} reviews to the choices of {needed} items", seconds, 20, at_most=True, unit=" s", details=details)]


if __name__ == "__main__":
    from reasoningrec_assets.datasets import registry, reviews
    from reasoningrec_assets.lake.schemas import TABLES
    from reasoningrec_assets.lake.tables import write_table

    given = Path(sys.argv[1])
    table, counts = reviews.choose(registry.get("fashion"), {"reviews": given / "AMAZON_FASHION.json"}, given / "windows.parquet")
    write_table(TABLES["item_reviews"], table, given / "chosen.parquet", dataset="fashion")
    print(counts)
