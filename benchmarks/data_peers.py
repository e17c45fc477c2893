"""Raw ratings to windows beside what others do with the same file: the notebooks' pandas filter, RecTools, RecBole.

The first two read `ratings.dat` as they publish it, with pandas' `::`; that is MovieLens-1M's and 10M's own layout, and ours reads
it too. RecBole reads its atomic file. What RecTools needs for a plain CSV stands beside, without a bar. RecTools and RecBole only
load and number the rows; the notebooks and ours also sort, filter and cut three windows for every user.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.harness import PEERS, Figure, fresh_folder, median_ratio, ours, peer, whole_process
from benchmarks.ratings import ratings
from reasoningrec_assets.sql import connect, literal


def layouts(rows: int) -> dict[str, Path]:
    """The same ratings as CSV, as `ratings.dat` and as RecBole's atomic file."""
    path = ratings(rows)
    files = {"csv": path, "dat": path.with_name("ratings.dat"), "inter": path.with_name(f"{path.parent.name}.inter")}
    if not files["inter"].exists():
        columns = {
            "user_id:token": "userId",
            "item_id:token": "movieId",
            "rating:float": "rating",
            "timestamp:float": "timestamp",
        }
        renamed = ", ".join(f'"{old}" AS "{new}"' for new, old in columns.items())
        with path.open() as source, files["dat"].open("w") as sink:
            next(source)
            sink.writelines(line.replace(",", "::") for line in source)
        sql = f"COPY (SELECT {renamed} FROM read_csv({literal(str(path))})) TO {literal(str(files['inter']))} (HEADER, DELIMITER '\t')"
        connect().execute(sql)
    return files


def run(quick: bool) -> list[Figure]:
    figures = []
    for rows, times in ({2_000: 1} if quick else {1_000_209: 5, 10_000_000: 3}).items():
        files, folder, script = layouts(rows), fresh_folder(), str(PEERS / "preparation.py")
        commands = {
            "ours": ours("prepare", str(files["dat"]), str(folder)),
            "rectools": [*peer("rectools", "preparation.py"), "rectools", str(files["dat"])],
            "recbole": [*peer("recbole", "preparation.py"), "recbole", str(files["inter"])],
            "ours, csv": ours("prepare", str(files["csv"]), str(folder)),
            "rectools, csv": [*peer("rectools", "preparation.py"), "rectools", str(files["csv"])],
        }
        if rows < 10_000_000:  # a user's filter costs a pass over the rows: an hour at ten million
            commands["notebook"] = [sys.executable, "-P", script, "notebook", str(files["dat"])]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(times):
            for name, command in commands.items():
                found[name].append(whole_process(command))
                print(f"{rows} rows, round {number + 1}: {name} {found[name][-1]}", flush=True)
        shutil.rmtree(folder)
        seconds = {name: [one["seconds"] for one in runs] for name, runs in found.items()}
        memory = {name: [one["mb"] for one in runs] for name, runs in found.items()}
        middle = {
            name: f"{statistics.median(seconds[name]):.2f} s, {statistics.median(memory[name]):.0f} MB" for name in commands
        }
        if "notebook" in found:
            figures.append(
                Figure(f"{rows} rows, times the speed of the notebooks", median_ratio(seconds["notebook"], seconds["ours"]), 10)
            )
        for name in ("rectools", "recbole"):
            figures.append(Figure(f"{rows} rows, times the speed of {name}", median_ratio(seconds[name], seconds["ours"]), 1))
            share = median_ratio(memory["ours"], memory[name])
            figures.append(Figure(f"{rows} rows, share of the memory of {name}", share, 0.5, at_most=True, details=middle))
    return figures
