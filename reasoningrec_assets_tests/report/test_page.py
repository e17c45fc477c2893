from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.report.gather import Report, gather
from reasoningrec_assets.report.page import render

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags and attributes as a browser sees them, and whether they are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += re.sub(r"\s+", " ", data)


def verdicts(report: Report) -> list[tuple[str, str]]:
    """The kind and the sentence of everything that the page says of its figures."""
    found = re.findall(r'<p class="verdict (\w+)">(.*?)</p>', render(report), flags=re.DOTALL)
    return [(kind, " ".join(Page(text).text.split()).removeprefix("Caution. ")) for kind, text in found]


def method(name: str, auc: float | None, half: float = 0.03, **more: Any) -> dict[str, Any]:
    bounds = (None, None) if auc is None else (auc - half, auc + half)
    nothing = dict.fromkeys(("coverage", "auc_pr", "accuracy", "brier", "ece", "bertscore_f1", "bertscore_low", "bertscore_high"))
    nothing |= dict.fromkeys(
        ("auc_per_user", "threshold", "f1_at_threshold", "log_loss", "brier_recalibrated", "ece_recalibrated")
    )
    nothing |= {"bertscore_floor": None, "problem": None, "missing_rows": 0, "extra_rows": 0, "explained_rows": 0}
    found = {
        "name": name,
        "floor": False,
        "model": not more.get("floor", False),
        "rows": 800,
        "auc": auc,
        "low": bounds[0],
        "high": bounds[1],
    }
    return nothing | found | more


def report(*methods: dict[str, Any], **more: Any) -> Report:
    values: dict[str, Any] = {
        "dataset": "d",
        "title": "T",
        "test_rows": 800,
        "liked_share": 0.5,
        "rows_in": 9,
        "dropped": {},
    }
    return Report(methods=methods, **(values | more))


def epoch(number: float, loss: float | None, auc: float | None) -> dict[str, float | None]:
    return {"epoch": number, "train_loss": loss, "valid_auc": auc}


def step(asset: str, seconds: float, metrics: dict[str, float]) -> Any:
    """What the page reads of a receipt."""
    return SimpleNamespace(asset=asset, seconds=seconds, metrics=metrics, data_version=asset)


def outcome(check: str, *, passed: bool = True, holds: str = "No target is in its own history.", **figures: float) -> Any:
    """What the page reads of a check's receipt."""
    facts = {"asset": "interaction_windows", "severity": "ERROR", "metrics": figures, "details": {"holds": holds}}
    return SimpleNamespace(check=check, passed=passed, **facts)


FLOOR = method("like_rate", 0.75, floor=True)


@pytest.fixture
def full(files: dict[str, Any], hostile: str) -> Report:
    return gather(
        **files | {"title": f"Films {hostile}"},
        facts={hostile: hostile},
        training={"student": [epoch(1, 2.0, 0.5), epoch(2, 1.0, None), epoch(3, 0.5, 0.7)], hostile: [epoch(1, 3.0, 0.6)]},
        checks=[
            outcome("target_not_in_own_history", in_history=0.0),
            outcome(hostile, passed=False, holds=hostile),
            outcome("rows"),
        ],
        receipts=[
            step(hostile, 7_384.0, {"generation_completion_tokens": 12_345.0, "generation_cache_hits": 67.0}),
            step("lora_model", 3.25, {}),
        ],
    )


def test_planted_markup_is_text_everywhere(full: Report, hostile: str) -> None:
    hostile_names = [entry | {"name": hostile} for entry in full.methods]
    page = Page(render(dataclasses.replace(full, methods=tuple(hostile_names), dataset=hostile, dropped={hostile: 3})))
    assert not [tag for tag, _ in page.tags if tag in {"script", "img", "iframe", "object"}]
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    # Title, facts, methods, users' targets, an explanation, a cost, a version: all are there, as text.
    assert page.text.count('<script>alert("x")</script>') > 12
    assert "Because <b>films</b>." in page.text


def test_the_page_requests_nothing(full: Report) -> None:
    html = render(full)
    page = Page(html)
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert (attrs.get(name) or "data:").startswith("data:"), (tag, attrs)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert any("default-src 'none'" in (attrs.get("content") or "") for _, attrs in page.tags)


