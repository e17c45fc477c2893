"""LoRA fine-tuning as one recipe, top to bottom: set up, take a step, validate after each epoch, keep the best, save."""

import json
import resource
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

import peft
import torch
import torch.distributed as processes
from pydantic.dataclasses import dataclass
from safetensors.torch import save_file

from reasoningrec_assets import compute
from reasoningrec_assets.errors import Log, PermanentError
from reasoningrec_assets.lake.files import canonical_json
from reasoningrec_assets.metrics.ranking import auc
from reasoningrec_assets.models import store
from reasoningrec_assets.models.adapters import rounded_once
from reasoningrec_assets.models.packing import check_apart, hidden_states, pack, packs_by_tokens
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import TrainingSettings
from reasoningrec_assets.training.checkpoints import Checkpoints
from reasoningrec_assets.training.encode import EncodedRow
from reasoningrec_assets.training.scoring import label_log_odds


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training rows gave. ``valid_auc`` is None where the validation rows hold one class only."""

    epoch: int
    train_loss: float
    valid_auc: float | None
    seconds: float


@dataclass
class Progress:
    """How far a training is: what a checkpoint holds besides tensors, and at the end its outcome."""

    step: int = 0
    losses: list[float] = field(default_factory=list[float])  # of every step: mean per answer token, in nats
    epochs: list[Epoch] = field(default_factory=list[Epoch])
    best_epoch: int = 0
    tokens: int = 0  # of the rows trained on, without padding
    seconds: float = 0.0
    peak: float = 0.0  # bytes, of the first process where there are several

    def metrics(self) -> dict[str, float]:
        """Figures for the receipt; the loss and the AUC are those of the best epoch."""
        best, speed = self.epochs[self.best_epoch - 1], self.tokens / self.seconds
        figures = {"training_epochs": float(len(self.epochs)), "best_epoch": float(self.best_epoch)}
        figures |= {"training_tokens_per_second": speed, "training_seconds": self.seconds, "peak_memory_bytes": self.peak}
        return figures | {"train_loss": best.train_loss} | ({} if best.valid_auc is None else {"valid_auc": best.valid_auc})


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
    checkpoints: Checkpoints | None = None,
    log: Log = print,
) -> Progress:
    """Fine-tune a LoRA adapter (paper section 4) and save the epoch with the best validation AUC as safetensors.

    `valid` decides on early stopping, at natural prevalence, in forward passes of `tokens_per_batch` tokens. With
    `checkpoints` a killed training goes on where it was and ends with the same bytes. A loss that is not a number, and
    memory that does not suffice for the smallest micro-batch, raise PermanentError, which names the rows. Called in
    several processes of one group (`training.several`), each takes its share of every step's rows.
    """
    chat.label_tokens()  # a tokenizer that has none is refused here rather than after the first epoch
    run = _Run(_adapted(base, settings, device), chat, settings, device, log)
    check_apart(run.model.eval(), device.torch_name)  # now rather than after the first epoch
    progress, best = run.restored(checkpoints)
    steps = -(-len(train) // settings.batch_size)
    total, warmup = steps * settings.epochs, max(1, len(train) // (2 * settings.batch_size))
    while progress.step < total and len(progress.epochs) - progress.best_epoch < settings.patience:
        clock = time.monotonic()
        number, place = divmod(progress.step, steps)
        # drawn anew for each epoch, so that a checkpoint need not hold it
        order = _order(train, settings.seed * 1_000_003 + number)
        torch.manual_seed((settings.seed * 1_000_003 + progress.step) * 1024 + run.place)  # of the dropout
        rows = [train[index] for index in order[place * settings.batch_size : (place + 1) * settings.batch_size]]
        progress.losses.append(run.step(rows, _linear(progress.step, warmup=warmup, total=total)))
        progress.tokens += sum(len(row.prompt) + len(row.answer) for row in rows)
        progress.step, progress.seconds = progress.step + 1, progress.seconds + time.monotonic() - clock
        at, speed = f"epoch {number + 1}/{settings.epochs}, step {place + 1}/{steps}", progress.tokens / progress.seconds
        log(f"{at}: loss {progress.losses[-1]:.3f}, {speed:.0f} tokens/s")
        if place + 1 == steps and _validated(run, progress, valid, steps, tokens_per_batch):
            best = {name: weight.detach().cpu().clone() for name, weight in peft.get_peft_model_state_dict(run.model).items()}
        if checkpoints and run.place == 0 and (place + 1 == steps or progress.step % settings.checkpoint_steps == 0):
            checkpoints.save(progress.step, run.tensors(best), asdict(progress))
    cards = sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    progress.peak = float(cards or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # without a card
    if run.place == 0:
        _save(run.model, {name: best[name].contiguous() for name in sorted(best)}, folder, settings.base_model)
    return progress


def _adapted(base: Path, settings: TrainingSettings, device: compute.Device) -> Any:
    torch.manual_seed(settings.seed)
    named_alike = settings.model_dump(include={"lora_alpha", "lora_dropout", "target_modules"})
    config = peft.LoraConfig(r=settings.lora_rank, **named_alike, bias="none", task_type="CAUSAL_LM")
    more: Any = {"quantization": settings.quantization, "max_memory": settings.max_memory}
    # peft keeps the adapter in fp32 over a bf16 base: its updates are too small for bf16's eight bits
    with store.readable(base):
        base_model = store.load_causal_model(base, device.dtype, device.torch_name, **more)
        model: Any = rounded_once(peft.get_peft_model(base_model, config))
    if settings.activation_checkpointing:
        model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _order(rows: Sequence[EncodedRow], seed: int) -> list[int]:
    """Places of the rows in an epoch: at random, one user's in threes, whose common beginning a step then computes once."""
    # all of a user's rows in one step would cost less still, and left a validation AUC of 0.64 where threes came to 0.73
    drawn, of = torch.Generator().manual_seed(seed), defaultdict[str, list[int]](list)
    for place, row in enumerate(rows):
        of[row.user].append(place)
    mixed = [[places[at] for at in torch.randperm(len(places), generator=drawn)] for places in of.values()]
    threes = [places[at : at + 3] for places in mixed for at in range(0, len(places), 3)]
    return [place for at in torch.randperm(len(threes), generator=drawn) for place in threes[at]]


