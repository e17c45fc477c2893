"""Plan, execute, publish, and what is said while they run: from requests to one answer each, paying only for what is missing."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reasoningrec_assets.errors import DryRun, PlatformError, TransientError
from reasoningrec_assets.generation.cache import GenerationCache
from reasoningrec_assets.generation.plan import Plan, Writer, billed, described, make_plan
from reasoningrec_assets.generation.requests import Answer, Keyed, Request, Sampling, TextGenerator
from reasoningrec_assets.lake.files import WAITED, exclusive
from reasoningrec_assets.prompts.text import plain_text, trim_to_sentence

Row = TypeVar("Row")
QUIET_SECONDS = 10.0  # progress is said at most this often
SUMMED = ("prompt_tokens", "completion_tokens", "seconds", "attempts")  # what an answer counts over all its tries


@dataclass(frozen=True)
class Text:
    """A published answer: what the tables of the teacher's texts hold for one `row`."""

    row: str
    text: str
    status: str
    finish_reason: str
    error: str | None
    model: str
    cache_key: str


@dataclass(frozen=True)
class Written:
    """All texts in the order of their rows, and the figures of the run."""

    texts: list[Text]
    metrics: dict[str, float]


def write_texts(rows: Sequence[Row], ask: Callable[[Row], Request], writer: Writer) -> Written:
    """One text per row, in order: from the cache where it is there, and from the engine where it is not.

    `ask` renders a row's request; it is called again when the request is sent, so that prompts need not be held. Equal
    requests are answered once. Raises DryRun after the plan where only that was asked for, and TransientError when too
    many requests failed; what was answered is then in the cache.
    """
    started = time.monotonic() - WAITED["seconds"]
    cache = GenerationCache(writer.cache_root, writer.identity)
    plan = make_plan(rows, ask, writer, cache)
    writer.log(described(plan, writer.model))
    if writer.dry_run:
        raise DryRun(plan.estimate)
    answers = dict(plan.hits)
    written: list[Answer] = []
    if plan.estimate["missing"]:
        wait = "another run writes with the same model; what it writes is not written twice, waiting"
        # the device comes first, then the lock: the other way round, two runs could wait for each other
        with writer.open_engine() as engine, exclusive(cache.folder / ".lock", on_wait=lambda: writer.log(wait)):
            answers |= cache.lookup(set(plan.keys) - set(answers), log=writer.log)[0]
            chunks = ([(plan.keys[at], ask(rows[at])) for at in chunk if plan.keys[at] not in answers] for chunk in plan.chunks)
            written = _execute(chunks, len(set(plan.keys)) - len(answers), len(answers), engine, cache, writer)
    answers |= {answer.key: answer for answer in written}
    return _published(plan, answers, written, writer, seconds=time.monotonic() - WAITED["seconds"] - started)


def _execute(
    chunks: Iterable[list[Keyed]], total: int, cached: int, engine: TextGenerator, cache: GenerationCache, writer: Writer
) -> list[Answer]:
    """Write the chunks, without those that the cache has whole, commit each of them, and say how far it is."""
    written: list[Answer] = []
    started = said = time.monotonic()
    for chunk in filter(None, chunks):
        answers = _tried_twice(chunk, engine, writer.sampling)
        cache.commit(answers)
        written += answers
        if all(answer.error for answer in answers):  # the server may be down: no need to ask it for all the others
            _tolerate([answer.error for answer in written if answer.error], total + cached, writer)
        if (now := time.monotonic()) - said >= QUIET_SECONDS or len(written) == total:
            said = now
            speed = sum(answer.completion_tokens for answer in written) / (now - started)
            left = (now - started) / len(written) * (total - len(written))
            done = f"wrote {len(written)} of {total} ({cached} were in the cache)"
            writer.log(f"{done}, {speed:.0f} tokens/s, {left:.0f} s to go")
            figures = {"written": len(written), "planned": total, "tokens_per_second": speed, "seconds_left": left}
            writer.observe({name: float(figure) for name, figure in figures.items()})
    return written


def _tried_twice(chunk: Sequence[Keyed], engine: TextGenerator, sampling: Sampling) -> list[Answer]:
    """Answers to a chunk; those that were cut or empty are asked for once more, with room to finish."""
    answers = engine.generate(chunk, sampling)
    unfinished = [at for at, answer in enumerate(answers) if answer.finish_reason == "length" or not answer.text.strip()]
    again = [at for at in unfinished if not answers[at].error]
    if not (sampling.retry_tokens and again):
        return answers
    try:
        longer = engine.generate([chunk[at] for at in again], replace(sampling, max_new_tokens=sampling.retry_tokens))
    except PlatformError:  # what the first try gave is paid for
        return answers
    for at, second in zip(again, longer, strict=True):
        first = answers[at]
        sums = {name: getattr(first, name) + getattr(second, name) for name in SUMMED}
        answers[at] = replace(first if second.error or not second.text.strip() else second, **sums)
    return answers


def _published(plan: Plan, answers: Mapping[str, Answer], written: list[Answer], writer: Writer, *, seconds: float) -> Written:
    texts = [_published_text(name, answers[key], writer.model) for name, key in zip(plan.names, plan.keys, strict=True)]
    statuses = Counter(text.status for text in texts)
    _tolerate([text.error for text in texts if text.error], len(texts), writer)
    if statuses["empty"] > 0.05 * len(texts):
        share = f"{statuses['empty']} of {len(texts)} texts are empty"
        writer.log(f"WARNING: {share}, most cut before a clause ended; more max_new_tokens or retry_tokens write all again")
    compute, prompt, completion = (sum(getattr(answer, name) for answer in written) for name in ("seconds", *SUMMED[:2]))
    metrics = {"requests": len(texts), "different_requests": len(answers), "cache_hits": len(answers) - len(written)}
    metrics |= {"calls": sum(answer.error is None for answer in written), "seconds": seconds}
    metrics |= {"retried": sum(answer.attempts > 1 for answer in written), "prompt_tokens": prompt}
    metrics |= {"completion_tokens": completion, "tokens_per_second": completion / compute if compute else 0}
    metrics |= {"failed_share": statuses["failed"] / max(1, len(texts)), **billed(writer.prices, prompt, completion)}
    metrics |= {status: statuses[status] for status in ("ok", "trimmed", "empty", "failed")}
    if writer.word_limit is not None:
        over = sum(len(text.text.split()) > writer.word_limit for text in texts)
        metrics["over_word_limit_share"] = over / max(1, len(texts))
    return Written(texts, {f"generation_{name}": float(value) for name, value in metrics.items()})


def _published_text(row: str, answer: Answer, model: str) -> Text:
    text = plain_text(re.sub(r"(?s)\A.*</think>|<think>.*", "", answer.text))  # what a model thinks aloud before is no text of it
    status = "ok" if text else "empty"
    if answer.error is not None:
        text, status = "", "failed"
    elif answer.finish_reason == "length" and text:
        text = trim_to_sentence(text)
        status = "trimmed" if text else "empty"
    return Text(row, text, status, answer.finish_reason, answer.error, model, answer.key)


def _tolerate(errors: Sequence[str], of: int, writer: Writer) -> None:
    if len(errors) > writer.max_failed_share * of:
        where = f"{len(errors)} of {of} requests failed"
        problem = f"more than the allowed share of {writer.max_failed_share:.0%}; the first error is: {errors[0]}"
        remedy = "Run again: what was answered is in the cache; raise max_failed_share to go on without the rest"
        raise TransientError("write all texts", where=where, problem=problem, remedy=remedy)
