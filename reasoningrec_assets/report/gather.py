"""What the page shows, read from the lake's files into plain values; sentences are made in `page`, drawings in `plots`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import MANIFEST
from reasoningrec_assets.sql import query, statements

# Methods that need no language model, and are marked so.
FLOORS = ("like_rate", "logistic_regression")

# Raw titles of up to 423,494 characters exist; a page has to survive them.
_TITLE_CHARACTERS = 120
_TEXT_CHARACTERS = 4_000

_example = itemgetter("user_id", "target_item_id")


@dataclass(frozen=True)
class Method:
    """One line of the leaderboard: a field that goes by a metric's name holds its value, None where the method has none."""

    name: str
    floor: bool
    rows: float = 0
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    missing_rows: float = 0
    extra_rows: float = 0
    accuracy: float | None = None
    brier: float | None = None
    explained_rows: float = 0
    bertscore_f1: float | None = None
    bertscore_low: float | None = None
    bertscore_high: float | None = None
    bertscore_floor: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    dataset: str
    title: str
    facts: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]  # by AUC, best first, those without one last
    test_rows: int
    liked_share: float | None
    rows_in: int
    dropped: tuple[tuple[str, int], ...]  # why rows were left out, and how many
    # test rows: user_id, history and target (title and liked of an item), scores (method, floor, score, probability),
    # explanations (method, text) and reference, the teacher's text or None
    cases: Sequence[Mapping[str, Any]] = ()
    training: Sequence[Mapping[str, Any]] = ()  # the student's epochs, as `training_curve` reads them
    receipts: Sequence[Receipt] = ()  # the steps that the report was made from


_SQL = statements(__file__)
_TITLES_SQL = "SELECT item_id, title, year FROM read_parquet($items) WHERE list_contains($ids, item_id)"


def gather(
    *,
    dataset: str,
    title: str,
    metrics: Path,
    predictions: Mapping[str, Path],
    windows: Path,
    items: Path,
    references: Path | None = None,
    facts: Mapping[str, str | int | float] | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    receipts: Sequence[Receipt] = (),
    users: int = 12,
) -> Report:
    """Read what the page shows from tables of the lake; ``references`` is `reasoning_labels`, ``users`` the number of cases."""
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for row in query("SELECT method, metric, value, low, high, n FROM read_parquet($metrics)", metrics=metrics).to_pylist():
        by_method.setdefault(row["method"], {})[row["metric"]] = row
    population = {metric: row["value"] for metric, row in by_method.pop("population", {}).items()}
    methods = [_method(name, measured) for name, measured in by_method.items()]
    return Report(
        dataset=dataset,
        title=title,
        facts=tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in (facts or {}).items()),
        methods=tuple(sorted(methods, key=lambda method: (method.auc is None, -(method.auc or 0.0), method.name))),
        test_rows=int(population.get("test_rows", 0)),
        liked_share=population.get("liked_share"),
        rows_in=int(population.get("rows_in", 0)),
        dropped=tuple((name.removeprefix("dropped_"), int(n)) for name, n in population.items() if name.startswith("dropped_")),
        cases=_cases(predictions, windows, items, references, users) if predictions else (),
        training=training,
        receipts=receipts,
    )


def _method(name: str, measured: Mapping[str, Mapping[str, Any]]) -> Method:
    auc, text = measured.get("auc", {}), measured.get("bertscore_f1", {})
    found: dict[str, Any] = {"rows": auc.get("n", 0), "low": auc.get("low"), "high": auc.get("high")}
    found |= {"bertscore_low": text.get("low"), "bertscore_high": text.get("high")}
    found |= {"bertscore_floor": measured.get("bertscore_f1_shuffled_floor", {}).get("value")}
    found |= {metric: measured[metric]["value"] for metric in Method.__dataclass_fields__.keys() & measured.keys()}
    return Method(name, name in FLOORS, **found)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _cases(
    predictions: Mapping[str, Path], windows: Path, items: Path, references: Path | None, users: int
) -> list[dict[str, Any]]:
    methods, files = zip(*predictions.items(), strict=True)
    rows = query(_SQL["cases"], predictions=files, methods=methods, floors=FLOORS, windows=windows, users=users).to_pylist()
    ids = [row["user_id"] for row in rows]
    reasons = query(_SQL["references"], references=references, ids=ids).to_pylist() if references else []
    texts = {_example(row): _cut(row["text"], _TEXT_CHARACTERS) for row in reasons}
    item_ids = {item for row in rows for item in (row["target_item_id"], *row["history_item_ids"])}
    titles: dict[str, str] = {
        row["item_id"]: _cut(row["title"], _TITLE_CHARACTERS) + (f" ({row['year']})" if row["year"] else "")
        for row in query(_TITLES_SQL, items=items, ids=sorted(item_ids)).to_pylist()
    }

    def shown(item: str, liked: bool) -> dict[str, Any]:
        return {"title": titles.get(item, item), "liked": liked}

    return [
        {
            "user_id": row["user_id"],
            "history": [shown(*pair) for pair in zip(row["history_item_ids"], row["history_liked"], strict=True)],
            "target": shown(row["target_item_id"], row["label"]),
            "scores": row["scores"],
            "explanations": [
                (answer["method"], _cut(answer["explanation"], _TEXT_CHARACTERS))
                for answer in row["scores"]
                if answer["explanation"] is not None
            ],
            "reference": texts.get(_example(row)),
        }
        for row in rows
    ]


def training_curve(adapter: Path) -> list[dict[str, Any]]:
    """The epochs of an adapter's manifest: ``epoch``, ``train_loss`` and ``valid_auc``, None where it was not measured."""
    return json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))["epochs"]
