"""The embedded engine: `transformers.generate` in this process.

What belongs here: batching on one device and cutting answers out by token count. It needs no server and no compiler,
which is why it is the default; it is not the fastest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from reasoningrec_assets import compute
from reasoningrec_assets.generation.requests import Answer, Request, Sampling
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.models import store
from reasoningrec_assets.models.prefix import PrefixCache, common_prefix
from reasoningrec_assets.prompts.chat import Chat


class TransformersEngine:
    """Answers batches with a loaded model.

    Args:
        model: A causal language model in inference mode, with or without an adapter.
        chat: Its chat format.
        device: Torch device that the model is on.
    """

    def __init__(self, model: Any, chat: Chat, device: str) -> None:
        self.model = model
        self.chat = chat
        self.device = device

    def generate(self, batch: Sequence[tuple[str, Request]], sampling: Sampling) -> list[Answer]:
        """Answer one batch: what all its prompts begin with is computed once, the rest is padded on the left to the longest."""
        import torch

        started = time.monotonic()
        prompts = [
            self.chat.prompt(request.message) + (self.chat.prefill(request.prefill) if request.prefill else [])
            for _, request in batch
        ]
        prefix = common_prefix(prompts)
        shared = PrefixCache(self.model, prefix, self.device)
        rests = [prompt[len(prefix) :] for prompt in prompts]
        width = max(map(len, rests))
        pad = self.chat.tokenizer.pad_token_id
        # the padding stands between the shared prefix and the rest; positions are counted over the mask, so it takes none
        ids = torch.tensor([prefix + [pad] * (width - len(rest)) + rest for rest in rests], device=self.device)
        mask = torch.tensor(
            [[1] * len(prefix) + [0] * (width - len(rest)) + [1] * len(rest) for rest in rests], device=self.device
        )
        warm = sampling.temperature > 0
        if warm:  # one seed per batch, drawn from what is in it: the same batch draws the same answers
            torch.manual_seed(int(sha256_json([sampling.seed, [key for key, _ in batch]])[:15], 16))
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=shared.for_batch(len(batch)),
                max_new_tokens=sampling.max_new_tokens,
                do_sample=warm,
                temperature=sampling.temperature if warm else None,
                top_p=sampling.top_p if warm else None,
                top_k=None,
                pad_token_id=pad,
                eos_token_id=self.chat.tokenizer.eos_token_id,
            )
        seconds = (time.monotonic() - started) / len(batch)
        end = self.chat.tokenizer.eos_token_id
        answers: list[Answer] = []
        for (key, _), prompt, row in zip(batch, prompts, output[:, len(prefix) + width :].tolist(), strict=True):
            stopped = end in row
            new = row[: row.index(end)] if stopped else row
            answers.append(
                Answer(
                    key=key,
                    text=self.chat.decode(new),
                    finish_reason="stop" if stopped else "length",
                    prompt_tokens=len(prompt),
                    completion_tokens=len(new) + stopped,
                    seconds=seconds,
                )
            )
        return answers


@contextlib.contextmanager
def open_engine(
    reference: str, data_root: Path, *, adapter: Path | None = None, log: Callable[[str], None] = print
) -> Generator[TransformersEngine]:
    """Hold a device and load a model on it for the length of the block.

    Args:
        reference: Model reference, see `models.store`.
        data_root: Where fetched models are kept.
        adapter: Folder of a LoRA adapter to put on the model.
        log: Receives a line while waiting for a device or downloading.
    """
    folder = store.resolve(reference, data_root, log=log)
    with compute.lease(log=log) as device:
        dtype = compute.precision(device)
        log(f"loading {reference} on {device.name} in {str(dtype).removeprefix('torch.')}")
        model = store.load_causal_model(folder, dtype, device.torch_name)
        if adapter is not None:
            model = store.with_adapter(model, adapter)
        engine = TransformersEngine(model, Chat(store.load_tokenizer(folder)), device.torch_name)
        try:
            yield engine
        finally:
            del model, engine.model
            store.free_memory()
