"""What computing a shared history once gains at sixteen targets a user, against what it could gain at most."""

from __future__ import annotations

from benchmarks import students
from benchmarks.harness import Contestant, Figure, median_ratio, ours, rounds
from reasoningrec_assets.models.packing import pack


def run(quick: bool) -> list[Figure]:
    dtype = students.this_device().dtype
    users, targets = (1, 4) if quick else (8, 16)
    rows = students.many_targets(users, targets)
    path = students.saved("targets", rows)
    contestants = [
        Contestant(name, ours("students", "score", dtype, *flags))
        for name, flags in (("shared", ()), ("unshared", ("unshared",)))
    ]
    found = rounds(contestants, 1 if quick else 5, path=str(path))
    for contestant in contestants:
        contestant.close()
    gain = median_ratio(*([one["seconds"] for one in found[name]] for name in ("unshared", "shared")))
    # P tokens shared by a user's targets and S of each its own
    whole = sum(len(row.prompt) for row in rows) / len(rows)
    laid = (
        sum(len(pack([row.prompt for row in rows[at : at + targets]], "cpu").ids) for at in range(0, len(rows), targets)) / users
    )
    shared = (whole * targets - laid) / (targets - 1)
    bound = whole / (shared / targets + whole - shared)
    off = max(abs(one - other) for one, other in zip(found["shared"][0]["scores"], found["unshared"][0]["scores"], strict=True))
    details = {"gain": gain, "bound": bound, "tokens": whole, "of them shared": shared, "largest difference of log-odds": off}
    return [Figure("share of the bound on the gain", gain / bound, 0.75, details=details)]
