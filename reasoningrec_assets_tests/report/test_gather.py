from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_auc_score

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.report.gather import gather

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = {"epoch": 1, "train_loss": 0.5, "valid_auc": None}


def test_methods_are_sorted_by_auc_and_floors_are_marked(files: dict[str, Any], hostile: str) -> None:
    report = gather(**files)
    methods = [SimpleNamespace(**method) for method in report.methods]
    assert [(method.name, method.model, method.floor, method.auc) for method in methods] == [
        ("student", True, False, 0.81),
        ("k256", True, False, 0.8),
        ("gradient_boosting", False, False, 0.78),
        ("like_rate", False, True, 0.75),
        ("k64", True, False, 0.7),
        (hostile, True, False, None),
        ("constant", True, False, None),
        ("sasrec", True, False, None),
    ]
    student, boosting = methods[0], methods[2]
    assert (boosting.rows, boosting.missing_rows, boosting.ece_recalibrated, boosting.threshold) == (30, 10, 0.0123, None)
    study = methods[1]
    assert (study.explained_rows, study.empty, study.not_english, study.agreement, study.stated) == (20, 9, 10, 1.0, 1)
    assert (methods[-1].problem, methods[-1].missing_rows) == (f"it holds {hostile}", 0)
    assert (student.low, student.high, student.rows, student.coverage, student.missing_rows) == (0.7, 0.9, 38, 0.95, 2)
    assert (student.bertscore_f1, student.bertscore_low, student.bertscore_floor, student.explained_rows) == (0.71, 0.7, 0.69, 2)


def test_population_and_what_the_caller_passes_in(files: dict[str, Any]) -> None:
    report = gather(**files, facts={"Users": 1234, "Rule": "rating > 3"}, training={"student": [EPOCH]})
    assert (report.rows_in, report.dropped, report.test_rows, report.liked_share) == (1_000, {"repeated_pair": 17}, 40, 0.6)
    assert report.facts == {"Users": 1234, "Rule": "rating > 3"}
    assert report.training == {"student": [EPOCH]}


def test_explained_users_come_first_and_the_sample_is_the_same_every_time(files: dict[str, Any]) -> None:
    report = gather(**files, users=5)
    names = [case["user_id"] for case in report.cases]
    assert set(names[:2]) == {"u38", "u39"}
    assert len(set(names)) == 5
    assert gather(**files, users=5).cases == report.cases
    assert gather(**files).cases[:5] == report.cases


def test_a_case_holds_history_target_scores_and_both_texts(files: dict[str, Any], hostile: str) -> None:
    case = next(case for case in gather(**files).cases if case["user_id"] == "u39")
    assert case["target"] == {"title": hostile + " (1999)", "liked": True}
    # i2 has a title of 5,000 characters, i3 has no row in items.
    assert case["history"][0]["title"].endswith("…")
    assert len(case["history"][0]["title"]) <= 120
    assert case["history"][1] == {"title": "i3", "liked": False}
    assert [(score["method"], score["floor"], score["score"]) for score in case["scores"]] == [
        ("student", False, -1.0),
        ("like_rate", True, 2.0),
    ]
    assert [score["explanation"] for score in case["scores"]] == ["The user likes it.", None]
    assert case["reference"] == "Because <b>films</b>."


def test_curves_are_those_of_scikit_learn(files: dict[str, Any], tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    labels = random.random(3_000) < 0.6
    # steps of a tenth: many ties
    scores = np.round(random.normal(size=3_000) + labels, 1) + 0.05
    keys = [{"dataset": "d", "split": "test", "user_id": f"v{row}", "target_item_id": "i1"} for row in range(3_000)]
    rows = [
        key | {"method": "student", "label": bool(label), "score": score, "probability": 1 / (1 + np.exp(-score))}
        for key, label, score in zip(keys, labels, scores, strict=True)
    ]
    times = {"target_rating": 5.0, "target_time": 0, "history_item_ids": [], "history_liked": []}
    lists = {"profile_item_ids": [], "profile_liked": []}
    windows = [key | times | lists | {"label": bool(label)} for key, label in zip(keys, labels, strict=True)]
    paths = [tmp_path / "many.parquet", tmp_path / "many_windows.parquet"]
    for path, found, schema in zip(paths, (rows, windows), (TABLES["predictions"], TABLES["interaction_windows"]), strict=True):
        pq.write_table(pa.Table.from_pylist(found, schema=schema.arrow()), path)
    (line,) = gather(**files | {"methods": {"student": paths[0]}, "windows": paths[1]}).curves

    def area(points: list[list[float]]) -> float:
        across, up = np.array(points).T
        assert (np.diff(across) >= 0).all()
        return float(np.trapezoid(up, across))

    assert len(line["roc"]) < 110
    assert (line["roc"][0], line["roc"][-1]) == ([0, 0], [1, 1])
    assert area(line["roc"]) == pytest.approx(roc_auc_score(labels, scores), abs=0.003)
    precision, recall, _ = precision_recall_curve(labels, scores)
    for across, up in line["precision_recall"][1:]:
        assert min(np.hypot(recall - across, precision - up)) < 1e-9
    happened, expected = calibration_curve(labels, [row["probability"] for row in rows], n_bins=10)
    assert np.array(line["reliability"]) == pytest.approx(np.stack([expected, happened], axis=1))
    counts, _ = np.histogram([row["probability"] for row in rows], bins=10, range=(0, 1))
    assert {found["bin"]: found["n"] for found in line["bins"]} == {place: n for place, n in enumerate(counts) if n}


def test_one_class_leaves_no_curve(files: dict[str, Any]) -> None:
    assert [line["name"] for line in gather(**files).curves] == ["student", "like_rate"]
    table = pq.read_table(files["methods"]["student"])
    pq.write_table(table.filter(table["label"]), files["methods"]["student"])
    assert [line["name"] for line in gather(**files).curves] == ["like_rate"]


def test_what_is_wrong_with_a_text_is_beside_it(files: dict[str, Any]) -> None:
    table = pq.read_table(files["methods"]["student"]).to_pylist()
    row = next(row for row in table if row["user_id"] == "u39")
    row["explanation"] = 'The user liked "A Film of Nobody" and would enjoy this film.'
    pq.write_table(pa.Table.from_pylist(table, schema=TABLES["predictions"].arrow()), files["methods"]["student"])
    (answer, floor) = next(case for case in gather(**files).cases if case["user_id"] == "u39")["scores"]
    assert (answer["contradicts"], answer["unknown"], answer["not_shown"]) == (True, ["film of nobody"], [])
    assert (floor["contradicts"], floor["unknown"]) == (None, [])


def test_a_broken_file_is_in_no_curve_and_no_case(files: dict[str, Any]) -> None:
    table = pq.read_table(files["methods"]["like_rate"])
    pq.write_table(pa.concat_tables([table, table[:1]]), files["methods"]["like_rate"])
    report = gather(**files)
    assert [line["name"] for line in report.curves] == ["student"]
    assert {answer["method"] for case in report.cases for answer in case["scores"]} == {"student"}
    alone = {"like_rate": files["methods"]["like_rate"]}
    with pytest.raises(PermanentError, match="Make like_rate again"):
        gather(**files | {"methods": alone})


def test_a_board_of_older_code_lacks_columns_and_is_read(files: dict[str, Any]) -> None:
    (path,) = files["boards"]
    pq.write_table(pq.read_table(path).drop(["problem", "bertscore_f1", "above_best"]), path)
    row = next(row for row in gather(**files).board if row["method"] == "student")
    assert (row["auc"], row["problem"], row["above_best"]) == (0.81, None, None)
