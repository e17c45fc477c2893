from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.evaluate import evaluate, problem_of
from reasoningrec_assets.metrics.explanations import Texts
from reasoningrec_assets.metrics.leaderboard import leaderboard
from reasoningrec_assets.metrics.text import BertScore, deranged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABELS = [True, False, True, True, False, False]
FLIPPED = [not label for label in LABELS]  # of the validation rows
SCORES = [2.0, -1.0, 0.5, -0.5, 0.5, -2.0]


class Lake:
    """Writes the input files of one evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _write(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        return path

    def windows(self, labels: Sequence[bool] = LABELS) -> Path:
        lists = ("history_item_ids", "history_liked", "profile_item_ids", "profile_liked")
        rows = [
            {
                "dataset": "d",
                "split": split,
                "user_id": f"u{user}",
                "target_item_id": f"i{user}",
                "target_rating": 5.0,
                "label": label,
                "target_time": 0,
            }
            | {name: [] for name in lists}
            for split, sign in (("test", True), ("valid", False))
            for user, label in enumerate(label == sign for label in labels)
        ]
        return self._write("windows", rows, TABLES["interaction_windows"].arrow())

    def predictions(
        self,
        method: str = "student",
        *,
        users: Sequence[int] = range(6),
        scores: Sequence[float] = SCORES,
        labels: Sequence[bool] = LABELS,
        explanations: Sequence[str | None] = (None,) * 6,
        split: str = "test",
        named: str | None = None,
    ) -> Path:
        rows = [
            {
                "dataset": "d",
                "method": named or method,
                "split": split,
                "user_id": f"u{user}",
                "target_item_id": f"i{user}",
                "label": labels[user % 6],
                "score": scores[user % 6],
                "probability": 1 / (1 + np.exp(-scores[user % 6])),
                "explanation": explanations[user % 6],
            }
            for user in users
        ]
        return self._write(method, rows, TABLES["predictions"].arrow())

    def references(self, texts: dict[int, str]) -> Path:
        rows = [
            {
                "dataset": "d",
                "split": "test",
                "user_id": f"u{user}",
                "target_item_id": f"i{user}",
                "label": LABELS[user],
                "text": text,
            }
            | {"teacher_mode": "conditioned", "status": "ok"}
            for user, text in texts.items()
        ]
        return self._write("references", rows, TABLES["reasoning_labels"].arrow())

    def texts(self, references: dict[int, str], encoder: BertScore) -> Texts:
        items = [{"dataset": "d", "item_id": f"i{user}", "title": f"Title {user}", "genres": []} for user in range(6)]
        return Texts(self._write("items", items, TABLES["items"].arrow()), {}, self.references(references), encoder)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def run(predictions: dict[str, Path], windows: Path, **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    table = evaluate(predictions, dataset="d", windows=windows, **({"rows_in": 40, "dropped": {}, "replicates": 200} | more))
    assert table.schema == TABLES["evaluation_metrics"].arrow()
    rows = {(row["method"], row["metric"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows


def test_metrics_of_a_method_that_scored_every_row(lake: Lake) -> None:
    found = run({"student": lake.predictions()}, lake.windows())
    assert found["student", "auc"]["value"] == pytest.approx(roc_auc_score(LABELS, SCORES))
    assert found["student", "auc"]["low"] <= found["student", "auc"]["value"] <= found["student", "auc"]["high"]
    assert found["student", "accuracy"]["value"] == pytest.approx(4 / 6)
    probabilities = 1 / (1 + np.exp(-np.array(SCORES)))
    assert found["student", "brier"]["value"] == pytest.approx(np.mean((probabilities - LABELS) ** 2))
    assert (found["student", "coverage"]["value"], found["student", "coverage"]["n"]) == (1.0, 6)
    assert found["student", "missing_rows"]["value"] == found["student", "extra_rows"]["value"] == 0
    assert ("student", "explained_rows") not in found
    assert ("student", "one_class_only") not in found


def test_population_rows_are_those_passed_in_and_those_of_the_test_split(lake: Lake) -> None:
    found = run({}, lake.windows(), dropped={"repeated_pair": 7, "too_few": 0})
    values = {metric: row["value"] for (_, metric), row in found.items()}
    assert values == {"rows_in": 40, "dropped_repeated_pair": 7, "dropped_too_few": 0, "test_rows": 6, "liked_share": 0.5}
    assert found["population", "dropped_repeated_pair"]["n"] == 40


def test_missing_rows_lower_coverage_and_the_rest_is_computed_on_the_covered_rows(lake: Lake) -> None:
    paths = {"student": lake.predictions(users=[0, 1, 2, 4]), "like_rate": lake.predictions("like_rate")}
    found = run(paths, lake.windows())
    kept = [0, 1, 2, 4]
    assert found["student", "auc"]["value"] == pytest.approx(
        roc_auc_score([LABELS[row] for row in kept], [SCORES[row] for row in kept])
    )
    assert found["student", "auc"]["n"] == 4
    assert found["student", "coverage"]["value"] == pytest.approx(4 / 6)
    assert found["student", "missing_rows"]["value"] == 2
    assert found["like_rate", "auc"]["n"] == 6
    assert found["like_rate", "coverage"]["value"] == 1.0


def test_a_score_of_zero_says_no(lake: Lake) -> None:
    found = run({"student": lake.predictions(users=[0, 2, 3], scores=[0.0] * 6)}, lake.windows())
    assert found["student", "accuracy"]["value"] == 0.0


def test_extra_rows_are_counted_and_change_nothing_else(lake: Lake) -> None:
    exact = run({"student": lake.predictions()}, lake.windows())
    found = run({"student": lake.predictions(users=range(9))}, lake.windows())
    assert found["student", "extra_rows"]["value"] == 3
    for metric in ("auc", "accuracy", "brier", "coverage"):
        assert found["student", metric] == exact["student", metric]


def test_rows_of_other_splits_are_not_scored(lake: Lake) -> None:
    found = run({"student": lake.predictions(split="valid", labels=FLIPPED)}, lake.windows())
    assert found["student", "coverage"]["value"] == 0.0
    assert found["student", "auc"]["value"] is None
    assert found["student", "accuracy"]["value"] is None
    assert found["student", "missing_rows"]["value"] == 6


@pytest.mark.parametrize("label", [True, False])
def test_one_class_only_leaves_the_auc_null_and_says_so(lake: Lake, label: bool) -> None:
    labels = [label] * 6
    found = run({"student": lake.predictions(labels=labels)}, lake.windows(labels))
    assert (found["student", "auc"]["value"], found["student", "auc"]["low"]) == (None, None)
    assert found["student", "one_class_only"]["value"] == found["population", "one_class_only"]["value"] == 1
    assert found["student", "accuracy"]["value"] == pytest.approx(3 / 6)
    assert found["student", "brier"]["value"] is not None
    assert found["population", "liked_share"]["value"] == float(label)


def test_replicates_without_both_classes_are_counted(lake: Lake) -> None:
    labels = [True, False, False, False, False, False]
    found = run({"student": lake.predictions(labels=labels)}, lake.windows(labels))
    assert found["student", "auc_replicates_left_out"]["value"] > 40


def test_text_metrics_use_the_rows_that_have_both_texts(lake: Lake, encoder: Path) -> None:
    explanations = ["the user likes slow dramas", "", "funny films", None, "the user dislikes films", "dramas"]
    references = {0: "the user likes dramas", 1: "comedies", 2: "funny comedies", 3: "films", 4: " "}
    paths = {"student": lake.predictions(explanations=explanations), "like_rate": lake.predictions("like_rate")}
    text = BertScore(str(encoder), num_layers=2)
    found = run(paths, lake.windows(), texts=lake.texts(references, text), seed=3)
    # Row 3 has no explanation, row 4 an empty reference, row 5 none; row 1 wrote nothing and counts as 0.
    candidates, own = ["the user likes slow dramas", "", "funny films"], ["the user likes dramas", "comedies", "funny comedies"]
    expected = text.score(candidates, own)
    assert expected.f1[1] == 0.0
    for metric, column in zip(("precision", "recall", "f1"), expected, strict=True):
        row = found["student", f"bertscore_{metric}"]
        assert row["value"] == pytest.approx(column.mean(), abs=1e-5)
        assert row["n"] == 3
        assert row["low"] < row["value"] < row["high"]
    floor = text.score(candidates, [own[row] for row in deranged(3, 3)])
    assert found["student", "bertscore_f1_shuffled_floor"]["value"] == pytest.approx(floor.f1.mean(), abs=1e-5)
    assert found["student", "explained_rows"]["value"] == 5
    assert found["student", "explained_without_reference"]["value"] == 2
    assert not [metric for method, metric in found if method == "like_rate" and ("bertscore" in metric or "explained" in metric)]


def test_two_explaining_methods_keep_their_own_scores(lake: Lake, encoder: Path) -> None:
    references = dict.fromkeys(range(6), "the user likes dramas")
    good = lake.predictions("good", explanations=["the user likes dramas"] * 6)
    bad = lake.predictions("bad", explanations=["funny", *[None] * 5])
    text = BertScore(str(encoder), num_layers=2)
    found = run({"bad": bad, "good": good}, lake.windows(), texts=lake.texts(references, text))
    assert found["good", "bertscore_f1"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert found["bad", "bertscore_f1"]["value"] < 0.999
    # One explained row has no other row's reference to be held against.
    assert found["bad", "bertscore_f1_shuffled_floor"]["value"] is None
    assert found["good", "bertscore_f1_shuffled_floor"]["value"] == pytest.approx(1.0, abs=1e-5)


def test_the_leaderboard_scores_the_texts_of_every_method_that_writes(lake: Lake, encoder: Path) -> None:
    references = dict.fromkeys(range(6), "the user likes dramas")
    paths = {
        name: lake.predictions(name, explanations=texts)
        for name, texts in {
            "student": ["the user likes dramas"] * 6,
            "k256": ["funny"] * 6,
            "like_rate": [None] * 6,
        }.items()
    }
    scores: list[dict[str, Any]] = []
    for scorer in (BertScore(str(encoder), num_layers=2), None):
        texts = lake.texts(references, scorer)
        board = leaderboard(paths, dataset="d", windows=lake.windows(), texts=texts, replicates=10).to_pylist()
        scores.append({row["method"]: row["bertscore_f1"] for row in board})
    measured, without = scores
    assert measured["student"] == pytest.approx(1.0, abs=1e-5)
    assert measured["k256"] < 0.999
    assert measured["like_rate"] is None
    assert without == dict.fromkeys(paths)


def test_without_references_only_the_explained_rows_are_counted(lake: Lake) -> None:
    found = run({"student": lake.predictions(explanations=["a"] * 6)}, lake.windows())
    assert found["student", "explained_rows"]["value"] == 6
    assert not [metric for _, metric in found if "bertscore" in metric]


def test_no_explained_row_has_a_reference(lake: Lake) -> None:
    found = run(
        {"student": lake.predictions(explanations=["a"] * 6)},
        lake.windows(),
        texts=lake.texts({}, BertScore("never/loaded", num_layers=2)),
    )
    assert (found["student", "bertscore_f1"]["value"], found["student", "bertscore_f1"]["n"]) == (None, 0)
    assert found["student", "explained_without_reference"]["value"] == 6


BROKEN = pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scores": [float("nan"), *SCORES[1:]]}, "method student.*1 of 6 rows have a score that is not a finite number"),
        ({"scores": [float("inf"), *SCORES[1:]]}, "method student.*1 of 6 rows have a score that is not a finite number"),
        ({"named": "other"}, "the file holds rows of other"),
        ({"labels": [not LABELS[0], *LABELS[1:]]}, "1 rows whose label is not the one"),
        ({"users": [0, 0, 1, 2, 3, 4, 5]}, "2 rows for a user and item that it scores more than once"),
        ({"users": [0, 0, 1], "split": "valid", "labels": FLIPPED}, "2 rows for a user and item that it scores more than once"),
        ({"split": "valid"}, "6 rows whose label is not the one"),
        ({"split": "valid", "labels": FLIPPED, "scores": [float("-inf")] * 6}, "6 of 6 rows have a score"),
    ],
)


@BROKEN
def test_broken_predictions_are_refused_by_name(lake: Lake, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run({"student": lake.predictions(**wrong)}, lake.windows())


@BROKEN
def test_a_broken_method_is_named_on_the_board_and_the_others_are_as_without_it(
    lake: Lake, wrong: dict[str, Any], message: str
) -> None:
    told = {"dataset": "d", "windows": lake.windows(), "replicates": 10}
    sound = {
        "like_rate": lake.predictions("like_rate"),
        "titles": lake.predictions("titles", scores=[1.0, -1.0, 2.0, 0.0, 1.5, -3.0]),
    }
    broken = {"student": lake.predictions("student", **wrong)}
    *rows, last = leaderboard(sound | broken, **told).to_pylist()
    assert rows == leaderboard(sound, **told).to_pylist()
    assert re.search(message.removeprefix("method student.*"), last.pop("problem"))
    assert {name: value for name, value in last.items() if value is not None} == {"dataset": "d", "method": "student", "rows": 0}
    (alone,) = leaderboard(broken, **told).to_pylist()
    assert alone["problem"]


def test_a_method_with_several_faults_is_told_all_of_them(lake: Lake) -> None:
    scores = [float("nan"), *SCORES[1:]]
    path = lake.predictions(users=[0, 0, 1, 2], named="other", labels=FLIPPED, scores=scores)
    assert problem_of("student", path, lake.windows()) == (
        "the file holds rows of other; it has 2 rows for a user and item that it scores more than once; "
        "it has 4 rows whose label is not the one in interaction_windows; 2 of 4 rows have a score that is not a finite number"
    )


def test_without_a_test_row_everything_is_null_or_none_and_nothing_fails(lake: Lake) -> None:
    windows = pq.read_table(lake.windows())
    path = lake.folder / "windows.parquet"
    pq.write_table(windows.filter(pa.compute.equal(windows["split"], "valid")), path)
    paths = {"student": lake.predictions(), "like_rate": lake.predictions("like_rate")}
    found = run(paths, path)
    assert (found["population", "test_rows"]["value"], found["population", "liked_share"]["value"]) == (0, None)
    assert found["student", "extra_rows"]["value"] == 6
    assert {found["student", name]["value"] for name in ("auc", "accuracy", "brier", "coverage", "log_loss", "auc_per_user")} == {
        None
    }
    one, other = leaderboard(paths, dataset="d", windows=path, replicates=10).to_pylist()
    assert (one["rows"], one["auc"], one["p_like_rate"], other["p_best"]) == (0, None, None, None)
