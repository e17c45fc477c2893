from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.metrics import intervals, ranking
from reasoningrec_assets.metrics.intervals import mean_interval
from reasoningrec_assets.metrics.ranking import auc, auc_interval


def sample(rows: int, seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.6
    scores = rng.normal(size=rows) + labels
    return labels, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [2, 3, 50, 2_000])
def test_auc_equals_sklearn_on_random_scores(rows: int, ties: bool) -> None:
    for seed in range(5):
        labels, scores = sample(rows, seed, ties=ties)
        if labels.all() or not labels.any():
            assert auc(labels, scores) is None
        else:
            assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


# sklearn itself overflows where it subtracts 1e308 from -1e308; its result stays right.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:numpy|sklearn")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([-1e308, -1.0, -0.0, 0.0, 5e-324, 1.0, 1.0 + 2**-52, 1e308])),
        min_size=1,
        max_size=30,
    )
)
def test_auc_equals_sklearn_on_adversarial_scores(rows: list[tuple[bool, float]]) -> None:
    labels, scores = [label for label, _ in rows], [score for _, score in rows]
    if len(set(labels)) == 1:
        assert auc(labels, scores) is None
    else:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_constant_scores_are_a_coin_flip() -> None:
    assert auc([True, False, True, False, False], [7.0] * 5) == 0.5


def test_two_infinite_scores_are_a_tie() -> None:
    # By hand: inf ties with inf (1/2), beats -inf and 0; 0 loses to inf, beats -inf.
    assert auc([True, False, False, True], [math.inf, math.inf, -math.inf, 0.0]) == (0.5 + 1 + 0 + 1) / 4


@pytest.mark.parametrize("label", [True, False])
def test_one_class_has_no_auc_and_no_interval(label: bool) -> None:
    interval = auc_interval([label] * 4, [1.0, 2.0, 3.0, 4.0])
    assert (interval.value, interval.low, interval.high) == (None, None, None)
    assert auc([], []) is None


def test_nan_scores_are_refused_with_method_and_count() -> None:
    for function in (auc, auc_interval):
        with pytest.raises(PermanentError, match=r"method student.*2 of 3 rows"):
            function([True, False, True], [math.nan, 0.0, math.nan], method="student")


