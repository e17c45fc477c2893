"""How true a method's probabilities are, and would be: K-shot training is balanced and the test population is not."""

import numpy as np
from numpy.typing import ArrayLike

from reasoningrec_assets.metrics.intervals import Floats


def recalibrated(valid_scores: ArrayLike, valid_labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, float, float] | None:
    """Probabilities of `scores` after a temperature and a shift, both fitted on validation rows, and these two.

    The temperature divides the log-odds, the shift is added to them (Platt 1999): the one takes back overconfidence, the
    other the prior that the training rows had. None where nothing can be fitted: validation rows of one class, or of two that a
    score tells apart without an error, or scores that are infinite, all the same, or higher for what was disliked.
    """
    from sklearn.linear_model import LogisticRegression

    known, truth = np.asarray(valid_scores, dtype=np.float64), np.asarray(valid_labels, dtype=bool)
    if truth.all() or not truth.any() or not np.isfinite(known).all() or known[truth].min() >= known[~truth].max():
        return None
    fitted = LogisticRegression(C=np.inf).fit(known[:, None], truth)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    odds = np.asarray(scores, dtype=np.float64) * slope + shift
    return (0.5 * (1.0 + np.tanh(0.5 * odds)), 1 / slope, shift) if slope > 0 else None


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017): mean distance of confidence and frequency.

    A probability at an edge belongs to the bin below it, as there and in scikit-learn's `calibration_curve`.
    """
    truth, found = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    place = np.digitize(found, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(place, weights=found - truth)).sum() / len(found))
