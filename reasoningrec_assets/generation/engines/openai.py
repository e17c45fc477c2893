"""Any server that speaks the OpenAI protocol: bounded concurrency, the client's own retries, and errors without the key."""

import asyncio
import contextlib
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import openai  # noqa: TID253 - this module itself is imported only where its engine is the one that is used

from reasoningrec_assets.errors import Log, PermanentError, TransientError
from reasoningrec_assets.generation.requests import Answer, Keyed, Request, Sampling
from reasoningrec_assets.settings import EngineSettings

KEY = "OPENAI_API_KEY"
PATIENCE = 120.0  # seconds for a wait that the server asked for
# what the server would answer to every other request, and to every later one
LASTING = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


class OpenAIEngine:
    """Answers chunks with concurrent requests to one URL; `model` is its name on the server."""

    def __init__(self, model: str, settings: EngineSettings) -> None:
        self.model, self.settings = model, settings

    def check(self) -> None:
        """Ask the server for its models: a wrong URL, key or name shows before a thousand requests are on their way."""

        async def listed() -> list[str]:
            async with self._client() as client:
                return [model.id async for model in client.models.list()]

        try:
            names = asyncio.run(listed())
        except (openai.NotFoundError, openai.PermissionDeniedError):
            return  # a server without the list, or a key that may not see it; the first request will tell
        except (openai.APIError, ValueError, AttributeError) as error:
            raise self._unusable(error) from None
        if self.model not in names:
            problem = f"the server has {', '.join(names) or 'no model'}"
            remedy = "Name one of these in the settings, or start the server with the model"
            raise PermanentError(f"use the model {self.model}", where=str(self.settings.base_url), problem=problem, remedy=remedy)

    def generate(self, chunk: Sequence[Keyed], sampling: Sampling) -> list[Answer]:
        """Answer one chunk; requests fail one by one, so that no other's paid answer is lost. PermanentError where a key serves none."""
        return asyncio.run(self._all(chunk, sampling))

    async def _all(self, chunk: Sequence[Keyed], sampling: Sampling) -> list[Answer]:
        places = asyncio.Semaphore(self.settings.concurrency)
        started = time.monotonic()
        # the client's time-out is between two pieces of an answer: one that drips would be waited for without end
        longest = (self.settings.timeout_seconds + PATIENCE) * (self.settings.retries + 1)
        refused: list[openai.AuthenticationError] = []

        async def one(key: str, arguments: dict[str, Any]) -> Answer:
            async with places:
                try:
                    raw = await asyncio.wait_for(client.chat.completions.with_raw_response.create(**arguments), longest)
                    return _answer(key, raw.parse(), raw.retries_taken + 1)
                # such as one that is longer than the context
                except (openai.BadRequestError, openai.AuthenticationError) as error:
                    refused.extend([error] if isinstance(error, openai.AuthenticationError) else [])
                    return Answer(key, error=self._redacted(error))
                except (openai.APIError, TimeoutError) as error:
                    return Answer(key, error=self._redacted(error), attempts=self.settings.retries + 1)
                except (ValueError, TypeError, LookupError, AttributeError) as error:  # an answer of another form
                    return Answer(key, error=f"the server's answer cannot be read: {self._redacted(error)}")

        async with self._client() as client:
            answers = await asyncio.gather(*(one(key, self._arguments(key, request, sampling)) for key, request in chunk))
        if refused and all(answer.error for answer in answers):  # a key that ends amid a chunk loses none that were paid for
            raise self._unusable(refused[0])
        return [replace(answer, seconds=(time.monotonic() - started) / len(chunk)) for answer in answers]

    def _arguments(self, key: str, request: Request, sampling: Sampling) -> dict[str, Any]:
        messages = [{"role": "user", "content": request.message}]
        extra: dict[str, Any] = {}
        if request.prefill:
            messages.append({"role": "assistant", "content": request.prefill})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        if sampling.choices:
            extra["structured_outputs"] = {"choice": list(sampling.choices)}
        arguments: dict[str, Any] = {"model": self.model, "messages": messages, "extra_body": extra}
        arguments |= {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.temperature > 0:
            arguments["seed"] = int(key[:7], 16)  # some servers take 31 bits
        if sampling.logprobs:
            arguments |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        return arguments

    def _client(self) -> openai.AsyncOpenAI:
        limits: Any = {"timeout": self.settings.timeout_seconds, "max_retries": self.settings.retries}
        # servers of one's own ask for no key, the client for any
        return openai.AsyncOpenAI(base_url=self.settings.base_url, api_key=os.environ.get(KEY, "").strip() or "none", **limits)

    def _redacted(self, error: Exception) -> str:
        key = os.environ.get(KEY, "").strip()
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        text = f"{type(error).__name__}: {error}{cause}"
        return (text.replace(key, "***") if key else text)[:500]

    def _unusable(self, error: Exception) -> PermanentError | TransientError:
        kind, remedy = TransientError, "Check that the server runs at base_url, then run again"
        if isinstance(error, LASTING):
            kind, remedy = PermanentError, f"Check the key in {KEY}, base_url and the model's name"
        return kind("write texts", where=str(self.settings.base_url), problem=self._redacted(error), remedy=remedy)


def _answer(key: str, completion: Any, attempts: int) -> Answer:
    choice, usage = completion.choices[0], completion.usage
    first = choice.logprobs.content[0].top_logprobs if choice.logprobs and choice.logprobs.content else []
    prompt, written = (int(getattr(usage, name, None) or 0) for name in ("prompt_tokens", "completion_tokens"))
    text = (choice.message.content or "").encode(errors="replace").decode()
    reason = "stop" if choice.finish_reason == "stop" else "length"  # a filter or a tool cuts too
    return Answer(key, text, reason, prompt, written, 0.0, attempts, first_logprobs={one.token: one.logprob for one in first})


@contextlib.contextmanager
def open_engine(model: str, settings: EngineSettings, *, log: Log = print) -> Generator[OpenAIEngine]:
    """Check the server and answer through it; it holds no device of this machine."""
    engine = OpenAIEngine(model, settings)
    engine.check()
    log(f"writing with {model} at {settings.base_url}, {settings.concurrency} requests at once")
    yield engine
