"""LoRA fine-tuning as one recipe, top to bottom: set up, train an epoch, validate, keep the best, save.

The loss is the cross-entropy of the answer's tokens alone; the output matrix is applied only where the loss needs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasoningrec_assets import compute
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.metrics.ranking import auc
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import TrainingSettings
from reasoningrec_assets.training.encode import EncodedRow, batches_by_tokens, padded
from reasoningrec_assets.training.scoring import label_log_odds


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training rows gave. ``valid_auc`` is None where the validation rows hold one class only."""

    epoch: int
    train_loss: float
    valid_auc: float | None
    seconds: float


@dataclass(frozen=True)
class Trained:
    """The outcome of a training whose adapter lies in the folder it was given."""

    epochs: list[Epoch]
    best_epoch: int
    metrics: dict[str, float]


def train_adapter(
    train: Sequence[EncodedRow],
    valid: Sequence[EncodedRow],
    *,
    base: Path,
    chat: Chat,
    settings: TrainingSettings,
    tokens_per_batch: int,
    device: compute.Device,
    folder: Path,
    log: Callable[[str], None] = print,
) -> Trained:
    """Fine-tune a LoRA adapter (paper section 4) and save the epoch with the best validation AUC as safetensors.

    `valid` decides on early stopping, at natural prevalence, in forward passes of `tokens_per_batch` padded tokens. A
    loss that is not a number raises PermanentError, which names the rows.
    """
    import peft
    import torch

    torch.manual_seed(settings.seed)
    named_alike = settings.model_dump(include={"lora_alpha", "lora_dropout", "target_modules"})
    config = peft.LoraConfig(r=settings.lora_rank, **named_alike, bias="none", task_type="CAUSAL_LM")
    # peft keeps the adapter in fp32 over a bf16 base: its updates are too small for bf16's eight bits
    model: Any = peft.get_peft_model(store.load_causal_model(base, compute.precision(device), device.torch_name), config)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=settings.learning_rate)
    steps = -(-len(train) // settings.batch_size)
    warmup = max(1, len(train) // (2 * settings.batch_size))
    schedule = _linear_schedule(optimizer, warmup=warmup, total=steps * settings.epochs)
    chat.label_tokens()  # a tokenizer that has none is refused here rather than after the first epoch
    order = torch.Generator().manual_seed(settings.seed)
    epochs: list[Epoch] = []
    best: dict[str, Any] = {}
    best_epoch, started, real_tokens = 0, time.monotonic(), 0
    for number in range(1, settings.epochs + 1):
        clock = time.monotonic()
        model.train()
        losses: list[float] = []
        permutation = torch.randperm(len(train), generator=order).tolist()
        for step in range(steps):
            rows = [train[index] for index in permutation[step * settings.batch_size : (step + 1) * settings.batch_size]]
            losses.append(_step(model, rows, optimizer, chat, settings, device.torch_name))
            schedule.step()
            real_tokens += sum(len(row.prompt) + len(row.answer) for row in rows)
            speed = real_tokens / (time.monotonic() - started)
            log(f"epoch {number}/{settings.epochs}, step {step + 1}/{steps}: loss {losses[-1]:.3f}, {speed:.0f} tokens/s")
        model.eval()
        scores = label_log_odds(model, valid, chat, tokens_per_batch=tokens_per_batch, device=device.torch_name, log=log)
        valid_auc = auc([row.label for row in valid], scores)
        epochs.append(Epoch(number, sum(losses) / len(losses), valid_auc, time.monotonic() - clock))
        shown = "not defined, one class only" if valid_auc is None else f"{valid_auc:.3f}"
        log(f"epoch {number}: mean loss {epochs[-1].train_loss:.3f}, validation AUC {shown}")
        # without an AUC the latest epoch counts as best
        if valid_auc is None or all(epoch.valid_auc is None or valid_auc > epoch.valid_auc for epoch in epochs[:-1]):
            weights = peft.get_peft_model_state_dict(model)
            best_epoch, best = number, {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
        elif number - best_epoch >= settings.patience:
            log(f"no better validation AUC for {settings.patience} epochs: stopping")
            break
    _save(model, best, folder, settings.base_model)
    return Trained(epochs, best_epoch, _metrics(epochs, best_epoch, len(train), real_tokens, time.monotonic() - started))


def _linear_schedule(optimizer: Any, *, warmup: int, total: int) -> Any:
    import torch

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else max(0.0, (total - step) / max(1, total - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step(model: Any, rows: Sequence[EncodedRow], optimizer: Any, chat: Chat, settings: TrainingSettings, device: str) -> float:
    """One optimizer step over `rows`, in micro-batches; returns the mean loss per answer token."""
    import torch

    tokens = sum(len(row.answer) for row in rows)
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    for batch in batches_by_tokens([len(row.prompt) + len(row.answer) for row in rows], settings.tokens_per_micro_batch):
        # dividing by the step's tokens, not the micro-batch's, makes the gradient independent of how the step is cut
        loss = _answer_loss(model, [rows[index] for index in batch], chat, device) / tokens
        loss.backward()
        total += float(loss.detach())
    if not torch.isfinite(torch.tensor(total)):
        names, problem = "; ".join(row.row for row in rows), f"the loss of this step is {total}"
        remedy = "Lower training.learning_rate, or look at these rows in sft_splits"
        raise PermanentError("train the student", where=names, problem=problem, remedy=remedy)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # the frozen ones have no gradient
    optimizer.step()
    return total


def _answer_loss(model: Any, rows: Sequence[EncodedRow], chat: Chat, device: str) -> Any:
    """Summed cross-entropy of the answer tokens of right-padded rows."""
    import torch

    ids, mask = padded([[*row.prompt, *row.answer] for row in rows], chat.tokenizer.pad_token_id, device)
    hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    # each answer token is predicted at the place before it
    places = [(number, len(row.prompt) - 1 + step) for number, row in enumerate(rows) for step in range(len(row.answer))]
    row_index, column = torch.tensor(places, device=device).T
    logits = model.get_output_embeddings()(hidden[row_index, column]).float()
    return torch.nn.functional.cross_entropy(logits, ids[row_index, column + 1], reduction="sum")


def _save(model: Any, tensors: dict[str, Any], folder: Path, base_model: str) -> None:
    """Save the adapter so that equal trainings give equal bytes, wherever the base model lies on disk."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base_model, "inference_mode": True}
    # peft holds target modules in a set, whose order changes from process to process
    plain = json.loads(json.dumps(config, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
    (folder / "adapter_config.json").write_text(canonical_json(plain), encoding="utf-8")


def _metrics(epochs: Sequence[Epoch], best_epoch: int, rows: int, tokens: int, seconds: float) -> dict[str, float]:
    best = epochs[best_epoch - 1]
    return {
        "training_rows": float(rows),
        "training_epochs": float(len(epochs)),
        "best_epoch": float(best_epoch),
        "train_loss": best.train_loss,
        **({"valid_auc": best.valid_auc} if best.valid_auc is not None else {}),
        "training_tokens_per_second": tokens / seconds,
        "training_seconds": seconds,
        "peak_memory_bytes": float(compute.peak_memory_bytes()),
    }
