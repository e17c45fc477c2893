"""The leaderboards of ml100k, one for each seed, from the scores that its runs saved: nothing is trained or written again.

`python -m benchmarks.leaderboard PARTITION ...` keeps what `REASONINGREC_DATA` holds of these partitions' methods in
`results/leaderboard/`: scores alone, by the place of their window, since MovieLens may not be passed on. Methods that it does
not hold stay as they were kept, so that a board may be made on one machine after another; those of older code are named.
A partition for another seed is a dataset declared with `base = "ml100k"`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.harness import CACHE, RESULTS, Figure, describe_machine
from benchmarks.inputs import tables
from reasoningrec_assets.assets.evaluation import COMPARED
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Lake, code_version
from reasoningrec_assets.metrics.leaderboard import leaderboard
from reasoningrec_assets.sql import query
from reasoningrec_assets.training.student import probability

FOLDER, KEPT = CACHE / "leaderboard", RESULTS / "leaderboard"
WINDOWS = "SELECT split, user_id, target_item_id, label FROM read_parquet($windows) WHERE split <> 'train' ORDER BY ALL"
SCORES = f"""
    WITH placed AS (SELECT row_number() OVER () - 1 AS place, * FROM ({WINDOWS}))
    SELECT place, score FROM read_parquet($predictions) JOIN placed USING (split, user_id, target_item_id) ORDER BY place
"""
SAME = 1e-4  # of an AUC: scores are kept to five decimals, which may tie a few


def run(quick: bool) -> list[Figure]:
    """Each seed's AUCs as its run wrote them; their means over the seeds are the result's details."""
    boards = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))}
    if not boards:
        raise SystemExit(f"{KEPT} is empty: run python -m benchmarks.leaderboard ml100k first")
    aucs: dict[str, list[float]] = {}
    figures = []
    for partition, board in boards.items():
        rows = recomputed(partition, board["methods"], replicates=10 if quick else 1000)
        off = max(abs(row["auc"] - board["methods"][row["method"]]["auc"]) for row in rows)
        for row in rows:
            aucs.setdefault(row["method"], []).append(row["auc"])
        about = {row["method"]: row for row in rows}
        old = [name for name, kept in board["methods"].items() if not of_today(kept.get("made_by"))]
        figures.append(Figure(f"{partition}: largest difference from the run's own AUC", off, SAME, at_most=True, details=about))
        figures.append(
            Figure(f"{partition}: methods of older code", len(old), 0, at_most=True, details=dict.fromkeys(old, "older"))
        )
    means = {
        method: {"mean": statistics.mean(found), "deviation": statistics.stdev(found) if found[1:] else None, "seeds": len(found)}
        for method, found in sorted(aucs.items(), key=lambda item: -statistics.mean(item[1]))
    }
    return [*figures, Figure("seeds", len(boards), 3, details=means)]


def recomputed(partition: str, methods: dict[str, Any], replicates: int) -> list[dict[str, Any]]:
    """The rows of the leaderboard, from scores and the windows that they belong to."""
    windows, _ = tables()
    placed = query(WINDOWS, windows=str(windows)).to_pylist()
    files = {}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for method, kept in methods.items():
        scored = zip(kept["places"] or range(len(placed)), kept["scores"], strict=True)
        told = {"dataset": partition, "method": method}
        rows = [placed[place] | told | {"score": score, "probability": probability(score)} for place, score in scored]
        files[method] = FOLDER / f"{partition}-{method}.parquet"
        pq.write_table(TABLES["predictions"].table(rows), files[method])
    return leaderboard(files, dataset=partition, windows=windows, replicates=replicates, seed=42).to_pylist()


def of_today(made_by: dict[str, str] | None) -> bool:
    """Whether these versions of the code, by asset, are today's."""
    return made_by is not None and all(code_version(asset) == version for asset, version in made_by.items())


def keep(partition: str) -> None:
    """Put the scores of a partition's methods into `results/leaderboard/`, with what they were made from and came to."""
    lake, (windows, _) = Lake(Path(os.environ.get("REASONINGREC_DATA", "data"))), tables()
    board = lake.newest("leaderboard", partition)
    rows = pq.read_table(lake.path_of(board)).to_pylist()
    aucs = {row["method"]: row["auc"] for row in rows if not row["problem"]}
    path = KEPT / f"{partition}.json"
    methods = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.exists() else {}
    for method in aucs:
        receipt = lake.newest(COMPARED[method].key.to_user_string(), partition)
        scored = query(SCORES, windows=str(windows), predictions=str(lake.path_of(receipt))).to_pydict()
        scores = {"places": scored["place"], "scores": [round(score, 5) for score in scored["score"]]}
        if len(scores["places"]) == query(f"SELECT count(*) AS n FROM ({WINDOWS})", windows=str(windows))["n"][0].as_py():
            scores["places"] = None  # all of them, as every floor has
        made_by = {made.asset: made.code_version for made in lake.receipts.ancestry([receipt])}
        methods[method] = {"data_version": receipt.data_version, "made_by": made_by, "auc": aucs[method]} | scores
    about = {"data_version": board.data_version, **describe_machine(), "methods": methods}
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        keep(name)