def _linear(step: int, *, warmup: int, total: int) -> float:
    return (step + 1) / warmup if step < warmup else max(0.0, (total - step) / max(1, total - warmup))


def _validated(run: "_Run", progress: Progress, valid: Sequence[EncodedRow], steps: int, tokens_per_batch: int) -> bool:
    """Score the validation rows after an epoch, note the outcome, and say whether it is the best so far."""
    run.model.eval()
    device, labels = run.device.torch_name, run.chat.label_tokens()
    mine, scores = valid[run.place :: run.count], [0.0] * len(valid)
    parts = [label_log_odds(run.model, mine, labels, tokens_per_batch=tokens_per_batch, device=device, log=run.log)] * run.count
    if run.count > 1:
        processes.all_gather_object(parts, parts[run.place])
    for place, part in enumerate(parts):
        scores[place :: run.count] = part
    found, before = auc([row.label for row in valid], scores), [epoch.valid_auc for epoch in progress.epochs]
    losses, earlier = progress.losses[-steps:], sum(epoch.seconds for epoch in progress.epochs)
    progress.epochs.append(Epoch(len(before) + 1, sum(losses) / len(losses), found, progress.seconds - earlier))
    shown = "not defined: no row, or one class only" if found is None else f"{found:.3f}"
    run.log(f"epoch {len(before) + 1}: mean loss {progress.epochs[-1].train_loss:.3f}, validation AUC {shown}")
    # without an AUC the latest epoch counts as best
    if better := found is None or all(auc is None or found > auc for auc in before):
        progress.best_epoch = len(before) + 1
    return better


