"""Ratings of any size with the skew of MovieLens: a few users and items hold most of the rows. Seeded, so that all runs read one file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import CACHE
from reasoningrec_assets.sql import connect, literal

# MovieLens-25M: 162,541 users with at least 20 ratings, 153.8 on average and 71 at the median; 59,047 items. MovieLens-1M: 3,706.
MEAN, LEAST, TAIL = 153.8, 20, 2.2
_DRAWN = """
WITH draws AS (
    SELECT u, hash($seed, u) / 18446744073709551616.0 AS a FROM range($users) AS users(u)
), sized AS (
    SELECT u, a, least($items / 2, $least + ($mean - $least) * ($tail - 1) * (pow(1 - a, -1 / $tail) - 1))::BIGINT AS n FROM draws
), events AS (
    SELECT u, a, unnest(range(n)) AS j FROM sized
), drawn AS (
    SELECT u, j, a, hash($seed, u, j) / 18446744073709551616.0 AS b, hash(j, u, $seed) / 18446744073709551616.0 AS c FROM events
), once AS (
    SELECT *, 1 + floor($items * pow(b, 3))::BIGINT AS item FROM drawn QUALIFY row_number() OVER (PARTITION BY u, item ORDER BY j) = 1
)
"""
_ROWS = """
SELECT u + 1 AS "userId", item AS "movieId", least(5, greatest(0.5, round(2 * (3.6 + a - 0.5 + 2 * (c - 0.5) - b)) / 2)) AS rating,
    (789652009 + floor(a * 7e8) + j * 40 + floor(c * 40))::BIGINT AS "timestamp"
FROM once ORDER BY u, item LIMIT $rows
"""


def ratings(rows: int, *, seed: int = 1) -> Path:
    """A `ratings.csv` as MovieLens-25M has it: so many rows, one per user and item, sorted by user and item."""
    path = CACHE / "ratings" / f"{rows}-{seed}" / "ratings.csv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        connection = connect(temp_directory=path.parent / "spill")
        values = {"users": max(10, round(rows / MEAN)), "items": max(1000, round(3706 * (rows / 1e6) ** 0.86)), "seed": seed}
        values |= {"mean": MEAN, "least": LEAST, "tail": TAIL}
        while True:  # draws that fall on an item twice are lost, more of them in a small set
            (found,) = connection.execute(f"{_DRAWN} SELECT count(*) FROM once", values).fetchone()
            if found >= rows:
                break
            values["mean"] *= 1.005 * rows / found
        sql = f"COPY ({_DRAWN} {_ROWS}) TO {literal(str(partial))} (HEADER, DELIMITER ',')"
        connection.execute(sql, {**values, "rows": rows})
        partial.rename(path)
    return path
