"""The Parquet files of one small evaluation, with hostile titles and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.lake.schemas import TABLES, TableSchema
from reasoningrec_assets.metrics.explanations import Texts

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = '<script>alert("x")</script>\'"><img src=http://evil.example/x onerror=alert(1)>'


@pytest.fixture
def hostile() -> str:
    """What a raw title may be."""
    return HOSTILE


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Arguments of gather(): 40 users, of whom u39 and u38 are explained by the student."""

    def write(name: str, table: TableSchema, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist([{"dataset": "d"} | row for row in rows], schema=table.arrow()), path)
        return path

    users = [f"u{number:02d}" for number in range(40)]
    target = {"split": "test", "target_item_id": "i1"}
    history = {"history_item_ids": ["i2", "i3"], "history_liked": [True, False], "profile_item_ids": [], "profile_liked": []}
    liked = {user: number % 4 != 0 for number, user in enumerate(users)}
    rows = [target | history | {"user_id": user, "target_rating": 5.0, "label": liked[user], "target_time": 0} for user in users]
    items = [
        {"item_id": "i1", "title": HOSTILE, "genres": [], "year": 1999},
        {"item_id": "i2", "title": "long " * 1_000, "genres": []},
    ]
    written = {"u38": HOSTILE, "u39": "The user likes it."}

    def answers(method: str, score: float, texts: dict[str, str]) -> Path:
        return write(
            method,
            TABLES["predictions"],
            [
                target
                | {
                    "method": method,
                    "user_id": user,
                    "label": liked[user],
                    "score": score + lead / 10,
                    "probability": 0.25 + lead / 10,
                    "explanation": texts.get(user),
                }
                for user, lead in zip(users, [4, 3, 2, 1, 0] * 8, strict=True)
            ],
        )

    def metric(
        method: str, name: str, value: float | None, low: float | None = None, high: float | None = None, n: int = 40
    ) -> dict[str, Any]:
        return {"method": method, "metric": name, "value": value, "low": low, "high": high, "n": n}

    metrics = [
        metric("population", "rows_in", 1_000),
        metric("population", "dropped_repeated_pair", 17),
        metric("population", "test_rows", 40),
        metric("population", "liked_share", 0.6),
        metric("like_rate", "auc", 0.75, 0.66, 0.84),
        metric("student", "auc", 0.81, 0.7, 0.9, n=38),
        metric("student", "coverage", 0.95),
        metric("student", "missing_rows", 2),
        metric("student", "explained_rows", 2),
        metric("student", "bertscore_f1", 0.71, 0.7, 0.72, n=2),
        metric("student", "bertscore_f1_shuffled_floor", 0.69, n=2),
        metric("constant", "auc", None),
    ]
    board = [
        {"method": "k64", "rows": 40, "auc": 0.7, "low": 0.6, "high": 0.8, "p_holm_like_rate": 0.0123},
        {"method": "k256", "rows": 40, "auc": 0.8, "low": 0.7, "high": 0.9}
        | {
            "explained_rows": 20.0,
            "explained_empty": 9.0,
            "explained_not_english": 10.0,
            "label_stated": 1 / 11,
            "label_agreement": 1.0,
        },
        {"method": HOSTILE, "rows": 40, "auc": None},
        {"method": "gradient_boosting", "rows": 30, "auc": 0.78, "ece_recalibrated": 0.0123},
        {"method": "sasrec", "rows": 0, "problem": f"it holds {HOSTILE}"},
        {"method": "student", "rows": 40, "auc": 0.81, "p_holm_like_rate": 0.0321},
        {"method": "like_rate", "rows": 40, "auc": 0.75},
    ]
    cleaning = [
        {"rule": "repeated_pair", "what": "Only the last row stays.", "rows": 1234, "examples": [HOSTILE, "u1"]},
        {"rule": "too_few", "what": "Left out.", "rows": 0, "examples": []},
    ]
    return {
        "dataset": "d",
        "title": "Toy films",
        "metrics": write("metrics", TABLES["evaluation_metrics"], metrics),
        "methods": {"student": answers("student", -1.0, written), "like_rate": answers("like_rate", 2.0, {})},
        "windows": write("windows", TABLES["interaction_windows"], [*rows, rows[0] | {"split": "valid"}]),
        "boards": [write("leaderboard", TABLES["leaderboard"], board)],
        "cleaning": write("cleaning", TABLES["cleaning_report"], cleaning),
        "baselines": ["like_rate", "gradient_boosting"],
        "texts": Texts(
            items=write("items", TABLES["items"], items),
            prompts={},
            references=write(
                "references",
                TABLES["reasoning_labels"],
                [
                    target
                    | {
                        "user_id": "u39",
                        "label": True,
                        "text": "Because <b>films</b>.",
                        "teacher_mode": "conditioned",
                        "status": "ok",
                    }
                ],
            ),
        ),
    }
