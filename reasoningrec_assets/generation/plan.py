"""What a run would do, before anything is spent: missing answers, chunks, cost; it holds no texts, so memory stays flat."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.cache import GenerationCache
from reasoningrec_assets.generation.requests import Answer, ModelIdentity, Request, Sampling, TextGenerator, key_of

COUNTED = 256  # requests whose tokens are counted; the rest is taken to be like them
CHARACTERS_PER_TOKEN = 4  # where no tokenizer is at hand, as behind a server's URL; English text in current vocabularies
Order = Literal["length", "prefix"]


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
    prices: tuple[float, float] = (0.0, 0.0)  # money per million tokens of prompts, and of answers
    count_tokens: Callable[[str], int] | None = None
    dry_run: bool = False  # stop after the plan
    log: Log = print
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
    names, keys = list[str](), list[str]()
    ranks: dict[str, tuple[Any, ...]] = {}
    for place, row in enumerate(rows):
        request = ask(row)
        key = key_of(request, writer.identity, writer.sampling)
        names.append(request.row)
        keys.append(key)
        if key not in ranks:
            ranks[key] = (*_rank(request.message, writer.order), key, place)
    submitted = [place for *_, place in sorted(ranks.values())]
    chunks = [submitted[start : start + writer.chunk_size] for start in range(0, len(submitted), writer.chunk_size)]
    hits, seconds_per_token = cache.lookup(ranks.keys(), log=writer.log)
    missing = [place for place in submitted if keys[place] not in hits]
    counted = min(COUNTED, len(missing))  # evenly spread over their order
    messages = [ask(rows[missing[index * len(missing) // counted]]).message for index in range(counted)]
    counts = {"requests": len(rows), "different_requests": len(ranks), "cache_hits": len(hits), "missing": len(missing)}
    estimate = {name: float(count) for name, count in counts.items()}
    return Plan(names, keys, chunks, hits, estimate | _cost(messages, len(missing), seconds_per_token, writer))


def described(plan: Plan, model: str) -> str:
    """The plan on one line, said before anything is spent."""
    figures = plan.estimate
    text = "{requests:.0f} requests, {different_requests:.0f} different, {cache_hits:.0f} in the cache, {missing:.0f} to write with {model}"
    if figures["missing"]:
        text += ": about {prompt_tokens:.0f} prompt tokens, at most {completion_tokens:.0f} new ones"
        text += ", at most {seconds:.0f} s for these" if "seconds" in figures else ", no time known yet of this model"
        text += ", cost about {cost:.2f}" if "cost" in figures else ""
    return text.format(**figures, model=model)


def _rank(message: str, order: Order) -> tuple[Any, ...]:
    if order == "length":  # longest first: padding is wasted work, and the largest batch shows at once whether memory is enough
        return (-len(message),)
    # by shared beginnings of up to 8,192 characters, which a prefix cache computes once
    return tuple(zlib.crc32(message[: 256 << step].encode()) for step in range(6))


def _cost(messages: Sequence[str], missing: int, seconds_per_token: float | None, writer: Writer) -> dict[str, float]:
    """What so many requests cost, of which some are given: tokens, and where it is known, time and money."""
    count = writer.count_tokens or (lambda text: len(text) // CHARACTERS_PER_TOKEN)
    sampling = writer.sampling
    prompt = sum(map(count, messages)) * missing / len(messages) if messages else 0.0
    completion = float(missing * (sampling.max_new_tokens + sampling.retry_tokens))
    figures = {"prompt_tokens": prompt, "completion_tokens": completion}
    if seconds_per_token is not None:
        figures["seconds"] = completion * seconds_per_token
    return figures | billed(writer.prices, prompt * (2 if sampling.retry_tokens else 1), completion)


def billed(prices: tuple[float, float], *tokens: float) -> dict[str, float]:
    """The figure ``cost`` of so many tokens of prompts and of answers; none where nothing is billed."""
    return {"cost": sum(price * count for price, count in zip(prices, tokens, strict=True)) / 1e6} if any(prices) else {}
