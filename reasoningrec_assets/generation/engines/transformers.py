"""The embedded engine: `transformers.generate` in this process, batch by batch; the default, as it needs no server or compiler."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from reasoningrec_assets import compute
from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.engines import prompts_that_fit
from reasoningrec_assets.generation.requests import Answer, Keyed, Sampling
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import EngineSettings


class TransformersEngine:
    """Answers `batch_size` requests together, halved for good when memory runs out, with or without an adapter on the model."""

    def __init__(self, model: Any, chat: Chat, device: str, *, batch_size: int = 64, log: Log = print) -> None:
        self.model, self.chat, self.device = model, chat, device
        self.context = int(getattr(model.config, "max_position_embeddings", 0)) or 2**31
        self.at_once = store.AtOnce(batch_size, "requests", "write a batch of texts", device, log)

    def generate(self, chunk: Sequence[Keyed], sampling: Sampling) -> list[Answer]:
        """Answer a chunk batch by batch; a prompt that the model's context cannot hold is flagged."""
        prompts, answers = prompts_that_fit(chunk, self.chat, sampling, self.context)
        left = list(prompts)
        while left:
            batch = left[: self.at_once.size]
            try:
                answers.update((answer.key, answer) for answer in self._batch(batch, prompts, sampling))
            except (RuntimeError, MemoryError) as error:
                self.at_once.halve(error, tried=len(batch))
            else:
                left = left[len(batch) :]
        return [answers[key] for key, _ in chunk]

    def _batch(self, keys: Sequence[str], prompts: dict[str, list[int]], sampling: Sampling) -> list[Answer]:
        """Answer one batch: what all its prompts begin with is computed once, the rest is padded on the left to the longest."""
        import torch

        from reasoningrec_assets.models.packing import common_prefix, prefix_cache

        started = time.monotonic()
        rows = [prompts[key] for key in keys]
        prefix = common_prefix(rows)
        shared = prefix_cache(self.model, prefix, len(rows), self.device)
        rests = [prompt[len(prefix) :] for prompt in rows]
        width = max(map(len, rests))
        pad, end = self.chat.tokenizer.pad_token_id, self.chat.tokenizer.eos_token_id
        turn = self.model.generation_config.eos_token_id
        ends = {end, *(turn if isinstance(turn, list) else [end if turn is None else turn])}  # some models end turns by others
        # the padding stands between the shared prefix and the rest; positions are counted over the mask, so it takes none
        laid = [prefix + [pad] * (width - len(rest)) + rest for rest in rests]
        seen = [[1] * len(prefix) + [0] * (width - len(rest)) + [1] * len(rest) for rest in rests]
        ids, mask = (torch.tensor(values, device=self.device) for values in (laid, seen))
        warm = sampling.temperature > 0
        if warm:  # one seed per batch, drawn from what is in it: the same batch draws the same answers
            torch.manual_seed(int(sha256_json([sampling.seed, list(keys)])[:15], 16))
        start = len(prefix) + width
        with torch.inference_mode():
            rules: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": warm, "top_k": None}
            rules |= {name: getattr(sampling, name) if warm else None for name in ("temperature", "top_p")}
            rules |= {"pad_token_id": pad, "eos_token_id": [*ends], "attention_mask": mask, "past_key_values": shared}
            rules["prefix_allowed_tokens_fn"] = self._allowed(sampling.choices, start) if sampling.choices else None
            likeliest = self._first_logprobs(ids, mask, sampling.logprobs)
            output = self.model.generate(input_ids=ids, **rules)
        seconds = (time.monotonic() - started) / len(keys)
        answers: list[Answer] = []
        for key, row, logprobs in zip(keys, output[:, start:].tolist(), likeliest, strict=True):
            new = row[: next((at for at, token in enumerate(row) if token in ends), None)]
            stopped = len(new) < len(row)
            text, reason = self.chat.decode(new), "stop" if stopped else "length"
            answers.append(Answer(key, text, reason, len(prompts[key]), len(new) + stopped, seconds, first_logprobs=logprobs))
        return answers

    def _allowed(self, choices: Sequence[str], start: int) -> Callable[[int, Any], list[int]]:
        """The tokens that may come next, such that each answer becomes one of the choices and then ends."""
        end = self.chat.tokenizer.eos_token_id
        whole = [[*self.chat.ids(choice), end] for choice in choices]

        def allowed(_row: int, ids: Any) -> list[int]:
            written = ids[start:].tolist()
            done = len(written)
            return sorted({choice[done] for choice in whole if choice[:done] == written and len(choice) > done}) or [end]

        return allowed

    def _first_logprobs(self, ids: Any, mask: Any, count: int) -> list[dict[str, float]]:
        """Each row's likeliest first tokens as the model has them, before any sampling rule; a pass of its own, where asked for."""
        if not count:
            return [{}] * len(ids)
        places = (mask.cumsum(-1) - 1).clamp(0)
        last = self.model(input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=1).logits[:, -1]
        found = zip(*(values.tolist() for values in last.float().log_softmax(-1).topk(count)), strict=True)
        return [dict(zip(map(self.chat.tokenizer.decode, tokens), values, strict=True)) for values, tokens in found]


@contextlib.contextmanager
def open_engine(
    reference: str, data_root: Path, settings: EngineSettings, *, batch_size: int, log: Log = print
) -> Generator[TransformersEngine]:
    """Hold a device and load a model on it, with a LoRA adapter where one is given, for the length of the block."""
    assert settings.quantization != "fp8", "the settings refuse it for this engine"
    folder = store.resolve(reference, data_root, log=log)
    with compute.lease(cards=settings.max_memory or (), log=log) as device:
        log(f"loading {reference} on {device.name} in {device.dtype}, quantisation {settings.quantization}")
        spread: Any = settings.model_dump(include={"quantization", "max_memory"})
        model = store.load_causal_model(folder, device.dtype, device.torch_name, **spread)
        if settings.adapter:
            from reasoningrec_assets.models.adapters import with_adapter

            model = with_adapter(model, Path(settings.adapter), reference, settings.quantization)
        engine = TransformersEngine(model, Chat(store.load_tokenizer(folder)), device.torch_name, batch_size=batch_size, log=log)
        try:
            yield engine
        finally:
            del model, engine.model
            store.free_memory()
