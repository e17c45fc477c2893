"""Which windows are trained on, validated on or explained: seeded draws that hold still.

What belongs here: choosing rows of `interaction_windows`. What doesn't: making them. Each draw orders rows by a hash
of seed, user and item, so it does not depend on the file's order, and one more user changes at most a few rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from reasoningrec_assets.datasets.sql import connect, exact_path, stream
from reasoningrec_assets.lake.schemas import INTERACTION_WINDOWS

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

Split = Literal["train", "valid", "test"]

# The separator keeps ("1", "23") and ("12", "3") apart.
_HASH = "md5(concat_ws(chr(31), ?, user_id, target_item_id))"


@dataclass(frozen=True)
class Choice:
    """The chosen windows, all columns, sorted by user id; and how the draw went."""

    rows: pa.Table
    counts: dict[str, int]


def choose_train(windows: Path, k: int, seed: int) -> Choice:
    """K/2 liked and K/2 disliked rows of the train split (paper section 4).

    Where one class has fewer, all of it is taken and the other fills up; where the split has fewer than K rows, all of
    them are taken.

    Args:
        windows: Parquet file of ``interaction_windows``.
        k: Rows wanted; of an odd number the extra one is disliked.
        seed: Seed of the draw.

    Returns:
        The rows, and counts: requested, taken, liked, disliked, liked_available, disliked_available, filled_up (rows of
        one class that stand in for the other) and short_by (rows that the split lacks).
    """
    available = _sizes(windows, "train")
    liked, disliked = available[True], available[False]
    take_liked = min(liked, max(k // 2, k - disliked))
    take_disliked = min(disliked, max(k - k // 2, k - liked))
    rows = _draw(windows, "train", seed, {True: take_liked, False: take_disliked})
    counts = {
        "requested": k,
        "taken": rows.num_rows,
        "liked": take_liked,
        "disliked": take_disliked,
        "liked_available": liked,
        "disliked_available": disliked,
        "filled_up": max(0, take_liked - k // 2, take_disliked - (k - k // 2)),
        "short_by": k - rows.num_rows,
    }
    return Choice(rows, counts)


def choose_sample(windows: Path, split: Split, n: int | None, seed: int) -> Choice:
    """``n`` rows of a split at their natural prevalence; all of them where ``n`` is None or the split has no more.

    Args:
        windows: Parquet file of ``interaction_windows``.
        split: The split to draw from.
        n: Rows wanted.
        seed: Seed of the draw.

    Returns:
        The rows, and counts: requested, taken, available, liked and short_by.
    """
    available = sum(_sizes(windows, split).values())
    wanted = available if n is None else n
    rows = _draw(windows, split, seed, wanted)
    liked = sum(cast("list[bool]", rows.column("label").to_pylist()))
    counts = {
        "requested": wanted,
        "taken": rows.num_rows,
        "available": available,
        "liked": liked,
        "short_by": wanted - rows.num_rows,
    }
    return Choice(rows, counts)


def _sizes(windows: Path, split: Split) -> dict[bool, int]:
    with connect() as connection:
        query = "SELECT label, count(*) FROM read_parquet(?) WHERE split = ? GROUP BY label"
        found = cast("list[tuple[bool, int]]", connection.execute(query, [exact_path(windows), split]).fetchall())
    return {True: 0, False: 0, **dict(found)}


def _draw(windows: Path, split: Split, seed: int, quota: dict[bool, int] | int) -> pa.Table:
    """The first rows of the split in hash order, of each class or of all."""
    within = "PARTITION BY label" if isinstance(quota, dict) else ""
    liked, disliked = (quota[True], quota[False]) if isinstance(quota, dict) else (quota, quota)
    query = f"""
        SELECT * FROM read_parquet(?) WHERE split = ?
        QUALIFY row_number() OVER ({within} ORDER BY {_HASH}, user_id, target_item_id) <= CASE WHEN label THEN ? ELSE ? END
        ORDER BY user_id, target_item_id
    """
    with connect() as connection:
        params: list[object] = [exact_path(windows), split, str(seed), liked, disliked]
        return stream(connection, query, INTERACTION_WINDOWS, params=params, close=False).read_all()
