"""Whether one method separates better than another on the same rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.intervals import Groups, group_codes
from reasoningrec_assets.metrics.ranking import placements


class Comparison(NamedTuple):
    """The difference of two AUCs, its standard error, and the two-sided p value of its being nothing."""

    difference: float
    standard_error: float
    p: float


def delong(labels: ArrayLike, one: ArrayLike, other: ArrayLike, *, groups: Groups = None) -> Comparison | None:
    """DeLong's test (Biometrics 1988) of two methods' scores, each of shape (rows,), on the same rows.

    The AUC's variance comes from each row's placement among those of the other class, by midranks (Sun and Xu 2014), so
    ties count one half. What the rows of one group, a user, add to it is summed before it is squared (Obuchowski 1997).
    Equal placements give z = 0 and p = 1. None where a class has rows of fewer than two users, or nothing varies though the AUCs
    differ: there is no variance to judge by. With ten users or fewer it rejects too often. PermanentError where a score is not a number.
    """
    from scipy.stats import norm, rankdata

    liked, scores = np.asarray(labels, dtype=bool), np.asarray([one, other], dtype=np.float64)
    if np.isnan(scores).any():
        remedy = "Materialize the predictions that hold them again"
        raise PermanentError("compare two methods", where="their scores", problem="some are no numbers", remedy=remedy)
    codes = group_codes(groups, len(liked))
    users, rows = np.array([[len(np.unique(codes[of])), of.sum()] for of in (liked, ~liked)]).T
    if users.min() < 2:
        return None
    gaps = np.subtract(*(placements(liked, ranks) for ranks in rankdata(scores, axis=1)))
    difference = float(gaps[liked].mean())
    parts = (gaps - difference) / np.where(liked, *rows) * np.sqrt(1 + 1 / (np.where(liked, *users) - 1))
    error = float(np.linalg.norm(np.bincount(codes, parts)))
    if difference and not error:
        return None
    z = difference / error if error else 0.0
    return Comparison(difference, error, float(2 * norm.sf(abs(z))))
