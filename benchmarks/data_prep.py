"""Raw ratings to windows, whole process, at the size of MovieLens-1M, at that of MovieLens-25M, and whether time grows as rows do."""

from __future__ import annotations

import shutil
import statistics

from benchmarks.harness import Figure, fresh_folder, ours, whole_process
from benchmarks.ratings import ratings

ML1M, ML25M = 1_000_209, 25_000_000


def run(quick: bool) -> list[Figure]:
    sizes = (
        {10_000: 1, 20_000: 1, 40_000: 1}
        if quick
        else {ML1M: 5, 3_000_000: 3, 10_000_000: 3, ML25M: 3, 50_000_000: 1, 100_000_000: 1}
    )
    seconds, peaks = {}, {}
    for rows, times in sizes.items():
        folder = fresh_folder()
        runs = [whole_process(ours("prepare", str(ratings(rows)), str(folder))) for _ in range(times)]
        shutil.rmtree(folder)
        seconds[rows] = statistics.median(one["seconds"] for one in runs)
        peaks[rows] = max(one["mb"] for one in runs)
        print(f"{rows} rows: {seconds[rows]:.2f} s, {peaks[rows]:.0f} MB (of {times})", flush=True)
    small, large = (10_000, 40_000) if quick else (ML1M, ML25M)
    # the line through all sizes but the largest, held against that one: a cost above linear would show there
    *known, largest = seconds
    slope, start = statistics.linear_regression(known, [seconds[rows] for rows in known])
    details = {f"at {rows}": f"{seconds[rows]:.2f} s, {peaks[rows]:.0f} MB" for rows in sizes}
    return [
        Figure(f"{small} rows", seconds[small], 3, at_most=True, unit=" s"),
        Figure(f"{large} rows", seconds[large], 60, at_most=True, unit=" s"),
        Figure(f"peak memory at {large} rows", peaks[large], 4096, at_most=True, unit=" MB"),
        Figure(
            f"time at {largest} rows against the line through the smaller sizes",
            seconds[largest] / (start + slope * largest),
            1.25,
            at_most=True,
            details={"line": f"{start:.2f} s + {slope * 1e6:.3f} s per million rows", **details},
        ),
    ]
