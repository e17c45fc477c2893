from __future__ import annotations

from typing import Any

from reasoningrec_assets.report.gather import gather

EPOCH = {"epoch": 1, "train_loss": 0.5, "valid_auc": None}


def test_methods_are_sorted_by_auc_and_floors_are_marked(files: dict[str, Any]) -> None:
    report = gather(**files)
    assert [(method.name, method.floor, method.auc) for method in report.methods] == [
        ("student", False, 0.81),
        ("like_rate", True, 0.75),
        ("constant", False, None),
    ]
    student = report.methods[0]
    assert (student.low, student.high, student.rows, student.coverage, student.missing_rows) == (0.7, 0.9, 38, 0.95, 2)
    assert (student.bertscore_f1, student.bertscore_low, student.bertscore_floor, student.explained_rows) == (0.71, 0.7, 0.69, 2)


def test_population_and_what_the_caller_passes_in(files: dict[str, Any]) -> None:
    report = gather(**files, facts={"Users": 1234, "Rule": "rating > 3"}, training=[EPOCH])
    assert (report.rows_in, report.dropped, report.test_rows, report.liked_share) == (1_000, (("repeated_pair", 17),), 40, 0.6)
    assert report.facts == (("Users", "1,234"), ("Rule", "rating > 3"))
    assert report.training == [EPOCH]


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


def test_without_predictions_there_is_no_case(files: dict[str, Any]) -> None:
    assert gather(**files | {"predictions": {}}).cases == ()
