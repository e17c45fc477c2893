"""Sixteen targets a user over one profile and history: submitted by prefix with caching, and shuffled without it."""

from __future__ import annotations

from benchmarks.harness import Contestant, Figure, median_ratio, ours, rounds


def run(quick: bool) -> list[Figure]:
    order = {"set": "targets", "size": 32, "tokens": 4} if quick else {"set": "targets", "size": 256, "tokens": 32}
    shared = Contestant("by prefix, cached", ours("contestant", "vllm", "eager"))
    plain = Contestant("shuffled, uncached", ours("contestant", "vllm", "eager", "uncached"), shuffled=True)
    found = rounds([shared, plain], 1 if quick else 5, **order)
    seconds = {name: [one["seconds"] for one in values] for name, values in found.items()}
    for contestant in (shared, plain):
        contestant.close()
    ratio = median_ratio(seconds[plain.name], seconds[shared.name])
    return [
        Figure(
            "throughput with shared prefixes, times without", ratio, 1.5, details={name: min(s) for name, s in seconds.items()}
        )
    ]
