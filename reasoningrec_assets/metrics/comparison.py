"""Whether one method separates better than another on the same rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reasoningrec_assets.errors import PermanentError


class Comparison(NamedTuple):
    """The difference of two AUCs, its standard error, and the two-sided p value of its being nothing."""

    difference: float
    standard_error: float
    z: float
    p: float


def delong(labels: ArrayLike, one: ArrayLike, other: ArrayLike) -> Comparison | None:
    """DeLong's test (Biometrics 1988) of two methods' scores, each of shape (rows,), on the same rows; None with one class.

    The AUC's variance comes from each row's placement among those of the other class, by midranks (Sun and Xu 2014), so
    ties count one half. Equal placements give z = 0 and p = 1. PermanentError where a score is not a number.
    """
    from scipy.stats import norm, rankdata

    liked, scores = np.asarray(labels, dtype=bool), np.asarray([one, other], dtype=np.float64)
    if not np.isfinite(scores).all():
        remedy = "Materialize the predictions that hold them again"
        raise PermanentError("compare two methods", where="their scores", problem="some are no numbers", remedy=remedy)
    likes, dislikes = int(liked.sum()), int((~liked).sum())
    if not likes or not dislikes:
        return None
    ranks = rankdata(scores, axis=1)
    of_likes = (ranks[:, liked] - rankdata(scores[:, liked], axis=1)) / dislikes
    of_dislikes = 1 - (ranks[:, ~liked] - rankdata(scores[:, ~liked], axis=1)) / likes
    difference = float(np.subtract(*of_likes.mean(axis=1)))
    spread = [np.var(one - other, ddof=1) / len(one) for one, other in (of_likes, of_dislikes) if len(one) > 1]
    error = float(np.sqrt(sum(spread)))
    z = difference / error if error else 0.0
    return Comparison(difference, error, z, float(2 * norm.sf(abs(z))))
