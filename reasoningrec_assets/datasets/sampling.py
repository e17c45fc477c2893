"""Which windows are trained on, validated on or explained: seeded draws that hold still.

What belongs here: choosing rows of `interaction_windows`. What doesn't: making them. Each draw orders rows by a hash
of seed, user and item, so it does not depend on the file's order, and one more user changes at most a few rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from reasoningrec_assets.sql import query

if TYPE_CHECKING:
    import pyarrow as pa

# The separator keeps ("1", "23") and ("12", "3") apart.
_DRAW = "md5(concat_ws(chr(31), $seed, user_id, target_item_id)), user_id, target_item_id"
_SIZES_SQL = "SELECT count(*) FILTER (label), count(*) FILTER (NOT label) FROM read_parquet($windows) WHERE split = 'train'"
_TRAIN_SQL = f"""
SELECT * FROM read_parquet($windows) WHERE split = 'train'
QUALIFY row_number() OVER (PARTITION BY label ORDER BY {_DRAW}) <= CASE WHEN label THEN $liked ELSE $disliked END
ORDER BY user_id, target_item_id
"""
_SAMPLE_SQL = f"""
SELECT * FROM (SELECT * FROM read_parquet($windows) WHERE split = $split ORDER BY {_DRAW} LIMIT $n)
ORDER BY user_id, target_item_id
"""


class Choice(NamedTuple):
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
    liked, disliked = query(_SIZES_SQL, windows=windows).to_pylist()[0].values()
    take_liked = min(liked, max(k // 2, k - disliked))
    take_disliked = min(disliked, max(k - k // 2, k - liked))
    rows = query(_TRAIN_SQL, windows=windows, seed=seed, liked=take_liked, disliked=take_disliked)
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


def choose_sample(windows: Path, split: Literal["train", "valid", "test"], n: int, seed: int) -> pa.Table:
    """``n`` rows of a split at their natural prevalence, or all where it has fewer; all columns, sorted by user id.

    Args:
        windows: Parquet file of ``interaction_windows``.
        split: The split to draw from.
        n: Rows wanted.
        seed: Seed of the draw.
    """
    return query(_SAMPLE_SQL, windows=windows, split=split, seed=seed, n=n)