def test_interval_brackets_the_value_and_is_a_function_of_the_seed() -> None:
    labels, scores = sample(300, 1)
    first, again, other = (auc_interval(labels, scores, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high
    assert first.value == pytest.approx(roc_auc_score(labels, scores))


def test_interval_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = sample(120, 2, ties=True)
    users = np.arange(120) // 3
    whole = auc_interval(labels, scores, groups=users, replicates=101)
    monkeypatch.setattr(intervals, "_BLOCK_ELEMENTS", 700)
    assert auc_interval(labels, scores, groups=users, replicates=101) == whole


@pytest.mark.parametrize("rows_of_a_user", [1, 3])
def test_no_block_of_draws_is_larger_than_its_bound(monkeypatch: pytest.MonkeyPatch, rows_of_a_user: int) -> None:
    labels, scores = sample(900, 3)
    monkeypatch.setattr(intervals, "_BLOCK_ELEMENTS", 4_000)
    drawn: list[int] = []
    real = intervals.bootstrap

    def bootstrap(value: float, statistic: intervals.Statistic, *more: object, **width: int) -> intervals.Interval:
        return real(value, lambda weights: drawn.append(weights.size) or statistic(weights), *more, **width)

    for module in (intervals, ranking):
        monkeypatch.setattr(module, "bootstrap", bootstrap)
    users = np.arange(900) // rows_of_a_user
    auc_interval(labels, scores, groups=users, replicates=20)
    mean_interval(scores, groups=users, replicates=20)
    assert len(drawn) > 10
    assert max(drawn) <= 4_000


GROUPINGS = {
    "own rows": None,
    "three rows": np.arange(20_000) // 3,
    "uneven": np.repeat(np.arange(20_000), np.minimum(np.random.default_rng(5).zipf(1.8, 20_000), 6))[:20_000],
}


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("statistic", ["auc", "accuracy", "brier"])
def test_groups_drawn_in_cells_give_the_interval_of_drawing_each(
    monkeypatch: pytest.MonkeyPatch, grouping: str, statistic: str
) -> None:
    labels, scores = sample(20_000, 4)
    groups = GROUPINGS[grouping]

    def interval() -> intervals.Interval:
        if statistic == "auc":
            return auc_interval(labels, scores, groups=groups, replicates=2_000)
        values = (scores > 0) == labels if statistic == "accuracy" else (1 / (1 + np.exp(-scores)) - labels) ** 2
        return mean_interval(values, groups=groups, replicates=2_000)

    plain = interval()
    monkeypatch.setattr(intervals, "_CELLS", 128)
    monkeypatch.setattr(intervals, "_MANY", 300)
    cells = interval()
    assert cells != plain, "these are other draws"
    assert cells.value == plain.value
    width = plain.high - plain.low
    assert (cells.low, cells.high) == pytest.approx((plain.low, plain.high), abs=0.08 * width)


def test_cells_keep_the_variance_of_uneven_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    influence = np.random.default_rng(1).lognormal(sigma=2, size=10_000) * 1e-5
    influence -= influence.mean()
    monkeypatch.setattr(intervals, "_CELLS", 64)
    monkeypatch.setattr(intervals, "_MANY", 5)

    def interval(influence: np.ndarray, replicates: int) -> intervals.Interval:
        return intervals.bootstrap(0.5, lambda _: np.empty(0), np.full(len(influence), 1e-4), influence, replicates, 0)

    found = interval(influence, 20_000)
    assert (found.high - found.low) / 3.92 == pytest.approx(np.linalg.norm(influence), rel=0.05)
    assert found.low < 0.5 < found.high
    assert interval(np.zeros(10), 100) == intervals.Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("groups", [None, np.minimum(np.arange(5_000), 4_000)], ids=["of a rare class", "with many rows"])
def test_a_group_that_is_much_of_a_whole_is_drawn_by_itself(monkeypatch: pytest.MonkeyPatch, groups: np.ndarray | None) -> None:
    labels, scores = sample(5_000, 6)
    labels[20:] &= groups is not None
    plain = auc_interval(labels, scores, groups=groups)
    monkeypatch.setattr(intervals, "_MANY", 1_000)
    assert auc_interval(labels, scores, groups=groups) == plain


def test_bins_of_a_large_samples_scores_move_an_interval_by_nothing_to_speak_of(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = sample(3_000, 4)
    users = np.arange(3_000) // 2
    exact = auc_interval(labels, scores, groups=users)
    monkeypatch.setattr(ranking, "_BINS", 256)
    binned = auc_interval(labels, scores, groups=users)
    assert binned.value == exact.value
    assert binned != exact
    assert (binned.low, binned.high) == pytest.approx((exact.low, exact.high), abs=1e-4)  # the same draws


def test_a_million_rows_take_seconds_however_they_are_grouped() -> None:
    labels, scores = sample(1_000_000, 9)
    begun = time.process_time()
    for users in (None, np.arange(1_000_000) // 4):
        auc_interval(labels, scores, groups=users)
        mean_interval(scores > 0, groups=users)
    # drawn one by one, each of the four takes half a minute or more
    assert time.process_time() - begun < 30


def test_replicates_equal_rows_repeated_that_often() -> None:
    labels, scores = sample(60, 5, ties=True)
    users = np.repeat(np.arange(20), 3)
    weights = np.repeat(np.random.default_rng(9).poisson(1, (40, 20)), 3, axis=1)
    repeated = [roc_auc_score(np.repeat(labels, row), np.repeat(scores, row)) for row in weights]
    low, high = np.quantile(repeated, [0.025, 0.975])
    interval = auc_interval(labels, scores, groups=users, replicates=40, seed=9)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
    interval = mean_interval(scores, groups=users, replicates=40, seed=9)
    means = [np.repeat(scores, row).mean() for row in weights]
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=1e-12)


def test_interval_agrees_with_drawing_users_with_replacement() -> None:
    labels, scores = sample(400, 7)
    labels = np.repeat(labels, 2)
    # Two almost equal rows a user: an interval over rows would be about 1.4 times too narrow.
    scores = np.repeat(scores, 2) + np.random.default_rng(0).normal(scale=0.01, size=800)
    users = np.repeat(np.arange(400), 2)
    rng = np.random.default_rng(11)
    draws = []
    for _ in range(3_000):
        picked = rng.integers(0, 400, size=400)
        rows = np.concatenate([2 * picked, 2 * picked + 1])
        # Every pair compared, which at 800 rows is faster than sklearn; there are no ties.
        draws.append((scores[rows][labels[rows]][:, None] > scores[rows][~labels[rows]]).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    interval = auc_interval(labels, scores, groups=users, replicates=3_000)
    assert interval.low == pytest.approx(low, abs=0.006)
    assert interval.high == pytest.approx(high, abs=0.006)
    rows_only = auc_interval(labels, scores, replicates=3_000)
    assert rows_only.high - rows_only.low < 0.8 * (interval.high - interval.low)


def test_groups_may_be_strings_in_any_order() -> None:
    labels, scores = sample(90, 8)
    users = np.arange(90) // 3
    names = [f"user {number:03d}" for number in users]
    assert auc_interval(labels, scores, groups=names) == auc_interval(labels, scores, groups=users)


def test_replicates_with_one_class_are_left_out_and_counted() -> None:
    interval = auc_interval([True, False, False], [3.0, 1.0, 2.0], replicates=500)
    # The only liked row has weight 0 in about 37 % of the replicates.
    assert 120 < interval.left_out < 300
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_mean_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=900)
    interval = mean_interval(values, replicates=3_000)
    half = 1.96 * values.std() / 30
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)
    assert mean_interval([]).value is None


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(AssertionError, match="labels have shape"):
        auc([True], [1.0, 2.0])
    with pytest.raises(AssertionError, match="3 groups for 2 rows"):
        auc_interval([True, False], [1.0, 2.0], groups=[1, 2, 3])
