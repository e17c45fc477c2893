"""Requests, answers, and what makes two requests the same.

What belongs here: the values that travel between plan, cache and engines. What doesn't: anything that runs a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reasoningrec_assets.lake.files import sha256_json


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. ``temperature`` 0 is greedy; the seed fixes what a warmer one draws."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Request:
    """One question, and the beginning of its answer where the model is to continue one.

    Attributes:
        row: The caller's name for the row, such as an item id; no part of the key.
        message: The user's turn.
        prefill: Text that the answer begins with.
    """

    row: str
    message: str
    prefill: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back for one key.

    Attributes:
        finish_reason: stop, or length where the answer was cut at the token limit; none after an error.
        seconds: Share of the batch's time.
        error: Why there is no text, or None.
    """

    key: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    attempts: int = 1
    error: str | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """What decides an answer besides the question.

    The device and its precision are left out on purpose: labels written on one machine stay valid on the next.
    """

    model: str
    engine: str
    adapter: str | None = None
    quantization: str | None = None

    @property
    def folder(self) -> str:
        """Name of the cache folder that holds this identity's answers."""
        return sha256_json([self.model, self.engine, self.adapter, self.quantization])[:16]


class TextGenerator(Protocol):
    """An engine that is ready to answer; its model is loaded when the block that opened it is entered."""

    def generate(self, batch: Sequence[tuple[str, Request]], sampling: Sampling) -> list[Answer]:
        """Answer one batch of keyed requests, in their order."""
        ...


Progress = Callable[[str], None]


def key_of(request: Request, identity: ModelIdentity, sampling: Sampling) -> str:
    """SHA-256 that names the answer to a request: equal keys mean that one answer serves both."""
    return sha256_json(
        [
            identity.model,
            identity.engine,
            identity.adapter,
            identity.quantization,
            request.message,
            request.prefill,
            sampling.max_new_tokens,
            sampling.temperature,
            sampling.top_p,
            # a greedy answer does not depend on the seed
            sampling.seed if sampling.temperature > 0 else None,
        ]
    )


def in_batches(keyed: Iterable[tuple[str, Request]], size: int) -> list[list[tuple[str, Request]]]:
    """Unique keys in batches of similar length, longest first.

    Padding to the longest row of a batch is wasted work, and the largest batch first shows at once whether memory is
    enough. The order depends on the requests alone, never on what a cache holds, so a resumed run forms the same
    batches: low-precision arithmetic gives other texts in other batches.
    """
    unique = dict(keyed)
    ordered = sorted(unique.items(), key=lambda entry: (-len(entry[1].message), entry[0]))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
