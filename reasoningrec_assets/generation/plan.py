"""What a run would do, before anything is spent: which answers are missing, in which chunks, and what they cost.

What belongs here: keys, order, chunks and the estimate. What doesn't: running any of it (`run`). Requests are rendered
when they are looked at and again when they are sent: a plan holds their keys, never their texts, so memory stays flat.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.generation.cache import GenerationCache, Speed
from reasoningrec_assets.generation.requests import Answer, ModelIdentity, Request, Sampling, TextGenerator, key_of

COUNTED = 256
"""Requests whose tokens are counted; the rest is taken to be like them."""
CHARACTERS_PER_TOKEN = 4
"""Where no tokenizer is at hand, as behind a server's URL; English text in current vocabularies."""

Order = Literal["length", "prefix"]


@dataclass(frozen=True)
class Prices:
    """Money per million tokens, in whatever currency the server bills."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Writer:
    """How requests become texts: the model, its engine, and who hears of the progress."""

    model: str  # the model's reference, for people
    identity: ModelIdentity
    sampling: Sampling
    cache_root: Path
    # entered only when something is missing; holds a device where the engine needs one
    open_engine: Callable[[], AbstractContextManager[TextGenerator]]
    chunk_size: int  # requests handed over and committed together; a killed run repeats at most this many
    order: Order = "length"  # what the engine is fastest with: equal lengths, or equal beginnings, after each other
    max_failed_share: float = 0.0  # the run fails when more than this share of the requests got no answer
    word_limit: int | None = None  # the share of longer texts is measured
    prices: Prices = field(default_factory=Prices)
    count_tokens: Callable[[str], int] | None = None
    dry_run: bool = False  # stop after the plan
    log: Callable[[str], None] = print
    observe: Callable[[Mapping[str, float]], None] = lambda _: None  # receives the progress as figures


@dataclass(frozen=True)
class Plan:
    """The requests of a run by name and key, one of each per row, in chunks of places, and what the cache has of them."""

    names: list[str]
    keys: list[str]
    chunks: list[list[int]]
    hits: dict[str, Answer]
    estimate: dict[str, float]


def make_plan(rows: Sequence[Any], ask: Callable[[Any], Request], writer: Writer, cache: GenerationCache) -> Plan:
    """Name every request, put the different ones in order, and look up what is there already.

    Order and chunks depend on the requests alone, never on what the cache holds, so a resumed run has the same chunks:
    low-precision arithmetic gives other texts in other company.
    """
    names: list[str] = []
    keys: list[str] = []
    places: dict[str, int] = {}
    sorting: dict[str, tuple[Any, ...]] = {}
    for place, row in enumerate(rows):
        request = ask(row)
        key = key_of(request, writer.identity, writer.sampling)
        names.append(request.row)
        keys.append(key)
        if key not in places:
            places[key] = place
            sorting[key] = (*_rank(request.message, writer.order), key)
    submitted = [places[key] for key in sorted(places, key=sorting.__getitem__)]
    hits, speed = cache.lookup(places.keys(), log=writer.log)
    missing = [place for place in submitted if keys[place] not in hits]
    estimate = _estimate([ask(rows[place]).message for place in _spread(missing)], len(missing), speed, writer)
    estimate |= {"requests": float(len(rows)), "different_requests": float(len(places)), "cache_hits": float(len(hits))}
    chunks = [submitted[start : start + writer.chunk_size] for start in range(0, len(submitted), writer.chunk_size)]
    return Plan(names, keys, chunks, hits, estimate)


def described(plan: Plan, model: str) -> str:
    """The plan on one line, said before anything is spent."""
    figures = plan.estimate
    text = (
        f"{figures['requests']:.0f} requests, {figures['different_requests']:.0f} different, {figures['cache_hits']:.0f} in the cache, "
        f"{figures['missing']:.0f} to write with {model}"
    )
    if figures["missing"]:
        text += f": about {figures['prompt_tokens']:.0f} prompt tokens, at most {figures['completion_tokens']:.0f} new ones"
        text += f", about {figures['seconds']:.0f} s for these" if "seconds" in figures else ", no time known yet of this model"
        text += f", cost at most {figures['cost']:.2f}" if "cost" in figures else ""
    return text


def _rank(message: str, order: Order) -> tuple[Any, ...]:
    if order == "length":  # longest first: padding is wasted work, and the largest batch shows at once whether memory is enough
        return (-len(message),)
    # by shared beginnings of up to 8,192 characters, which a prefix cache computes once
    return tuple(zlib.crc32(message[: 256 << step].encode()) for step in range(6))


def _spread(places: Sequence[int]) -> Sequence[int]:
    """At most `COUNTED` of the places, evenly spread over their order."""
    return [places[index * len(places) // COUNTED] for index in range(COUNTED)] if len(places) > COUNTED else places


def _estimate(messages: Sequence[str], missing: int, speed: Speed, writer: Writer) -> dict[str, float]:
    count = writer.count_tokens or (lambda text: len(text) // CHARACTERS_PER_TOKEN)
    prompt = sum(map(count, messages)) * missing / len(messages) if messages else 0.0
    completion = float(missing * (writer.sampling.max_new_tokens + writer.sampling.retry_tokens))
    figures = {"missing": float(missing), "prompt_tokens": prompt, "completion_tokens": completion}
    if speed.tokens:
        figures["seconds"] = completion * speed.seconds / speed.tokens
    if writer.prices.prompt or writer.prices.completion:
        figures["cost"] = writer.prices.of(prompt * (2 if writer.sampling.retry_tokens else 1), completion)
    return figures
