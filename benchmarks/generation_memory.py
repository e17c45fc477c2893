"""The memory of planning and publishing 100,000 requests with long prompts, outside the engine."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.harness import ROOT, Figure

CHILD = """
import contextlib, json, resource, shutil, sys
from benchmarks.generation_warm import Echo
from benchmarks.harness import fresh_folder
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import write_texts
count, order = int(sys.argv[1]), sys.argv[2]
root = fresh_folder()
writer = Writer(model="benchmark", identity=ModelIdentity("benchmark", "echo"), sampling=Sampling(256, 0.0, 1.0, seed=0),
    cache_root=root / "cache", open_engine=lambda: contextlib.nullcontext(Echo()), chunk_size=512, order=order, log=lambda _: None)
write_texts(range(count), lambda row: Request(str(row), f"User {row // 16}: " + "the user liked this film very much; " * 240 + str(row)), writer)
shutil.rmtree(root)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def run(quick: bool) -> list[Figure]:
    sizes = (500, 1000) if quick else (25_000, 50_000, 100_000)
    peaks = {
        size: max(
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", CHILD, str(size), order], capture_output=True, text=True, check=True, cwd=ROOT
                ).stdout
            )
            for order in ("length", "prefix")
        )
        for size in sizes
    }
    details = {f"at {size}": f"{peak:.0f} MB" for size, peak in peaks.items()}
    return [
        Figure(
            f"peak memory of {sizes[-1]} requests of 8,700 characters",
            peaks[sizes[-1]],
            2048,
            at_most=True,
            unit=" MB",
            details=details,
        )
    ]
