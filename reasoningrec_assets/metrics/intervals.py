"""The bootstrap behind every interval. It draws users, as two rows of one user are not two independent observations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
Groups = Sequence[object] | NDArray[np.generic] | None

_BLOCK_ELEMENTS = 2_000_000  # of a block of replicates x groups: 16 MB a float64 array, whatever the number of either
_MANY, _CELLS = 40_960, 4_096  # groups beyond which those of nearly equal influence are drawn together, in so many cells


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % percentile interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    left_out: int = 0  # replicates in which the value was not defined: for an AUC, those with one class only


def group_codes(groups: Groups, rows: int) -> NDArray[np.intp]:
    """The group of each row, shape (rows,), as a number from 0 in sorted order; without groups every row is its own."""
    if groups is None:
        return np.arange(rows)
    assert len(groups) == rows, f"{len(groups)} groups for {rows} rows"
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


def bootstrap(
    value: float, statistic: Statistic, shares: NDArray[Any], influence: NDArray[Any], replicates: int, seed: int, width: int = 1
) -> Interval:
    """Percentile interval of a statistic of weights (block, groups), with values (block,), NaN if undefined; of one group none.

    Many groups, none of which has much of the rows by its ``shares``, or of a class's, move the value by their weights times their
    ``influence``, but for terms of 1/groups. They are sorted into cells, and a cell is drawn as the Poisson number of equal groups
    with its sum and sum of squares: so the draws' mean and variance are those of drawing every group.
    """
    rates = np.ones(len(shares))
    if len(shares) > _MANY and shares.max() <= 1e-3:
        ordered = np.sort(influence[influence != 0])
        # no cell has groups of both signs: they would cancel
        edges = np.append(np.linspace(0, len(ordered), _CELLS, endpoint=False, dtype=np.intp), np.searchsorted(ordered, 0.0))
        starts, width = np.unique(edges[edges < len(ordered)]), 1
        sums, squares = (np.add.reduceat(ordered**power, starts) for power in (1, 2))
        rates, statistic = sums**2 / squares, lambda weights: value + weights @ (squares / sums) - sums.sum()
    # Each group's weight is Poisson, of rate 1 the online form of drawing users with replacement, without an index array. The
    # stream of draws doesn't depend on the block's size, so neither does the result; ``width`` is what a statistic makes of the groups.
    generator, block = np.random.default_rng(seed), max(1, _BLOCK_ELEMENTS // max(len(rates), width))
    sizes = (min(block, replicates - start) for start in range(0, replicates if len(shares) > 1 else 0, block))
    draws = np.concatenate([[], *(statistic(generator.poisson(rates, (size, len(rates))).astype(np.float64)) for size in sizes)])
    kept = draws[~np.isnan(draws)]
    low, high = np.quantile(kept, [0.025, 0.975]).tolist() if len(kept) else (None, None)
    return Interval(value, low, high, len(draws) - len(kept))


def mean_interval(values: ArrayLike, *, groups: Groups = None, replicates: int = 1000, seed: int = 0) -> Interval:
    """Mean of one value per row, and its interval over the rows' groups, as in `group_codes`; None where there is no row."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Interval(None)
    value, codes = float(array.mean()), group_codes(groups, len(array))
    sums, rows = np.bincount(codes, array), np.bincount(codes).astype(np.float64)

    def weighted_mean(weights: Floats) -> Floats:
        total = weights @ rows
        return np.divide(weights @ sums, total, out=np.full(len(total), np.nan), where=total > 0)

    shares = rows / len(array)
    return bootstrap(value, weighted_mean, shares, sums / len(array) - value * shares, replicates, seed)
