import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics.comparison import delong

DRAW = np.random.default_rng(5)


def methods(rows, *, lead):
    """Labels, and the scores of two methods that share most of what they know; the first knows more."""
    labels = DRAW.random(rows) < 0.4
    shared = DRAW.normal(size=rows) + labels
    return labels, shared + lead * labels + 0.5 * DRAW.normal(size=rows), shared + 0.5 * DRAW.normal(size=rows)


def test_the_difference_is_that_of_the_aucs_with_ties_counted_one_half():
    labels, one, other = methods(300, lead=0.3)
    one = one.round()
    found = delong(labels, one, other)
    assert found.difference == pytest.approx(roc_auc_score(labels, one) - roc_auc_score(labels, other), abs=1e-12)


def test_p_is_that_of_a_permutation_test():
    for lead in (0.0, 0.2, 0.4):
        labels, one, other = methods(250, lead=lead)
        found = delong(labels, one, other)
        # ranks put both methods on one scale, so that a row's two scores can change places
        ranks = np.array([np.argsort(np.argsort(scores)) for scores in (one, other)])
        drawn = []
        for _ in range(600):
            swap = DRAW.random(len(labels)) < 0.5
            drawn.append(abs(np.subtract(*(roc_auc_score(labels, np.where(swap, a, b)) for a, b in (ranks, ranks[::-1])))))
        assert found.p == pytest.approx(np.mean(np.array(drawn) >= abs(found.difference)), abs=0.05)


def test_the_standard_error_is_the_spread_of_repeated_samples():
    found = [delong(*methods(200, lead=0.2)) for _ in range(400)]
    spread = np.std([one.difference for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.12)


def test_rows_of_one_user_are_not_so_many_independent_ones():
    """No method is better: of tests at 0.05, about so many may say that one is, though each user has ten rows alike."""
    users = np.repeat(np.arange(60), 10)
    found = []
    for _ in range(300):
        taste, *biases = DRAW.normal(size=(3, 60))
        labels = DRAW.normal(size=600) + taste[users] > 0
        one, other = (taste[users] + bias[users] + DRAW.normal(size=600) for bias in biases)
        found.append((delong(labels, one, other).p, delong(labels, one, other, groups=users).p))
    plain, grouped = (np.array(found) < 0.05).mean(axis=0)
    assert grouped < 0.09 < plain
    assert delong(labels, one, other, groups=np.arange(600)).p == pytest.approx(delong(labels, one, other).p)


def test_a_class_is_as_many_observations_as_it_has_users():
    labels, one, other = methods(80, lead=0)
    assert delong(labels, one, other, groups=["u"] * 80) is None
    assert delong(labels, one, other, groups=np.where(labels, -1, np.arange(80))) is None, "all likes are one user's"
    # Obuchowski's sum over users of one class by itself: two methods that differ in likes alone, each user's in the same way
    users, liked = np.repeat(np.arange(4), 5), np.arange(20) % 5 == 0
    found = delong(liked, np.where(liked, 1.0, 0.0), np.where(liked, users % 2 * 2.0 - 1, 0.0), groups=users)
    by_user = np.array([1.0, 0.0, 1.0, 0.0])  # half of the likes stand below all dislikes
    assert (found.difference, found.standard_error) == pytest.approx((0.5, by_user.std(ddof=1) / 2))


def test_where_nothing_varies_there_is_no_test():
    labels = np.arange(40) % 2 == 0
    assert delong(labels, labels * 1.0, np.zeros(40)) is None
    assert delong(labels, labels * 1.0, -1.0 * labels) is None
    assert delong([True, *[False] * 50], np.arange(51), -np.arange(51)) is None
    # infinities are ties with their like
    scores = np.where(labels, np.inf, DRAW.normal(size=40))
    assert delong(labels, scores, DRAW.normal(size=40)).difference > 0


def test_equal_methods_do_not_differ_and_one_class_is_not_compared():
    labels, one, _ = methods(50, lead=0)
    assert delong(labels, one, one)[::2] == (0.0, 1.0)
    assert delong([True] * 5, range(5), range(5)) is None
    with pytest.raises(PermanentError, match="no numbers"):
        delong([True, False], [0.1, float("nan")], [0.1, 0.2])
