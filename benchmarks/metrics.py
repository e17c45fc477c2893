"""The AUC with 1,000 bootstrap replicates, beside scikit-learn's AUC of as many resamples, for users of one and of several rows.

Resampling ten million rows a thousand times takes hours: the peer draws a few and is counted with a thousand, which is said.
How wide its interval is shows on fewer rows, where it draws all of them.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.harness import Figure, median_ratio
from reasoningrec_assets.metrics.intervals import mean_interval
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
        figures += _of_users(rows, labels, scores, details["seconds"])
    return figures + _widths(*((500, 200) if quick else (50_000, 1_000)))


def _of_users(rows, labels, scores, alone: float) -> list[Figure]:
    """What it costs that users have four rows each, and the interval of a mean over them."""
    users, found = np.arange(rows) // 4, []
    for what, interval in (("AUC", auc_interval), ("mean", lambda _, scores, **more: mean_interval(scores, **more))):
        clock = time.monotonic()
        interval(labels, scores, groups=users, replicates=REPLICATES)
        seconds = time.monotonic() - clock
        named = f"{rows:,} rows: {what} of users of four rows, times the AUC of users of one"
        found.append(Figure(named, seconds / alone, 3, at_most=True, details={"seconds": seconds}))
    return found


def _widths(users: int, drawn: int) -> list[Figure]:
    """How wide our interval is, in that of scikit-learn's AUC of users drawn with replacement: neither wider nor narrower."""
    random, found = np.random.default_rng(users), []
    for size in (1, 4):
        # what the rows of a user have in common makes an interval over rows too narrow
        labels = np.repeat(random.random(users) < 0.5, size)
        scores = np.repeat(random.normal(size=users), size) + random.normal(scale=0.5, size=len(labels)) + labels
        rows, aucs = np.arange(len(labels)).reshape(users, size), []
        for _ in range(drawn):
            chosen = rows[random.integers(users, size=users)].ravel()
            aucs.append(roc_auc_score(labels[chosen], scores[chosen]))
        low, high = np.quantile(aucs, [0.025, 0.975])
        ours = auc_interval(labels, scores, groups=np.arange(len(labels)) // size, replicates=REPLICATES)
        share = float((ours.high - ours.low) / (high - low))
        named = f"{users:,} users of {size}: width of the interval, in that of {drawn} resamples"
        found += [Figure(named, share, 1.15, at_most=True), Figure(named, share, 0.85)]
    return found
