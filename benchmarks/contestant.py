"""Ours as a contestant: the plan, execute, publish layer over one engine, with a cache of its own for every round."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import inputs
from benchmarks.harness import CACHE, fresh_folder, serve
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling, TextGenerator
from reasoningrec_assets.generation.run import write_texts
from reasoningrec_assets.settings import EngineSettings

BATCH = 64
SHARE = 0.3  # of a card: several contestants are loaded at once


def requests_of(order: dict) -> list[Request]:
    """The requests that an order names; each round's differ from the start, so that no engine finds them computed.

    Of a ``sample`` of 8 it is every eighth, in each round another one.
    """
    makers = {"descriptions": inputs.descriptions, "reasonings": inputs.reasonings, "targets": inputs.many_targets}
    return [replace(request, message=f"({order['round']}) {request.message}") for request in makers[order["set"]](order["size"])]


def main(kind: str, *flags: str) -> None:
    folder = inputs.endless_model()
    settings = EngineSettings(
        kind=kind,
        eager="eager" in flags,
        max_model_tokens=2048,
        prefix_caching="uncached" not in flags,
        gpu_memory_share=SHARE,
    )
    started = time.monotonic()
    with open_engine(settings, str(folder), CACHE, batch_size=BATCH, log=lambda line: print(line, file=sys.stderr)) as engine:

        def work(order: dict) -> dict[str, float]:
            requests, tokens, parts = requests_of(order), order["tokens"], order.get("sample", 1)
            requests = requests[order["round"] % parts :: parts]
            if order.get("shuffled"):
                return shuffled(engine, requests, tokens)
            root = fresh_folder()
            writer = Writer(
                model="benchmark",
                identity=ModelIdentity("benchmark", kind),
                sampling=Sampling(tokens, 0.0, 1.0, seed=0),
                cache_root=root / "cache",
                open_engine=lambda: contextlib.nullcontext(engine),
                chunk_size=512,
                order="length" if kind == "transformers" else "prefix",
                log=lambda _: None,
            )
            began = time.monotonic()
            written = write_texts(requests, lambda request: request, writer)
            seconds = time.monotonic() - began
            shutil.rmtree(root)
            assert written.metrics["generation_completion_tokens"] == tokens * written.metrics["generation_different_requests"]
            return {"seconds": seconds, "tokens": written.metrics["generation_completion_tokens"]}

        serve(work, start_seconds=time.monotonic() - started)


def shuffled(engine: TextGenerator, requests: list[Request], tokens: int) -> dict[str, float]:
    """The same requests without the layer that puts equal beginnings together."""
    random.Random(0).shuffle(requests)
    began = time.monotonic()
    answers = engine.generate(
        [(f"{place:064x}", request) for place, request in enumerate(requests)], Sampling(tokens, 0.0, 1.0, seed=0)
    )
    return {"seconds": time.monotonic() - began, "tokens": sum(answer.completion_tokens for answer in answers)}


if __name__ == "__main__":
    # a lease of its own: several contestants are loaded at once, and one at a time works
    tempfile.tempdir = str(fresh_folder())
    main(*sys.argv[1:])
    shutil.rmtree(Path(tempfile.tempdir))
