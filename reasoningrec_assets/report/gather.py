"""What the page shows, read from the lake's files into plain values; sentences are made in `page`, drawings in its template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import MANIFEST
from reasoningrec_assets.metrics.explanations import Texts, flagged
from reasoningrec_assets.metrics.leaderboard import FLOORS
from reasoningrec_assets.sql import query, statements

# One line of the leaderboard: a field that goes by a metric's name holds its value, None where the method has none.
Method = SimpleNamespace
_SQL = statements(__file__)


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    dataset: str
    title: str
    facts: tuple[tuple[str, str], ...]
    methods: Sequence[Method]  # by AUC, best first, those without one last
    test_rows: int
    liked_share: float | None
    rows_in: int
    dropped: tuple[tuple[str, int], ...]  # why rows were left out, and how many
    # test rows: user_id, history and target (title and liked of an item), scores (method, floor, score, probability,
    # explanation) and reference, the teacher's text or None
    cases: Sequence[Mapping[str, Any]] = ()
    curves: Sequence[Mapping[str, Any]] = ()  # name, floor, and three lists of points, each method's
    board: Sequence[Mapping[str, Any]] = ()  # the rows of the table `leaderboard`, if there is one
    seeds: Sequence[Mapping[str, Any]] = ()  # by method n, mean, sd, low, high of the AUC over `boards`, and k of a variant of K
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict[str, Any])  # epochs, see `training_curve`
    receipts: Sequence[Receipt] = ()  # the steps that the report was made from


def gather(
    *,
    dataset: str,
    title: str,
    metrics: Path,
    predictions: Mapping[str, Path],
    users: int = 12,
    facts: Mapping[str, str | int | float] | None = None,
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    receipts: Sequence[Receipt] = (),
    windows: Path,
    texts: Texts,
    boards: Mapping[str, Path] | None = None,
) -> Report:
    """Read what the page shows from tables of the lake; ``users`` is the number of cases, ``training`` has epochs by variant.

    ``boards`` are the tables `leaderboard` of the dataset and of its repetitions with other seeds, by their names.
    """
    paths = [*predictions.values()]
    read: dict[str, Any] = {"metrics": metrics, "predictions": paths, "windows": windows, "boards": [*(boards or {}).values()]}
    read |= {"board": (boards or {}).get(dataset)}
    read |= {"items": texts.items, "references": texts.references, "floors": FLOORS, "methods": [*predictions], "users": users}
    population = {row["metric"]: row["value"] for row in query(_SQL["population"], **read).to_pylist()}
    told: dict[str, Any] = {name: int(population.get(name, 0)) for name in ("test_rows", "rows_in")}
    told["facts"] = tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in (facts or {}).items())
    left = {name.removeprefix("dropped_"): int(n) for name, n in population.items() if name.startswith("dropped_")}
    told["dropped"] = tuple(left.items())
    told["methods"] = [Method(**row) for row in query(_SQL["methods"], **read).to_pylist()]
    told["cases"] = query(_SQL["cases"], on=flagged(paths, windows, texts), **read).to_pylist() if predictions else ()
    told["curves"] = query(_SQL["curves"], **read).to_pylist() if predictions else ()
    told["board"] = query(_SQL["board"], **read).to_pylist() if read["board"] else ()
    told["seeds"] = query(_SQL["seeds"], **read).to_pylist() if boards else ()
    return Report(dataset, title, training=training or {}, receipts=receipts, liked_share=population.get("liked_share"), **told)


def training_curve(adapter: Path) -> list[dict[str, Any]]:
    """The epochs of an adapter's manifest: ``epoch``, ``train_loss`` and ``valid_auc``, None where it was not measured."""
    return json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))["epochs"]
