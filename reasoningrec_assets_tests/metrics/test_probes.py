"""The probe must find a label that texts give away, and must not find one that is not there."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import probes
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.probes import label_from_text
from reasoningrec_assets.sql import query

WORDS = [f"word{n}" for n in range(60)]
SIDES = ("single_rater", "others")


def _text(draw, label, told):
    """Forty words, of which one is the label's own where it is told."""
    return " ".join([*draw.choices(WORDS, k=20), *([["hated", "loved"][label]] if told else []), *draw.choices(WORDS, k=20)])


def _rows(side, told, *, count=300, per_group=1, seed=0):
    """One side's texts, which say the label in so many of 100 cases."""
    draw = random.Random(f"{side}{seed}")
    rows = []
    for n in range(count):
        label = draw.random() < 0.6
        text = _text(draw, label, draw.random() < told)
        rows.append({"text": text, "label": label, "about": f"{side}{n // per_group}", "side": side})
    return rows


def test_a_label_that_one_side_tells_is_found_with_a_lead_beyond_chance():
    figures = label_from_text([*_rows("single_rater", 0.6), *_rows("others", 0.0)], *SIDES)
    assert figures["judged"] == 1
    assert figures["auc_single_rater_value"] > 0.7
    assert figures["auc_others_low"] < 0.5 < figures["auc_others_high"]
    assert 0.05 < figures["lead_low"] < figures["lead"]


@pytest.mark.parametrize("told", [0.0, 0.6])
def test_texts_that_tell_as_much_on_both_sides_have_no_lead(told):
    """Good items are described as good, and more are liked: that is no leak."""
    figures = label_from_text([*_rows("single_rater", told), *_rows("others", told)], *SIDES)
    assert figures["judged"] == 1
    assert figures["lead_low"] < 0.05


def test_noise_is_hardly_ever_called_a_leak():
    low = [
        label_from_text([*_rows("single_rater", 0, count=60, seed=seed), *_rows("others", 0, seed=seed)], *SIDES)["lead_low"]
        for seed in range(20)
    ]
    assert sum(bound > 0.05 for bound in low) <= 1


def test_a_group_is_never_scored_by_what_was_learnt_from_it():
    """Each group's own word tells its label: known to whoever has seen the group, to nobody else."""
    rows = [row | {"text": row["about"], "label": int(row["about"][3:]) % 2 == 0} for row in _rows("all", 0, per_group=5)]
    assert label_from_text(rows, "all")["auc_all_low"] <= 0.6


@pytest.mark.parametrize(
    "rows",
    [
        [],
        _rows("single_rater", 1),
        _rows("others", 1),
        [*_rows("single_rater", 1, count=12), *_rows("others", 1)],
        [row | {"label": True} for row in [*_rows("single_rater", 1), *_rows("others", 1)]],
        [*_rows("single_rater", 1), *_rows("others", 1, per_group=100)],
    ],
    ids=["nothing", "one side", "the other side", "few rows", "one class", "few groups"],
)
def test_too_little_to_judge_is_said_and_is_no_crash(rows):
    assert label_from_text(rows, *SIDES) == {"judged": 0, "rows": len(rows)}


def test_ten_items_of_each_label_are_enough_for_every_fold():
    for seed in range(5):
        rows = [row | {"label": n % 2 == 0} for n, row in enumerate(_rows("all", 0, count=20, seed=seed))]
        assert label_from_text(rows, "all")["judged"] == 1


def _write(path, schema, rows):
    """A table of rows that name only the columns that matter."""
    empty = {"string": "", "int64": 0, "float64": 0.0, "bool": True, "list<string>": [], "list<bool>": []}
    filled = [{column.name: row.get(column.name, empty[column.type]) for column in schema.columns} for row in rows]
    pq.write_table(pa.Table.from_pylist(filled, schema=schema.arrow()), path)
    return path


@pytest.fixture
def described(tmp_path):
    """Targets of 200 items with one rater and of 50 with four, whose descriptions tell one label or none."""

    def rows(told):
        draw = random.Random(3)
        interactions, windows, items = [], [], []
        for n in range(400):
            item, label = f"single{n}" if n < 200 else f"popular{n % 50}", draw.random() < 0.5
            interactions.append({"user_id": f"u{n}", "item_id": item, "position": 0})
            windows.append({"split": "test", "user_id": f"u{n}", "target_item_id": item, "label": label})
            if n < 250:
                items.append({"item_id": item, "text": _text(draw, label, told and n < 200)})
        # rated twice by its only rater, it still has one
        interactions.append({"user_id": "u0", "item_id": "single0", "position": 1})
        items[1]["text"] = " \n.!"
        return label_from_text(
            query(
                probes.PROBES["target_descriptions"],
                cleaned_interactions=_write(tmp_path / "i", TABLES["cleaned_interactions"], interactions),
                interaction_windows=_write(tmp_path / "w", TABLES["interaction_windows"], windows),
                item_descriptions=_write(tmp_path / "d", TABLES["item_descriptions"], items),
            ).to_pylist(),
            *SIDES,
        )

    return rows


def test_a_description_that_holds_the_targets_own_review_is_found_in_the_tables(described):
    leaking, honest = described(told=True), described(told=False)
    assert leaking["rows"] == honest["rows"] == 399, "a text without a word is left out"
    assert leaking["auc_single_rater_value"] > 0.9
    assert leaking["lead_low"] > 0.05 >= honest["lead_low"]


@pytest.mark.parametrize("where", ["first", "second"])
def test_only_the_first_half_of_a_teachers_text_is_read(tmp_path, where):
    draw = random.Random(5)
    rows = []
    for n in range(120):
        label = draw.random() < 0.5
        halves = [" ".join(draw.choices(WORDS, k=10)), " ".join(draw.choices(WORDS, k=10))]
        halves[where == "second"] += f" {['hated', 'loved'][label]}"
        rows.append({"split": "train", "user_id": f"u{n}", "label": label, "text": "\n".join(halves) + " so"})
    rows += [{"split": "test", "user_id": "u0", "text": text, "label": True} for text in ("", "one", "\n")]
    path = _write(tmp_path / "labels", TABLES["reasoning_labels"], rows)
    figures = label_from_text(query(probes.PROBES["first_halves"], reasoning_labels=path).to_pylist(), "all")
    assert figures["rows"] == 120
    assert (figures["auc_all_low"] > 0.6) == (where == "first")


def test_the_same_rows_are_chosen_every_time_and_at_most_ten_thousand_of_a_side(tmp_path):
    rows = [{"split": "train", "user_id": f"u{n}", "text": f"word{n} again", "label": n % 2 == 0} for n in range(10_500)]
    chosen = [
        query(probes.PROBES["first_halves"], reasoning_labels=_write(tmp_path / "l", TABLES["reasoning_labels"], part))
        for part in (rows, rows[::-1])
    ]
    assert chosen[0].num_rows == 10_000
    assert chosen[0].equals(chosen[1])
