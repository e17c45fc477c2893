"""The AUC: how well scores separate liked from disliked targets. Which rows count is decided in `evaluate`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.intervals import Floats, Groups, Interval, bootstrap, group_codes

_BINS = 4096  # of a large sample's scores, for the interval alone: the AUC itself is exact


def checked(labels: ArrayLike, scores: ArrayLike, method: str) -> tuple[NDArray[np.bool_], Floats]:
    """Labels and scores as arrays of shape (rows,). A NaN is a broken prediction, refused by PermanentError, never ranked."""
    truth, values = np.asarray(labels, dtype=np.bool_), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"labels have shape {truth.shape}, scores {values.shape}")
    broken = int(np.isnan(values).sum())
    if broken:
        problem = f"{broken} of {len(values)} rows have a score that is not a number"
        remedy = "Repair the step that scored them, or leave the rows out so that coverage counts them as missing"
        raise PermanentError("evaluate a method's scores", where=f"method {method}", problem=problem, remedy=remedy)
    return truth, values


def auc(labels: ArrayLike, scores: ArrayLike, *, method: str = "unnamed") -> float | None:
    """The chance that a liked row is scored above a disliked one, ties counting half; None where there is one class or no row."""
    return auc_interval(labels, scores, replicates=0, method=method).value


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, *, groups: Groups = None, replicates: int = 1000, seed: int = 0, method: str = "unnamed"
) -> Interval:
    """The AUC with a 95 % interval over ``groups``, users; replicates of one class are left out, and counted in `Interval`."""
    truth, values = checked(labels, scores, method)
    if not len(truth) or truth.all() or not truth.any():
        return Interval(None)
    # The scores are sorted once; replicates are weighted sums over that order, in blocks of bounded memory.
    order = np.argsort(values, kind="stable")
    liked, ascending = truth[order], values[order]
    # Where each run of equal scores starts. Compared, not subtracted: inf - inf is NaN, and two infinite scores are a tie.
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))

    def weighted_auc(weights: Floats) -> Floats:
        positive = np.add.reduceat(weights * liked, starts, axis=1)
        negative = np.add.reduceat(weights * ~liked, starts, axis=1)
        # A liked row wins against every disliked row in a lower bin, and half of those in its own.
        below = np.cumsum(negative, axis=1) - negative
        wins = (positive * (below + negative / 2)).sum(axis=1)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    value = float(weighted_auc(np.ones((1, len(liked))))[0])
    codes, sizes = group_codes(groups, len(truth))[order], 1
    if len(liked) > 10 * _BINS and codes.max() + 1 == len(liked):
        # Each user has one row: those of a class with scores near each other are alike, and their weights' sum is one draw.
        bins = np.repeat(starts * _BINS // len(liked), np.diff(starts, append=len(liked)))
        cells, sizes = np.unique(2 * bins + liked, return_counts=True)
        liked, codes, starts = cells % 2 == 1, np.arange(len(cells)), np.flatnonzero(np.diff(cells // 2, prepend=-1))
    return bootstrap(value, weighted_auc, codes, sizes=sizes, replicates=replicates, seed=seed)
