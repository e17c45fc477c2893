"""The bootstrap that every interval of this package comes from.

What belongs here: `Interval`, the Poisson weights over users, and the interval of a mean. What doesn't: the metrics
themselves. Users are resampled, not rows, because two rows of one user are not two independent observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Elements of one block of replicates x rows: 16 MB a float64 array, whatever the number of rows or replicates.
_BLOCK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % percentile interval; None where it is not defined.

    ``left_out`` counts the replicates in which the value was not defined (for an AUC, those with one class only).
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    left_out: int = 0


def group_codes(groups: Sequence[object] | NDArray[np.generic] | None, rows: int) -> NDArray[np.intp]:
    """The group of each row, shape (rows,), as a number from 0 in sorted order; without groups every row is its own."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise ValueError(f"{len(groups)} groups for {rows} rows")
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


def poisson_blocks(codes: NDArray[np.intp], replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the rows' bootstrap weights in blocks of replicates, each of shape (block, rows).

    Each group's weight is Poisson(1), drawn independently: the online form of drawing users with replacement, without
    an index array. The stream of draws doesn't depend on the block's size, so neither does the result.
    """
    generator, groups = np.random.default_rng(seed), int(codes.max()) + 1
    block = max(1, _BLOCK_ELEMENTS // len(codes))
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        yield generator.poisson(1.0, size=(size, groups)).astype(np.float64)[:, codes]


def bootstrap(
    value: float | None,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    codes: NDArray[np.intp],
    *,
    replicates: int,
    seed: int,
) -> Interval:
    """Percentile interval of a weighted statistic.

    Args:
        value: The statistic on the rows themselves; None gives an interval without bounds.
        statistic: Maps weights (block, rows) to values (block,), NaN where a replicate leaves it undefined.
        codes: Group of each row, as `group_codes` numbers them.
        replicates: Bootstrap replicates; 0 gives no bounds.
        seed: Seed of the weights: the same seed, the same interval.
    """
    if value is None or replicates == 0:
        return Interval(value)
    draws = np.concatenate([statistic(weights) for weights in poisson_blocks(codes, replicates, seed)])
    kept = draws[~np.isnan(draws)]
    left_out = len(draws) - len(kept)
    if not len(kept):
        return Interval(value, left_out=left_out)
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(value, float(low), float(high), left_out)


def mean_interval(
    values: ArrayLike, *, groups: Sequence[object] | NDArray[np.generic] | None = None, replicates: int = 1000, seed: int = 0
) -> Interval:
    """Mean of per-row values with its bootstrap interval over groups.

    Args:
        values: One number per row, shape (rows,); no rows give an interval of None.
        groups: The user of each row; None where every row is its own user.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Interval(None)

    def weighted_mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(axis=1)
        return np.divide(weights @ array, total, out=np.full(len(total), np.nan), where=total > 0)

    codes = group_codes(groups, len(array))
    return bootstrap(float(array.mean()), weighted_mean, codes, replicates=replicates, seed=seed)
