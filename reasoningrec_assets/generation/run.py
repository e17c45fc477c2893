"""Plan, execute, publish: from requests to one answer each, paying only for what is not there yet.

What belongs here: the order of these three and what is said while they run. What doesn't: prompts (the caller renders
them), storage of answers (`cache`) and models (`engines`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from reasoningrec_assets.errors import TransientError
from reasoningrec_assets.generation.cache import GenerationCache
from reasoningrec_assets.generation.requests import (
    Answer,
    ModelIdentity,
    Progress,
    Request,
    Sampling,
    TextGenerator,
    in_batches,
    key_of,
)
from reasoningrec_assets.prompts.text import one_line, trim_to_sentence


@dataclass(frozen=True)
class Text:
    """A published answer: what the tables of the teacher's texts hold for one row."""

    row: str
    text: str
    status: str
    finish_reason: str
    cache_key: str


@dataclass(frozen=True)
class Written:
    """All texts in the order of their requests, and the figures of the run."""

    texts: list[Text]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What a run would do, before anything is spent."""

    keys: list[str]
    batches: list[list[tuple[str, Request]]]
    hits: dict[str, Answer]

    @property
    def missing(self) -> int:
        """Answers that the cache does not hold."""
        return sum(len(batch) for batch in self.batches) - len(self.hits)


def make_plan(
    requests: Sequence[Request],
    identity: ModelIdentity,
    sampling: Sampling,
    cache: GenerationCache,
    *,
    batch_size: int,
    log: Progress,
) -> Plan:
    """Render keys, form batches over all requests, and look up what is there already."""
    keys = [key_of(request, identity, sampling) for request in requests]
    batches = in_batches(zip(keys, requests, strict=True), batch_size)
    return Plan(keys, batches, cache.lookup(set(keys), log=log))


def write_texts(
    requests: Sequence[Request],
    *,
    identity: ModelIdentity,
    sampling: Sampling,
    cache_root: Path,
    open_engine: Callable[[], AbstractContextManager[TextGenerator]],
    batch_size: int,
    chunk_size: int,
    max_failed_share: float = 0.0,
    log: Progress = print,
) -> Written:
    """Answer every request, from the cache where it is there and from the engine where it is not.

    Args:
        requests: One per row; equal ones are answered once.
        identity: Which model answers.
        sampling: How it draws.
        cache_root: Folder of all generation caches.
        open_engine: Loads the engine; entered only when something is missing, and only after a device is held.
        batch_size: Requests decoded together.
        chunk_size: Requests committed together; a killed run loses less than this.
        max_failed_share: The run fails when more than this share of the requests got no answer.
        log: Receives the plan and then progress, at most one line every ten seconds.

    Returns:
        One text per request, in order.

    Raises:
        TransientError: Too many requests failed; what was answered is in the cache.
    """
    started = time.monotonic()
    cache = GenerationCache(cache_root, identity)
    plan = make_plan(requests, identity, sampling, cache, batch_size=batch_size, log=log)
    log(
        f"{len(requests)} requests, {len(set(plan.keys))} different, {len(plan.hits)} in the cache, {plan.missing} to write with {identity.model}"
    )
    answers = dict(plan.hits)
    written: list[Answer] = []
    if plan.missing:
        with open_engine() as engine:
            # whoever held the device before may have written the same answers meanwhile
            answers |= cache.lookup(set(plan.keys) - set(answers), log=log)
            written = _execute(plan, answers, engine, sampling, cache, chunk_size=chunk_size, log=log)
    answers |= {answer.key: answer for answer in written}
    return _published(requests, plan, answers, written, max_failed_share, seconds=time.monotonic() - started)


def _execute(
    plan: Plan,
    known: dict[str, Answer],
    engine: TextGenerator,
    sampling: Sampling,
    cache: GenerationCache,
    *,
    chunk_size: int,
    log: Progress,
) -> list[Answer]:
    """Run the planned batches, leaving out what is known, and commit every `chunk_size` answers."""
    todo = [[entry for entry in batch if entry[0] not in known] for batch in plan.batches]
    total = sum(map(len, todo))
    written: list[Answer] = []
    chunk: list[Answer] = []
    started = said = time.monotonic()
    planned = 0
    for batch, missing in zip(plan.batches, todo, strict=True):
        planned += len(batch)
        if missing:
            answers = engine.generate(missing, sampling)
            written += answers
            chunk += answers
        # chunk borders are places in the plan, not counts of answers: a resumed run commits the same chunks
        if chunk and (planned >= chunk_size or len(written) == total):
            cache.commit(chunk)
            chunk = []
        if planned >= chunk_size:
            planned = 0
        now = time.monotonic()
        if missing and (now - said >= 10 or len(written) == total):
            tokens = sum(answer.completion_tokens for answer in written)
            left = (now - started) / len(written) * (total - len(written))
            log(
                f"wrote {len(written)} of {total} ({len(known)} were in the cache), {tokens / (now - started):.0f} tokens/s, {left:.0f} s to go"
            )
            said = now
    return written


def _published(
    requests: Sequence[Request],
    plan: Plan,
    answers: dict[str, Answer],
    written: list[Answer],
    max_failed_share: float,
    *,
    seconds: float,
) -> Written:
    texts = [_published_text(request, answers[key]) for request, key in zip(requests, plan.keys, strict=True)]
    statuses = Counter(text.status for text in texts)
    if texts and statuses["failed"] / len(texts) > max_failed_share:
        first = next(answers[text.cache_key].error for text in texts if text.status == "failed")
        raise TransientError(
            "write all texts",
            where=f"{statuses['failed']} of {len(texts)} requests failed",
            problem=f"more than the allowed share of {max_failed_share:.0%}; the first error is: {first}",
            remedy="Run again: what was answered is in the cache; raise max_failed_share to go on without the rest",
        )
    compute = sum(answer.seconds for answer in written)
    completion = sum(answer.completion_tokens for answer in written)
    metrics = {
        "generation_requests": float(len(requests)),
        "generation_different_requests": float(len(set(plan.keys))),
        "generation_cache_hits": float(len(set(plan.keys)) - len(written)),
        "generation_calls": float(len(written)),
        "generation_prompt_tokens": float(sum(answer.prompt_tokens for answer in written)),
        "generation_completion_tokens": float(completion),
        "generation_tokens_per_second": completion / compute if compute else 0.0,
        "generation_seconds": seconds,
        **{f"generation_{status}": float(statuses[status]) for status in ("ok", "trimmed", "empty", "failed")},
    }
    return Written(texts, metrics)


def _published_text(request: Request, answer: Answer) -> Text:
    text = one_line(answer.text)
    status = "ok" if text else "empty"
    if answer.error is not None:
        text, status = "", "failed"
    elif answer.finish_reason == "length" and text:
        text = trim_to_sentence(text)
        status = "trimmed" if text else "empty"
    return Text(request.row, text, status, answer.finish_reason, answer.key)
