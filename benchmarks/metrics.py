"""The AUC with 1,000 bootstrap replicates, beside scikit-learn's AUC of as many resamples.

Resampling ten million rows a thousand times takes hours: the peer draws a few and is counted with a thousand, which is said.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.harness import Figure, median_ratio
from reasoningrec_assets.metrics.ranking import auc_interval

REPLICATES, DRAWN = 1_000, 3


def run(quick: bool) -> list[Figure]:
    figures = []
    for rows in (10_000,) if quick else (1_000_000, 10_000_000):
        random = np.random.default_rng(rows)
        labels = random.random(rows) < 0.5
        scores = random.normal(size=rows) + labels
        ours, theirs = [], []
        for _ in range(1 if quick or rows > 1_000_000 else 3):
            clock = time.monotonic()
            interval = auc_interval(labels, scores, replicates=REPLICATES)
            ours.append(time.monotonic() - clock)
            clock = time.monotonic()
            for _ in range(DRAWN):
                chosen = random.integers(rows, size=rows)
                roc_auc_score(labels[chosen], scores[chosen])
            theirs.append((time.monotonic() - clock) * REPLICATES / DRAWN)
            print(f"{rows:,} rows: ours {ours[-1]:.1f} s, scikit-learn {theirs[-1]:.0f} s for {REPLICATES}", flush=True)
        details = {
            "seconds": float(np.median(ours)),
            f"scikit-learn's, {DRAWN} resamples times {REPLICATES // DRAWN}": float(np.median(theirs)),
        }
        figures.append(Figure(f"{rows:,} rows: times resampled scikit-learn", median_ratio(theirs, ours), 10, details=details))
        off = abs(interval.value - roc_auc_score(labels, scores))
        figures.append(Figure(f"{rows:,} rows: difference of AUC", off, 1e-6, at_most=True))
        # the bootstrap's spread against Hanley and McNeil's for this many rows, as a check that it draws what it should
        figures.append(
            Figure(f"{rows:,} rows: width of the interval, in DeLong's", _width(labels, scores, interval), 1.2, at_most=True)
        )
    return figures


def _width(labels, scores, interval) -> float:
    from reasoningrec_assets.metrics.comparison import delong

    error = delong(labels, scores, np.zeros(len(scores))).standard_error
    return (interval.high - interval.low) / (2 * 1.96 * error)
