"""The bootstrap behind every interval. It draws users, as two rows of one user are not two independent observations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]
Groups = Sequence[object] | NDArray[np.generic] | None

# Elements of one block of replicates x groups: 16 MB a float64 array, whatever the number of groups or replicates.
_BLOCK_ELEMENTS = 2_000_000
_MANY, _CELLS = 40_960, 4_096  # groups beyond which those of nearly equal influence are drawn together, in so many cells


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


def bootstrap(value: float, statistic: Statistic, rates: Floats, replicates: int, seed: int, width: int = 1) -> Interval:
    """Percentile interval of a statistic of weights (block, groups), with values (block,), NaN if undefined; of 0 replicates none.

    A statistic may need ``width`` columns beside the groups, which blocks are then small enough for.
    """
    # Each group's weight is Poisson, of rate 1 the online form of drawing users with replacement, without an index array. The
    # stream of draws doesn't depend on the block's size, so neither does the result.
    generator, block = np.random.default_rng(seed), max(1, _BLOCK_ELEMENTS // max(len(rates), width))
    sizes = (min(block, replicates - start) for start in range(0, replicates, block))
    blocks = (generator.poisson(rates, (size, len(rates))).astype(np.float64) for size in sizes)
    draws = np.concatenate([[], *map(statistic, blocks)])
    kept = draws[~np.isnan(draws)]
    low, high = np.quantile(kept, [0.025, 0.975]).tolist() if len(kept) else (None, None)
    return Interval(value, low, high, len(draws) - len(kept))


def many(shares: Floats) -> bool:
    """Whether groups with these shares of the rows, or of a class's, can be drawn by `influenced`: none is much of a whole."""
    return len(shares) > _MANY and shares.max() <= 1e-3


def influenced(value: float, influence: Floats, replicates: int, seed: int) -> Interval:
    """The interval of many groups, each of which moves the value by its influence times its weight, but for terms of 1/groups.

    A cell of groups that stand together by influence is drawn as the Poisson number of equal groups with the cell's sum and sum
    of squares: so the draws' mean and variance are those of drawing every group.
    """
    ordered = np.sort(influence[influence != 0])
    # no cell has groups of both signs: they would cancel
    edges = np.append(np.linspace(0, len(ordered), _CELLS, endpoint=False, dtype=np.intp), np.searchsorted(ordered, 0.0))
    starts = np.unique(edges[edges < len(ordered)])
    sums, squares = (np.add.reduceat(ordered**power, starts) for power in (1, 2))
    rates, steps = sums**2 / squares, squares / sums
    return bootstrap(value, lambda weights: value + (weights - rates) @ steps, rates, replicates, seed)


def mean_interval(values: ArrayLike, *, groups: Groups = None, replicates: int = 1000, seed: int = 0) -> Interval:
    """Mean of one value per row, and its interval over the rows' groups, as in `group_codes`; None where there is no row."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Interval(None)
    value, codes = float(array.mean()), group_codes(groups, len(array))
    sums, rows = np.bincount(codes, array), np.bincount(codes).astype(np.float64)
    if many(rows / len(array)):
        return influenced(value, (sums - value * rows) / len(array), replicates, seed)

    def weighted_mean(weights: Floats) -> Floats:
        total = weights @ rows
        return np.divide(weights @ sums, total, out=np.full(len(total), np.nan), where=total > 0)

    return bootstrap(value, weighted_mean, np.ones(len(rows)), replicates, seed)
