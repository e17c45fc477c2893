"""The bootstrap behind every interval. It draws users, as two rows of one user are not two independent observations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]
Groups = Sequence[object] | NDArray[np.generic] | None

# Elements of one block of replicates x rows: 16 MB a float64 array, whatever the number of rows or replicates.
_BLOCK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % percentile interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    left_out: int = 0  # replicates in which the value was not defined: for an AUC, those with one class only


def group_codes(groups: Groups, rows: int) -> Codes:
    """The group of each row, shape (rows,), as a number from 0 in sorted order; without groups every row is its own."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise ValueError(f"{len(groups)} groups for {rows} rows")
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


def poisson_blocks(codes: Codes, replicates: int, seed: int, sizes: Codes | int = 1) -> Iterator[Floats]:
    """Yield the rows' bootstrap weights in blocks of replicates, each of shape (block, rows); ``sizes`` are the groups' means."""
    # Each group's weight is Poisson(1), drawn independently: the online form of drawing users with replacement, without
    # an index array. The stream of draws doesn't depend on the block's size, so neither does the result.
    generator, groups = np.random.default_rng(seed), int(codes.max()) + 1
    block = max(1, _BLOCK_ELEMENTS // len(codes))
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        yield generator.poisson(sizes, size=(size, groups)).astype(np.float64)[:, codes]


def bootstrap(value: float, statistic: Statistic, codes: Codes, replicates: int, seed: int, sizes: Codes | int = 1) -> Interval:
    """Percentile interval of a statistic of weights (block, rows), with values (block,), NaN if undefined; of 0 replicates none."""
    if replicates == 0:
        return Interval(value)
    draws = np.concatenate([statistic(weights) for weights in poisson_blocks(codes, replicates, seed, sizes)])
    kept = draws[~np.isnan(draws)]
    low, high = np.quantile(kept, [0.025, 0.975]).tolist() if len(kept) else (None, None)
    return Interval(value, low, high, len(draws) - len(kept))


def mean_interval(values: ArrayLike, *, groups: Groups = None, replicates: int = 1000, seed: int = 0) -> Interval:
    """Mean of one value per row, and its interval over the rows' groups, as in `group_codes`; None where there is no row."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Interval(None)

    def weighted_mean(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        return np.divide(weights @ array, total, out=np.full(len(total), np.nan), where=total > 0)

    return bootstrap(float(array.mean()), weighted_mean, group_codes(groups, len(array)), replicates=replicates, seed=seed)