def test_every_section_is_there_with_its_numbers(full: Report) -> None:
    text = Page(render(full)).text
    for expected in (
        "0.810 0.700–0.900",
        "95.0 %",
        "0.710 0.700–0.720",
        "Left out: repeated pair17",
        "Training loss · best 0.5 at epoch 3",
        "Validation AUC · best 0.7 at epoch 3",
        "2 h 3 min",
        "12,345",
        "3.2 s",
        "User u39",
        "25.0 % No, wrong",
        "25.0 % Yes, right",
        "Teacher, which knew the truth or was chosen for predicting it",
        "like_rate floor",
        "k640.700 0.600–0.800",
        "0.0123",
        "K = 64",
        "left out: it holds",
        "gradient_boosting––––0.012",
        "repeated pairOnly the last row stays. Such as:",
        "1,234",
        "target not in own historyinteraction_windows: No target is in its own history.",
        "Found: in history 0",
        "✓ holds",
        "✗ does not hold",
        "0.75given 0.25, of 8",
    ):
        assert expected in text, expected


def test_several_seeds_have_a_table_and_their_mean_with_its_spread_in_the_learning_curve(files: dict[str, Any]) -> None:
    board = pq.read_table(files["boards"][0]).to_pylist()
    other = files["windows"].parent / "d_seed43.parquet"
    rows = [row | {"dataset": "d_seed43", "auc": 0.6} for row in board if row["method"] == "k64"]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["leaderboard"].arrow()), other)
    page = render(gather(**files | {"boards": [*files["boards"], other]}))
    assert "Over seeds" in page
    assert "Over seeds" not in render(gather(**files))
    text = Page(page).text.replace(" ", "")
    for expected in ("k640.6500.0712", "K=64(2)", "Abovethebest"):
        assert expected in text, expected
    curve = page.split("AUC by training rows")[1]
    ends = re.findall(r'y1="([\d.]+)" y2="([\d.]+)"/><circle cx="[\d.]+%" cy="([\d.]+)"', curve)
    aucs = (0.65 - 0.005**0.5, 0.65 + 0.005**0.5, 0.65), (0.7, 0.9, 0.8)
    expected = [pytest.approx([162 - 250 * (auc - 0.4) for auc in one]) for one in aucs]
    assert [[float(end) for end in one] for one in ends] == expected


def test_liked_and_disliked_differ_in_words_not_only_in_colour(full: Report) -> None:
    history = re.findall(r'<ol class="history">(.*?)</ol>', render(full), flags=re.DOTALL)[0]
    assert re.findall(r">([+−] \w+)<", history) == ["+ liked", "− disliked"]


def test_a_report_of_nothing_still_renders() -> None:
    text = Page(render(report(test_rows=0, liked_share=None))).text
    assert "No method was evaluated." in text
    assert "Training of the student" not in text
    assert "What it cost" not in text


def test_floors_are_squares_and_models_are_circles(full: Report) -> None:
    figure = render(full).split("</figure>")[0]
    assert figure.count("<circle") == 3
    assert figure.count('<rect x="-6"') == 2
    assert figure.count('class="mark floor"') == 2


def test_plot_places_values_in_order_and_inside_the_axis() -> None:
    html = render(report(method("a", 0.9, 0.1), method("b", 0.62), method("c", 0.4, 0.0), method("d", None)))
    figure = html.split("</figure>")[0]
    scale = {label: float(at) for at, label in re.findall(r'x="([\d.]+)%" y="\d+" text-anchor="middle">([\d.]+)<', figure)}
    assert [*scale] == ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]
    (first, second, third) = (float(at) for at in re.findall(r'<circle cx="([\d.]+)%"', figure))
    assert first == pytest.approx(scale["0.9"], abs=0.02)
    assert second == pytest.approx(scale["0.6"] + 0.2 * (scale["0.7"] - scale["0.6"]), abs=0.02)
    assert third == scale["0.4"]
    bars = re.findall(r'class="mark">\s*<line x1="([\d.]+)%" x2="([\d.]+)%"', figure)
    assert [float(end) for end in bars[0]] == pytest.approx([scale["0.8"], scale["1.0"]], abs=0.02)
    assert bars[2] == (str(scale["0.4"]),) * 2
    assert f'class="chance" x1="{scale["0.5"]}%"' in figure
    assert "<figure>" not in render(report(method("d", None)))


def test_curves_leave_out_what_was_not_measured() -> None:
    html = render(report(training={"student": [epoch(1, 2.0, None), epoch(2, 1.0, 0.6), epoch(3, 1.5, 0.5)]}))
    loss, auc = re.findall(r"<figcaption><strong>(.*?)</figcaption>", html)
    assert (loss, auc) == ("Training loss</strong> · best 1 at epoch 2", "Validation AUC</strong> · best 0.6 at epoch 2")
    drawn = re.findall(r'<polyline class="line" points="(.*?) "', html)
    # The drawing runs downwards: the higher value has the smaller y. The last point stands twice, or one alone would not show.
    assert drawn == ["0.0,0.0 50.0,100.0 100.0,50.0 100.0,50.0", "0.0,0.0 100.0,100.0 100.0,100.0"]
    assert "epoch 1: 2" in html
    one = render(report(training={"student": [epoch(1, 2.0, None)]}))
    assert re.findall(r'<polyline class="line" points="(.*?) "', one) == ["0.0,100.0 0.0,100.0"]


