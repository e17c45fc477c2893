"""Every figure equals an independent implementation's, on random scores and on awkward ones."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.calibration import calibration_error, recalibrated
from reasoningrec_assets.metrics.evaluate import evaluate
from reasoningrec_assets.metrics.intervals import Interval, mean_interval
from reasoningrec_assets.metrics.leaderboard import holm, leaderboard
from reasoningrec_assets.metrics.ranking import auc_interval


def figures(folder, labels, scores, users=None, *, valid=None):
    """Each figure by name, of test rows with these labels and scores; validation rows have the same unless others are given."""
    users = users or [f"u{n}" for n in range(len(labels))]
    valid_labels, valid_scores = valid or (labels, scores)
    windows, rows = [], []
    for split, truths, found in (("test", labels, scores), ("valid", valid_labels, valid_scores)):
        for n, (label, score) in enumerate(zip(truths, found, strict=True)):
            key = {
                "dataset": "d",
                "split": split,
                "user_id": users[n % len(users)],
                "target_item_id": f"i{n}",
                "label": bool(label),
            }
            lists = {name: [] for name in ("history_item_ids", "history_liked", "profile_item_ids", "profile_liked")}
            windows.append(key | lists | {"target_rating": 1.0, "target_time": 0})
            rows.append(key | {"method": "m", "score": float(score), "probability": float(1 / (1 + np.exp(-score)))})
    paths = {"windows": windows, "m": [row | {"explanation": None} for row in rows]}
    for name, schema in (("windows", TABLES["interaction_windows"]), ("m", TABLES["predictions"])):
        pq.write_table(pa.Table.from_pylist(paths[name], schema=schema.arrow()), folder / f"{name}.parquet")
    table = evaluate({"m": folder / "m.parquet"}, dataset="d", windows=folder / "windows.parquet", replicates=10)
    return {row["metric"]: row["value"] for row in table.to_pylist() if row["method"] == "m"}


def binned_error(labels, probabilities):
    """The calibration error by its definition: each of ten bins holds its upper edge, the first one 0 as well."""
    labels, edges, error = np.asarray(labels, dtype=float), np.linspace(0, 1, 11), 0.0
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        mine = (probabilities > low) & (probabilities <= high) | ((place == 0) & (probabilities == 0))
        if mine.any():
            error += mine.mean() * abs(labels[mine].mean() - probabilities[mine].mean())
    return error


SCORED = st.lists(st.tuples(st.booleans(), st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0, 4.0])), min_size=2, max_size=40)


@settings(max_examples=40, deadline=None)
@given(scored=SCORED)
def test_figures_are_scikit_learns(tmp_path_factory, scored):
    labels, scores = np.array([label for label, _ in scored]), np.array([score for _, score in scored])
    if labels.all() or not labels.any():
        return
    found = figures(tmp_path_factory.mktemp("f"), labels, scores)
    probabilities = 1 / (1 + np.exp(-scores))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["auc_pr"] == pytest.approx(average_precision_score(labels, scores))
    assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities))
    at = found["threshold"]
    assert found["f1_at_threshold"] == pytest.approx(max(f1_score(labels, scores >= cut) for cut in set(scores)))
    assert found["accuracy_at_threshold"] == pytest.approx(accuracy_score(labels, scores >= at))
    assert found["ece"] == pytest.approx(binned_error(labels, probabilities))


def test_the_threshold_is_chosen_on_validation_rows_alone(tmp_path):
    labels, scores = [True, False, True, False], [3.0, 2.0, -1.0, -2.0]
    found = figures(tmp_path, labels, scores, valid=([True, True, False, False], [5.0, 4.0, 1.0, 0.0]))
    assert found["threshold"] == 4.0
    assert found["f1_at_threshold"] == 0
    assert found["accuracy_at_threshold"] == 0.5


def test_the_auc_per_user_is_the_mean_over_users_with_both_classes(tmp_path):
    users = ["a", "a", "a", "b", "b", "c"]
    labels, scores = [True, False, True, True, False, True], [1.0, 0.0, 0.0, -1.0, 2.0, 9.0]
    found = figures(tmp_path, labels, scores, users)
    assert found["auc_per_user"] == pytest.approx((roc_auc_score(labels[:3], scores[:3]) + 0.0) / 2)
    assert found["users_with_both_classes"] == 2


def test_one_class_leaves_out_what_is_not_defined_and_keeps_the_rest(tmp_path):
    found = figures(tmp_path, [True, True], [1.0, -1.0])
    assert (found["auc"], found["one_class_only"], found["auc_per_user"]) == (None, 1, None)
    assert found["log_loss"] == pytest.approx(log_loss([True, True], 1 / (1 + np.exp([-1.0, 1.0])), labels=[False, True]))
    assert "temperature" not in found


@pytest.mark.parametrize("probabilities", [np.random.default_rng(1).random(500), np.linspace(0, 1, 11).repeat(50)[:500]])
def test_the_calibration_error_is_that_of_scikit_learns_bins(probabilities):
    labels = np.random.default_rng(0).random(500) < probabilities**2
    frequencies, confidences = calibration_curve(labels, probabilities, n_bins=10)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], probabilities), minlength=10)
    expected = (np.abs(frequencies - confidences) * counts[counts > 0]).sum() / 500
    assert calibration_error(labels, probabilities) == pytest.approx(expected) == binned_error(labels, probabilities)


def test_a_probability_at_an_edge_belongs_to_the_bin_below_it():
    # apart, each of the two is wrong by 0.5; together they are right
    assert calibration_error([True, False], [0.5, 0.45]) == pytest.approx(0.025)
    assert calibration_error([True, False], [0.5, 0.55]) == pytest.approx(0.525)


def test_temperature_and_shift_take_back_overconfidence_and_a_balanced_prior():
    draw = np.random.default_rng(1)
    truth = draw.normal(1.0, 1.0, 20_000)
    labels = draw.random(20_000) < 1 / (1 + np.exp(-truth))
    stated = (truth - 0.8) * 3
    probabilities, temperature, shift = recalibrated(stated[:10_000], labels[:10_000], stated[10_000:])
    assert temperature == pytest.approx(3, rel=0.1)
    assert shift == pytest.approx(0.8, abs=0.1)
    before = calibration_error(labels[10_000:], 1 / (1 + np.exp(-stated[10_000:])))
    assert calibration_error(labels[10_000:], probabilities) < before / 5
    assert recalibrated([1.0, 2.0], [True, True], [0.0]) is None
    assert recalibrated([1.0, np.inf], [True, False], [0.0]) is None


@pytest.mark.parametrize(
    ("labels", "scores", "one_class"),
    [
        ([1, 1, 1], [1.0, 2.0, 0.0], 1),
        ([], [], 1),
        ([1, 1, 0, 0], [0.2, 0.1, -0.1, -0.2], None),  # told apart: no temperature is low enough
        (
            [0, 0, 1, 1, 0],
            [1.0, 2.0, -1.0, -2.0, -1.5],
            None,
        ),  # the wrong way round: a temperature below 0 would turn the ranking
        ([0, 1, 1], [0.0, 0.0, 0.0], None),
    ],
)
def test_what_validation_rows_cannot_tell_is_said_by_name_and_not_made_up(tmp_path, labels, scores, one_class):
    found = figures(tmp_path, [True, False, True, False], [1.0, 0.0, 2.0, -1.0], valid=(labels, scores))
    assert found["not_recalibrated"] == 1
    assert found.get("valid_one_class_only") == one_class
    assert (found["threshold"] is None) == bool(one_class)
    assert not {"temperature", "prior_shift", "brier_recalibrated", "ece_recalibrated"} & {*found}
    assert found["auc"] == 1


def test_one_user_has_no_interval():
    labels, scores = [True, False] * 10, np.arange(20) / 20
    found = auc_interval(labels, scores, groups=["u"] * 20, replicates=50, seed=0)
    assert found.value is not None
    assert (found.low, found.high, found.left_out) == (None, None, 0)
    assert mean_interval(scores, groups=["u"] * 20) == Interval(float(scores.mean()))


def test_a_validation_score_that_is_not_a_number_is_refused_by_the_methods_name(tmp_path):
    with pytest.raises(PermanentError, match="1 of 4 rows have a score that is not a finite number") as refused:
        figures(tmp_path, [True, False], [1.0, 0.0], valid=([True, False], [float("nan"), 0.0]))
    assert "method m" in str(refused.value)


def test_holm_corrects_as_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_leaderboard_holds_every_method_and_its_tests_against_the_floors(tmp_path):
    draw = np.random.default_rng(2)
    labels = draw.random(200) < 0.5
    paths = {}
    for name, noise in (("like_rate", 2.0), ("other", 0.6), ("student", 0.5)):
        figures(tmp_path, labels, labels * 2 - 1 + draw.normal(0, noise, 200))
        table = pq.read_table(tmp_path / "m.parquet")
        place = table.schema.get_field_index("method")
        paths[name] = tmp_path / f"{name}.parquet"
        pq.write_table(table.set_column(place, table.schema.field("method"), pa.array([name] * table.num_rows)), paths[name])
    student, other, floor = leaderboard(paths, dataset="d", windows=tmp_path / "windows.parquet", replicates=10).to_pylist()
    assert [row["method"] for row in (student, other, floor)] == ["student", "other", "like_rate"]
    assert student["above_like_rate"] == pytest.approx(student["auc"] - floor["auc"])
    assert student["p_like_rate"] < student["p_holm_like_rate"] < 0.01
    assert (student["above_best"], student["p_best"], student["p_holm_best"]) == (None, None, None)
    assert floor["above_best"] == pytest.approx(-student["above_like_rate"])
    assert other["above_best"] == pytest.approx(other["auc"] - student["auc"])
    assert floor["p_holm_best"] == pytest.approx(2 * floor["p_best"])
    assert floor["p_holm_best"] < 0.01 < other["p_best"] == other["p_holm_best"]
    assert floor["above_like_rate"] is None
    assert student["p_logistic_regression"] is None


def test_a_few_easy_rows_make_no_best_method(tmp_path):
    labels = np.arange(40) % 2 == 0
    figures(tmp_path, labels, labels + np.tile([0.0, 0.0, 2.0, 0.0], 10))
    whole = pq.read_table(tmp_path / "m.parquet")
    pq.write_table(whole.set_column(1, "method", pa.array(["few"] * 80))[:2], tmp_path / "few.parquet")
    paths = {"m": tmp_path / "m.parquet", "few": tmp_path / "few.parquet"}
    few, many = leaderboard(paths, dataset="d", windows=tmp_path / "windows.parquet", replicates=10).to_pylist()
    assert (few["method"], few["auc"], few["rows"]) == ("few", 1.0, 2)
    assert many["p_best"] is None
    assert many["above_best"] is None