class _Run:
    """The model, its optimizer, and the steps that they take; everything that a checkpoint has to hold of them."""

    def __init__(self, model: Any, chat: Chat, settings: TrainingSettings, device: compute.Device, log: Log) -> None:
        self.model, self.chat, self.settings, self.device, self.log = model, chat, settings, device, log
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=settings.learning_rate)
        told = (settings.tokens_per_micro_batch, "tokens of a micro-batch", "train the student", device.name, log)
        self.at_once, self.batch = store.AtOnce(*told, most=3), list[list[int]]()  # the last rows of a micro-batch
        self.place, self.count = (processes.get_rank(), processes.get_world_size()) if processes.is_initialized() else (0, 1)

    def step(self, rows: Sequence[EncodedRow], rate: float) -> float:
        """One optimizer step over `rows`, in micro-batches, at that share of the learning rate; the mean loss per answer token."""
        where = "; ".join(row.row for row in rows)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        while True:
            try:
                loss = self._gradient(rows, rows[self.place :: self.count])
                break
            except (RuntimeError, MemoryError) as error:
                self.at_once.halve(error, where, tried=len(pack(self.batch, self.device.torch_name).ids))  # of the same step
        if self.count > 1:
            loss = self._summed(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0))
        if not torch.isfinite(torch.tensor(loss + norm)):
            problem, remedy = f"this step's loss is {loss}, its gradient's length {norm}", "Lower training.learning_rate"
            raise PermanentError("train the student", where=where, problem=problem, remedy=f"{remedy}, or see sft_splits")
        self.optimizer.step()
        return loss

    def _gradient(self, rows: Sequence[EncodedRow], mine: Sequence[EncodedRow]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        label = len(self.chat.label_tokens().prefix)
        weights = [[self.settings.label_weight if at == label else 1.0 for at in range(len(row.answer))] for row in mine]
        whole, total = sum(len(row.answer) + self.settings.label_weight - 1 for row in rows), 0.0
        for batch in packs_by_tokens([[*row.prompt, *row.answer] for row in mine], self.at_once.size):
            # dividing by the step's weight, not the micro-batch's, makes the gradient independent of how the step is cut
            chosen = [mine[index] for index in batch]
            self.batch = [[*row.prompt, *row.answer] for row in chosen]
            loss = answer_loss(self.model, chosen, [weights[index] for index in batch], self.device.torch_name) / whole
            loss.backward()
            total += float(loss.detach())
        return total

    def _summed(self, loss: float) -> float:
        """Add up the processes' gradients, each of its share of the step's rows, and their losses."""
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            processes.all_reduce(weight.grad)
        processes.all_reduce(total := torch.tensor(loss, device=self.device.torch_name))
        return float(total)

    def tensors(self, best: Mapping[str, Any]) -> dict[str, Any]:
        """Adapter, optimizer, and the best epoch's adapter, by name; what is drawn follows from the seed and the step."""
        state = self.optimizer.state_dict()["state"]
        moments = {f"optimizer/{place}/{name}": value for place, known in state.items() for name, value in known.items()}
        held = {f"weight/{name}": weight for name, weight in self.weights.items()}
        return held | moments | {f"best/{name}": weight for name, weight in best.items()}

    def restored(self, checkpoints: Checkpoints | None) -> tuple[Progress, dict[str, Any]]:
        """Progress and the best epoch's adapter so far: of the newest checkpoint, which is put in place, or of a start."""
        if not (found := checkpoints.newest() if checkpoints else None):
            return Progress(), {}
        tensors, known = found
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"weight/{name}"])
        state: dict[int, dict[str, Any]] = {place: {} for place in range(len(self.weights))}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, place, moment = name.split("/")
                state[int(place)][moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        progress = Progress(**known)
        self.log(f"going on from the checkpoint after step {progress.step}")
        return progress, {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}


def answer_loss(model: Any, rows: Sequence[EncodedRow], weights: Sequence[Sequence[float]], device: str) -> Any:
    """Summed cross-entropy of the rows' answer tokens, in nats, each times its weight; the output matrix is applied to these alone."""
    packed = pack([[*row.prompt, *row.answer] for row in rows], device)
    # each answer token is predicted at the place before it
    asked = [at for row, places in zip(rows, packed.places, strict=True) for at in places[len(row.prompt) - 1 : -1]]
    logits = model.get_output_embeddings()(hidden_states(model, packed, device)[asked]).float()
    tokens = torch.tensor([token for row in rows for token in row.answer], device=logits.device)
    each = torch.nn.functional.cross_entropy(logits, tokens, reduction="none")
    return each @ torch.tensor([weight for row in weights for weight in row], device=each.device)


def _save(model: Any, tensors: dict[str, Any], folder: Path, base_model: str) -> None:
    """Save the adapter so that equal trainings give equal bytes, wherever the base model lies on disk."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base_model, "inference_mode": True}
    # peft holds target modules in a set, whose order changes from process to process
    plain = json.loads(json.dumps(config, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
    (folder / "adapter_config.json").write_text(canonical_json(plain), encoding="utf-8")
