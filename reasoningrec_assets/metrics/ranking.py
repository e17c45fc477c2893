"""The AUC: how well scores separate liked from disliked targets. Which rows count is decided in `evaluate`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.intervals import Floats, Groups, Interval, bootstrap, group_codes

_BINS = 4096  # of a large sample's scores, for the interval alone: the AUC itself is exact


def checked(labels: ArrayLike, scores: ArrayLike, method: str) -> tuple[NDArray[np.bool_], Floats]:
    """Labels and scores as arrays of shape (rows,). A NaN is a broken prediction, refused by PermanentError, never ranked."""
    truth, values = np.asarray(labels, dtype=np.bool_), np.asarray(scores, dtype=np.float64)
    assert truth.shape == values.shape == (len(truth),), f"labels have shape {truth.shape}, scores {values.shape}"
    broken = int(np.isnan(values).sum())
    if broken:
        problem = f"{broken} of {len(values)} rows have a score that is not a number"
        remedy = "Repair the step that scored them, or leave the rows out so that coverage counts them as missing"
        raise PermanentError("evaluate a method's scores", where=f"method {method}", problem=problem, remedy=remedy)
    return truth, values


def auc(labels: ArrayLike, scores: ArrayLike, *, method: str = "unnamed") -> float | None:
    """The chance that a liked row is scored above a disliked one, ties counting half; None where there is one class or no row."""
    return auc_interval(labels, scores, replicates=0, method=method).value


def placements(liked: NDArray[np.bool_], ranks: Floats) -> Floats:
    """The chance that each row, by its midrank among all, is on the right side of one of the other class, ties counting half."""
    from scipy.stats import rankdata

    right = np.empty(len(liked))
    right[liked] = (ranks[liked] - rankdata(ranks[liked])) / (~liked).sum()
    right[~liked] = 1 - (ranks[~liked] - rankdata(ranks[~liked])) / liked.sum()
    return right


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, *, groups: Groups = None, replicates: int = 1000, seed: int = 0, method: str = "unnamed"
) -> Interval:
    """The AUC with a 95 % interval over ``groups``, users; replicates of one class are left out, and counted in `Interval`."""
    from scipy.sparse import csr_array
    from scipy.stats import rankdata

    liked, values = checked(labels, scores, method)
    sizes = np.where(liked, liked.sum(), (~liked).sum())
    if not len(liked) or sizes.max() == len(liked):
        return Interval(None)
    ranks, codes = rankdata(values), group_codes(groups, len(liked))
    right = placements(liked, ranks)
    value, users = float(right[liked].mean()), int(codes.max()) + 1
    # replicates are weighted sums over runs of equal scores; of a large sample over bins of near ones
    bins = np.unique(ranks if len(ranks) <= 10 * _BINS else ranks * _BINS // len(ranks), return_inverse=True)[1]
    count = int(bins.max()) + 1
    cells = csr_array((np.ones(len(bins)), (bins + count * liked, codes)), shape=(2 * count, users))

    def weighted_auc(weights: Floats) -> Floats:
        negative, positive = np.split(cells @ weights.T, 2)
        # A liked row wins against every disliked row in a lower bin, and half of those in its own.
        below = np.cumsum(negative, axis=0) - negative
        wins = (positive * (below + negative / 2)).sum(axis=0)
        pairs = positive.sum(axis=0) * negative.sum(axis=0)
        return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    shares, influence = (np.bincount(codes, parts / sizes) for parts in (np.ones(len(liked)), right - value))
    return bootstrap(value, weighted_auc, shares, influence, replicates, seed, width=2 * count)