def on_board(**known: Any) -> dict[str, Any]:
    return dict.fromkeys(TABLES["leaderboard"].arrow().names) | known


TESTED = [("student", 0.70, 0.03), ("student", 0.85, 0.0), ("student", 0.78, 0.2), ("student", 0.75, 1.0)]


@pytest.mark.parametrize(("name", "auc", "p"), TESTED)
def test_the_best_model_is_held_against_the_best_floor_by_delongs_test(name: str, auc: float, p: float) -> None:
    methods = sorted([method(name, auc), FLOOR], key=lambda entry: -entry["auc"])
    tested = {"above_like_rate": auc - 0.75, "p_holm_like_rate": p}
    board = [on_board(method=name, auc=auc, **tested), on_board(method="like_rate", auc=0.75)]
    ((kind, text),) = verdicts(report(*methods, board=board))
    verb = "is above" if auc > 0.75 else "equals" if auc == 0.75 else "does not reach"
    assert kind == "result"
    assert text.startswith(
        f"student, with an AUC of {auc:.3f} ({auc - 0.03:.3f} to {auc + 0.03:.3f}), {verb} the best floor, like_rate"
    )
    told = {
        0.03: "tells them apart (p = 0.0300",
        0.0: "tells them apart (p < 0.0001",
        0.2: "does not tell them apart (p = 0.2000",
    }
    assert told.get(p, "does not tell them apart (p = 1.0000") in text


def test_a_few_easy_rows_make_no_best_model_and_common_rows_tell_who_is_above() -> None:
    few = method("zero_shot_teacher", 0.95, rows=20, missing_rows=780)
    student = method("student", 0.76, rows=790, missing_rows=10)
    board = [
        on_board(method="student", auc=0.76, above_like_rate=-0.02, p_holm_like_rate=0.01),
        on_board(method="like_rate", auc=0.75),
    ]
    _, text = verdicts(report(few, student, FLOOR, board=board))[0]
    assert text.startswith("student, with an AUC of 0.760 (0.730 to 0.790), does not reach the best floor, like_rate")
    assert "tells them apart (p = 0.0100" in text


def test_without_a_test_of_these_very_predictions_nothing_is_said_of_one() -> None:
    methods = method("student", 0.85), FLOOR
    floor = on_board(method="like_rate", auc=0.75)
    tested = on_board(method="student", auc=0.85, above_like_rate=0.1, p_holm_like_rate=0.001)
    for board in (
        [],
        [floor],
        [tested],
        [tested | {"auc": 0.84}, floor],
        [tested, floor | {"auc": 0.7}],
        [tested | {"p_holm_like_rate": None}, floor],
    ):
        ((_, text),) = verdicts(report(*methods, board=board))
        assert text.endswith("with 0.750 (0.720 to 0.780); the board has no paired test of these two: materialize leaderboard.")


def test_a_method_that_asks_no_language_model_is_no_best_model_and_a_broken_one_is_named() -> None:
    boosting = method("gradient_boosting", 0.9, model=False)
    broken = method("sasrec", None, model=False, rows=0, problem="it has 2 rows twice")
    (_, result), (kind, warning) = verdicts(report(boosting, method("student", 0.8), FLOOR, broken))
    assert result.startswith("student, with an AUC of 0.800")
    assert (kind, warning) == ("warning", "sasrec is in no figure: it has 2 rows twice. Materialize its predictions again.")


def test_a_sample_too_small_to_judge_by_is_said_in_words() -> None:
    few = verdicts(report(FLOOR, test_rows=499))
    assert few == [("warning", "This sample is too small to judge by: there are 499 test rows, fewer than 500.")]
    wide = verdicts(report(method("like_rate", 0.75, 0.06, floor=True)))
    assert [text for _, text in wide] == [
        "This sample is too small to judge by: an AUC is known only roughly (like_rate to ±0.06)."
    ]
    assert verdicts(report(method("like_rate", 0.75, 0.049, floor=True), test_rows=500)) == []


def test_missing_and_extra_rows_and_one_class_are_said_in_words() -> None:
    texts = [
        text for _, text in verdicts(report(method("student", None, rows=700, missing_rows=100, extra_rows=3), liked_share=1.0))
    ]
    assert texts == [
        "Every test row is liked: with one class only, there is no AUC.",
        "student scored 700 of 800 test rows; its figures are computed on those, so they do not compare with the others'.",
        "student also scored 3 rows outside the test population; they are left out.",
    ]
