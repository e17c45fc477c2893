"""What the report shows, read from the lake's tables; sentences and drawings are made in the page's templates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.receipts import CheckReceipt, Receipt
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import MANIFEST
from reasoningrec_assets.metrics.evaluate import problem_of
from reasoningrec_assets.metrics.explanations import Texts, flagged
from reasoningrec_assets.metrics.leaderboard import FLOORS
from reasoningrec_assets.sql import query, statements

Rows = Sequence[Mapping[str, Any]]
_SQL = statements(__file__)


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    dataset: str
    title: str
    methods: Rows  # by AUC, best first, those without one last: its metrics, and `model`, whether it asks a language model
    test_rows: int
    liked_share: float | None
    rows_in: int
    dropped: Mapping[str, int]  # why rows were left out, and how many
    facts: Mapping[str, str | float] = field(default_factory=dict[str, Any])
    cleaning: Rows = ()  # of `cleaning_report`
    # test rows: user_id, history and target (title and liked of an item), scores (method, floor, score, probability,
    # explanation) and reference, the teacher's text or None
    cases: Rows = ()
    curves: Rows = ()  # name, floor, and three lists of points, each method's; of the ten bins also how many rows each has
    board: Rows = ()  # the rows of the table `leaderboard`, if there is one
    seeds: Rows = ()  # by method n, mean, sd, low, high of the AUC over `boards`, and k of a variant of K
    training: Mapping[str, Rows] = field(default_factory=dict[str, Any])  # epochs by variant, see `training_curve`
    receipts: Sequence[Receipt] = ()  # the steps that the report was made from
    checks: Sequence[CheckReceipt] = ()  # of the versions that they made


def gather(
    dataset: str, methods: Mapping[str, Path], texts: Texts, boards: list[Path], *, windows: Path, users: int = 12, **more: Any
) -> Report:
    """Read what the page shows from the tables ``metrics``, ``windows`` and ``cleaning``, and the rest from ``more``.

    ``boards`` are the tables `leaderboard` of the dataset and of its repetitions with other seeds, ``users`` is the number of
    cases, and ``baselines`` are the methods that ask no language model. What else is given is a field of `Report`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sound = {method: path for method, path in methods.items() if not problem_of(method, path, windows)}
    if not sound:
        raise PermanentError("read methods", where=dataset, problem="all broken", remedy=f"Make {', '.join(methods)} again")
    read: dict[str, Any] = {name: more.pop(name) for name in ("metrics", "cleaning", "baselines")} | {"items": texts.items}
    read |= {"dataset": dataset, "windows": windows, "references": texts.references, "floors": FLOORS, "users": users}
    read |= {"on": (on := flagged([*sound.values()], windows, texts)), "predictions": [*sound.values()], "methods": [*sound]}
    # a board of older code lacks columns
    found = [TABLES["leaderboard"].arrow().empty_table(), *map(pq.read_table, boards)]
    on.register("boards", pa.concat_tables(found, promote_options="default"))
    rows = ("methods", "cleaning", "cases", "curves", "board", "seeds")
    told: dict[str, Any] = {name: query(_SQL[name], **read).to_pylist() for name in rows}
    population = {row["metric"]: row["value"] for row in query(_SQL["population"], **read).to_pylist()}
    told |= {name: int(population.get(name, 0)) for name in ("test_rows", "rows_in")}
    told["dropped"] = {name.removeprefix("dropped_"): int(n) for name, n in population.items() if name.startswith("dropped_")}
    return Report(dataset, liked_share=population.get("liked_share"), **told, **more)


def training_curve(adapter: Path) -> list[dict[str, Any]]:
    """The epochs of an adapter's manifest: ``epoch``, ``train_loss`` and ``valid_auc``, None where it was not measured."""
    return json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))["epochs"]
