"""Requests, answers, and what makes two requests the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from reasoningrec_assets.lake.files import sha256_json


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. Temperature 0 is greedy; the seed fixes what a warmer one draws."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    retry_tokens: int = 0  # longest second answer, asked for once where the first was cut or empty; 0 for no second try
    logprobs: int = 0  # how many of the first token's likeliest values are told with their log-probabilities
    choices: tuple[str, ...] = ()  # the only answers allowed; none allows any


@dataclass(frozen=True)
class Request:
    """One question, and the beginning of its answer where the model is to continue one."""

    row: str  # the caller's name for the row, such as an item id; no part of the key
    message: str
    prefill: str = ""
    draw: int = 0  # number of the sample where one question is asked several times; without effect when greedy


Keyed = tuple[str, Request]


@dataclass(frozen=True)
class Answer:
    """What came back for one key, the same from every engine; tokens, seconds and attempts are summed over all tries."""

    key: str
    # by default as where a request failed
    text: str = ""
    finish_reason: str = ""  # stop, or length where the answer was cut at the token limit; empty after an error
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # share of its batch's time
    attempts: int = 1
    first_logprobs: dict[str, float] = field(default_factory=dict[str, float])
    error: str | None = None  # why there is no text


@dataclass(frozen=True)
class ModelIdentity:
    """What decides an answer besides the question; not the device, so that labels of one machine stay valid on the next."""

    model: str
    engine: str
    adapter: str | None = None
    quantization: str | None = None

    @cached_property
    def folder(self) -> str:
        """Name of the cache folder that holds this identity's answers."""
        return sha256_json([self.model, self.engine, self.adapter, self.quantization])[:16]


class TextGenerator(Protocol):
    """An engine that is ready to answer; its model is loaded when the block that opened it is entered."""

    def generate(self, chunk: Sequence[Keyed], sampling: Sampling) -> list[Answer]:
        """Answer one chunk of keyed requests, in their order; a request that fails has an answer with an error."""
        ...


def key_of(request: Request, identity: ModelIdentity, sampling: Sampling) -> str:
    """SHA-256 that names the answer to a request: equal keys mean that one answer serves both."""
    drawn = [value for name, value in vars(sampling).items() if name != "seed"]
    # a greedy answer depends neither on the seed nor on the number of the draw
    drawn += [sampling.seed, request.draw] if sampling.temperature > 0 else [None, 0]
    return sha256_json([identity.folder, request.message, request.prefill, drawn])
