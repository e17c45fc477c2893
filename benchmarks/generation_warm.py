"""What a rerun costs: unchanged, with one per cent more users, and with one word of one template changed."""

from __future__ import annotations

import contextlib
import shutil
import time

from benchmarks.harness import Figure, fresh_folder
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import Answer, ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import write_texts

STEPS = ("descriptions", "profiles", "reasonings")


class Echo:
    """An engine that costs nothing, and counts: what is measured is the layer above it."""

    def __init__(self) -> None:
        self.calls = 0

    def generate(self, chunk, sampling):  # noqa: ARG002
        self.calls += len(chunk)
        return [Answer(key, f"A sentence about {request.row}. " * 5, "stop", 100, 30, 0.01) for key, request in chunk]


def run(quick: bool) -> list[Figure]:
    rows = 300 if quick else 10_000
    root = fresh_folder()
    engine = Echo()

    def write(step: str, count: int, word: str = "Describe") -> float:
        writer = Writer(
            model="benchmark",
            identity=ModelIdentity("benchmark", "echo"),
            sampling=Sampling(64, 0.0, 1.0, seed=0),
            cache_root=root / "cache",
            open_engine=lambda: contextlib.nullcontext(engine),
            chunk_size=64,
            log=lambda _: None,
        )
        started, engine.calls = time.monotonic(), 0
        write_texts(range(count), lambda row: Request(str(row), f"{word} {step} {row}. " + "What the user liked. " * 60), writer)
        return time.monotonic() - started

    for step in STEPS:
        write(step, rows)
    seconds = max(write(step, rows) for step in STEPS)
    unchanged = engine.calls
    write("profiles", rows + rows // 100)
    more = engine.calls
    changed = {step: (write(step, rows, "Explain" if step == "reasonings" else "Describe"), engine.calls)[1] for step in STEPS}
    shutil.rmtree(root)
    return [
        Figure(f"a rerun of {rows} rows, unchanged", seconds, 3, at_most=True, unit=" s", details={"calls": unchanged}),
        Figure("calls of an unchanged rerun", unchanged, 0, at_most=True),
        Figure("calls for one per cent more users, per new user", more / (rows // 100), 1, at_most=True),
        Figure("calls after a word of one template changed, per row of that step", changed["reasonings"] / rows, 1, at_most=True),
        Figure("calls of the other steps", changed["descriptions"] + changed["profiles"], 0, at_most=True),
    ]
