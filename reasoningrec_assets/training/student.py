"""The student's life: its rows, its training, its predictions; zero-shot and fine-tuned differ in the adapter alone."""

import contextlib
import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reasoningrec_assets import compute
from reasoningrec_assets.baselines.features import SMOOTHING, window_features
from reasoningrec_assets.baselines.matrix_factorisation import factorise
from reasoningrec_assets.datasets.registry import SPLITS, Dataset
from reasoningrec_assets.datasets.sampling import choose_sample, choose_train, earlier_targets
from reasoningrec_assets.datasets.windows import window_name
from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.engines.transformers import open_engine
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import Written, write_texts
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Output, code_version, seal
from reasoningrec_assets.lake.tables import markdown, read_rows, write_table
from reasoningrec_assets.metrics.ranking import auc
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import grounding, student_answer, student_record, swap_history
from reasoningrec_assets.prompts.text import one_line
from reasoningrec_assets.settings import EngineSettings, SamplingSettings, ScoringSettings, TrainingSettings
from reasoningrec_assets.training.encode import encode_rows
from reasoningrec_assets.training.variants import Variant

STUDENT_TEMPLATES = {template: templates.SHA256[template] for template in templates.STUDENT}


def build_splits(
    dataset: Dataset, variant: Variant, sampling: SamplingSettings, tables: Mapping[str, Path], *, log: Log = print
) -> Output:
    """Write the student's rows: K training rows, a validation sample, and all of the test split, in the variant's form.

    `tables` are those of `variant.inputs`. The K rows are those that have a reasoning, where it learns reasonings.
    """
    windows = tables["interaction_windows"]
    texts = {"descriptions": "item_descriptions", "profiles": "user_profiles"}
    context = load_context(tables["items"], **{seen: tables[table] for seen, table in texts.items() if table in variant.inputs})
    labels = read_rows(tables["reasoning_labels"]) if variant.reasoning else []
    reasoning = {window_name(row): row["text"] for row in labels}
    chosen = [
        row for row in read_rows(windows) if row["split"] == "test" or (row["split"] == "train" and window_name(row) in reasoning)
    ]
    rows, counts = (None, {}) if variant.reasoning else choose_train(windows, sampling.k, sampling.seed, log)
    drawn: list[Any] = rows.to_pylist() if rows is not None else []
    # by name, since a user's rows can share their history
    earlier = {window_name(one): one for row in drawn for one in earlier_targets(row, variant.earlier)}
    chosen += [*drawn, *earlier.values()]
    chosen += choose_sample(windows, "valid", sampling.valid_rows, sampling.seed).to_pylist()
    bare = sum(row["split"] == "train" and not reasoning.get(window_name(row)) for row in chosen) if variant.reasoning else 0
    if bare:
        # dropping them would unbalance the K rows, and their label, which is the part that decides the AUC, is known
        log(f"{bare} training rows have no reasoning (the teacher's was empty, cut or failed): they teach their label alone")
    figures = _figures(dataset, variant, tables, [*earlier.values()]) if variant.hints else {}

    def record(row: Mapping[str, Any]) -> dict[str, Any]:
        known: dict[str, float] = figures.get(window_name(row), {})
        if "history" in variant.hints:
            tags, late = row["history_liked"], row["history_liked"][-SMOOTHING["recent_items"] :]
            known |= {"likes": sum(tags), "shown": len(tags), "often": sum(tags) / len(tags)}
            known |= {"late_likes": sum(late), "late": len(late), "lately": sum(late) / len(late)}
        told: dict[str, Any] = {"liked": bool(row["label"]), "reasoning": reasoning.get(window_name(row), "")}
        form: dict[str, Any] = {"reasons": variant.reasoning, "lists": variant.lists, "kind": dataset.item_kind}
        return student_record(context.window(row), **told, **form, hints=grounding(known, dataset.item_kind))

    sizes = Counter(str(row["split"]) for row in chosen)
    liked = Counter(str(row["split"]) for row in chosen if row["label"])
    metrics = {"train_rows_without_reasoning": float(bare)} | {f"{split}_rows": float(sizes[split]) for split in SPLITS}
    metrics |= {f"{split}_liked_share": liked[split] / sizes[split] for split in sizes}
    metrics |= {f"train_{name}": float(value) for name, value in counts.items()}
    return Output(TABLES["sft_splits"].table([row | record(row) for row in chosen]), metrics, prompts=STUDENT_TEMPLATES)


def _figures(dataset: Dataset, variant: Variant, tables: Mapping[str, Path], earlier: list[Any]) -> dict[str, dict[str, float]]:
    """What a variant's hints say of each window, by its name, from training events, which hold no target of any window."""
    found, cut, schema = defaultdict[str, dict[str, float]](dict), next(iter(dataset.cuts), None), TABLES["interaction_windows"]
    windows = [tables["interaction_windows"]]
    with tempfile.TemporaryDirectory() as folder:
        if earlier:  # windows too: a figure that counted an earlier target would give its label away
            windows.append(Path(folder) / "earlier.parquet")
            write_table(schema, schema.table(earlier), windows[1], dataset=dataset.name)
        if "item" in variant.hints:
            for row in window_features(windows, tables["cleaned_interactions"], cut=cut).to_pylist():
                found[window_name(row)]["share"] = row["item_like_rate"]
        if "factorisation" in variant.hints:
            for row in factorise(windows, tables["cleaned_interactions"], cut=cut).to_pylist():
                found[window_name(row)]["expected"] = probability(row["score"])
    return found


def train(
    inputs: Inputs, variant: Variant, settings: TrainingSettings, tokens_per_batch: int, *, checkpoints: Path, log: Log = print
) -> Output:
    """Fine-tune the student on ``sft_splits`` and seal its adapter into a folder that says what it is.

    A killed training goes on from the last of its `checkpoints`, a folder that no other one uses at the same time. Where the
    reason comes first, no row validates: nobody wrote the reasons that their labels would follow.
    """
    from reasoningrec_assets.training.checkpoints import Checkpoints
    from reasoningrec_assets.training.several import train_on

    splits = inputs.of("sft_splits")
    base = store.resolve(settings.base_model, inputs.lake.root, log=log)
    chat = Chat(store.load_tokenizer(base))
    rows = read_rows(inputs.lake.path_of(splits))
    parts = ([row for row in rows if row["split"] == split] for split in ("train", "valid"))
    longest = min(settings.max_tokens, store.context_length(base))
    learned, valid = (encode_rows(part, chat, max_tokens=longest) for part in parts)
    decides: dict[str, Any] = {"base_model": settings.base_model, "base_identity": store.identity(settings.base_model)}
    decides |= {"data_version": splits.data_version, "settings": settings.model_dump(), "templates": STUDENT_TEMPLATES}
    decides |= {"chat_template": sha256_json(chat.tokenizer.chat_template)}
    folder = inputs.scratch / "adapter"
    known: dict[str, Any] = {"base": base, "chat": chat, "settings": settings, "tokens_per_batch": tokens_per_batch, "log": log}
    known |= {"train": learned, "valid": [] if variant.reasoning == "before" else valid, "folder": folder}
    # what bounds memory alone may change between a kill and the next try
    lasting = settings.model_dump(exclude={"tokens_per_micro_batch", "activation_checkpointing", "checkpoint_steps"})
    about = decides | {"settings": lasting, "code_version": code_version("lora_model")}
    with compute.lease(count=settings.processes, cards=settings.max_memory or (), log=log) as device:
        kept = Checkpoints(checkpoints, about | {"device": device.name.partition(":")[0]}, log)
        result = train_on(settings.processes, kept, inputs.scratch, device=device, **known)
    store.free_memory()
    # without the seconds: equal trainings give equal manifests
    epochs = [{"epoch": e.epoch, "train_loss": e.train_loss, "valid_auc": e.valid_auc} for e in result.epochs]
    seal(folder, {**decides, "best_epoch": result.best_epoch, "epochs": epochs})
    dropped = float(sum(row.dropped for row in learned))
    curve = [[e.epoch, f"{e.train_loss:.4f}", e.valid_auc and round(e.valid_auc, 4), f"{e.seconds:.1f}"] for e in result.epochs]
    metrics = {**result.metrics(), "training_rows": float(len(learned)), "history_lines_dropped": dropped}
    details = {"curve": markdown(["epoch", "train loss", "validation AUC", "seconds"], curve)}
    used = ({"role": "base", "reference": settings.base_model},)
    return Output(None, metrics, details, folder, used, STUDENT_TEMPLATES, device.name)


# rows, and which of them to explain by their scores, to those scores, texts by window, and figures
Answering = Callable[..., tuple[list[float], dict[str, str], dict[str, float]]]


@contextlib.contextmanager
def open_student(
    inputs: Inputs, variant: Variant, training: TrainingSettings, scoring: ScoringSettings, *, log: Log = print
) -> Generator[tuple[Answering, str]]:
    """The student, or without a ``lora_model`` its base, loaded as in training, answering rows as in ``sft_splits``; its device.

    An explanation continues from the label that the model itself predicted, never from the true one; where the variant reasons
    first, the score follows the model's own reason. A row too long loses its oldest history, as in training.
    """
    from reasoningrec_assets.training.scoring import label_log_odds

    data_root, adapter, base_model = inputs.lake.root, inputs.find("lora_model"), training.base_model
    known = {"adapter": str(adapter) if adapter else None, **training.model_dump(include={"quantization", "max_memory"})}
    settings = EngineSettings.model_validate(known)
    with open_engine(base_model, data_root, settings, batch_size=scoring.batch_size, log=log) as engine:
        quantization = None if training.quantization == "none" else training.quantization
        # an adapter's folder is named by its content
        identity = ModelIdentity(store.identity(base_model), "transformers", adapter.name if adapter else None, quantization)
        told: dict[str, Any] = {"sampling": Sampling(scoring.explanation_tokens, temperature=0.0, top_p=1.0, seed=0)}
        told |= {"open_engine": lambda: contextlib.nullcontext(engine), "chunk_size": max(64, scoring.batch_size), "log": log}
        writer = Writer(base_model, identity, cache_root=data_root / "cache", **told)

        def answer(rows: Sequence[dict[str, Any]], choose: Callable[[Sequence[float]], list[int]]) -> Any:
            # an explanation needs room too
            longest = min(training.max_tokens, engine.context - scoring.explanation_tokens)
            encoded, budget = encode_rows(rows, engine.chat, max_tokens=longest), scoring.tokens_per_batch
            names, first = [window_name(row) for row in rows], variant.reasoning == "before"
            begun = [""] * len(rows)  # what each answer begins with before its score, and before its explanation
            labels = engine.chat.label_tokens()

            def write(places: Sequence[int]) -> Written:
                return write_texts(places, lambda at: Request(names[at], encoded[at].message, prefill=begun[at]), writer)

            written: Any = write(range(len(rows))) if first else None
            if first:
                reasons = (one_line(re.split(r"(?i)[\s*#]*\bprediction\W+(?:yes|no)\b", one.text)[0]) for one in written.texts)
                begun = [reason and f"{reason}\n" for reason in reasons]
                before = [engine.chat.label_tokens(row.message, begin) for row, begin in zip(encoded, begun, strict=True)]
                encoded = [replace(row, prompt=[*row.prompt, *label.prefix]) for row, label in zip(encoded, before, strict=True)]
                labels = replace(labels, prefix=())
            scores = label_log_odds(engine.model, encoded, labels, tokens_per_batch=budget, device=engine.device, log=log)
            if first:
                texts = {names[at]: begun[at].rstrip() for at in choose(scores)}
            else:
                begun = [f"{student_answer(liked=score > 0, reasoning='')}\n" for score in scores]
                written = write(choose(scores))
                texts = {text.row: text.text for text in written.texts}
            return scores, texts, written.metrics | {"history_lines_dropped": float(sum(row.dropped for row in encoded))}

        yield answer, engine.device


def probability(score: float) -> float:
    """The logistic function of log-odds."""
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0  # exp overflows a float near 710


def predict(
    method: str, inputs: Inputs, variant: Variant, training: TrainingSettings, scoring: ScoringSettings, *, log: Log = print
) -> Output:
    """Score every validation and test row, and let the model explain the test rows that have a teacher's reasoning.

    A sample of these is asked again with another user's history and profile: an answer that stays the same did not heed them.
    """
    adapter = inputs.find("lora_model")
    rows = [row for row in read_rows(inputs.lake.path_of(inputs.of("sft_splits"))) if row["split"] != "train"]
    wanted = [index for index, row in enumerate(rows) if row["split"] == "test" and "\n" in row["output"]]
    with open_student(inputs, variant, training, scoring, log=log) as (answer, device):
        swapped = _swapped(rows, wanted[: scoring.swapped_rows])
        asked = [*wanted, *range(len(rows), len(rows) + len(swapped))]
        scores, explanations, figures = answer([*rows, *swapped.values()], lambda _: asked)
    for row, score in zip(rows, scores[: len(rows)], strict=True):
        row |= {"method": method, "score": score, "probability": probability(score)}
        row["explanation"] = explanations.get(window_name(row))
    for (index, row), score in zip(swapped.items(), scores[len(rows) :], strict=True):
        rows[index] |= {"swapped_score": score, "swapped_explanation": explanations[window_name(row)]}
    metrics = {**figures, "scored_rows": float(len(rows))}
    for split in ("valid", "test"):
        mine = [place for place, row in enumerate(rows) if row["split"] == split]
        found = auc([rows[place]["label"] for place in mine], [scores[place] for place in mine], method=method)
        metrics |= {} if found is None else {f"{split}_auc": found}
    models = [{"role": "base", "reference": training.base_model}]
    models += [{"role": "adapter", "reference": adapter.name}] if adapter is not None else []
    return Output(TABLES["predictions"].table(rows), metrics, {}, None, (*models,), STUDENT_TEMPLATES, device)


def _swapped(rows: Sequence[dict[str, Any]], sample: Sequence[int]) -> dict[int, dict[str, Any]]:
    """By place, the rows of a sample with the history of the next one in it that is another user's, where there is any."""
    found: dict[int, dict[str, Any]] = {}
    for at, index in enumerate(sample):
        row = rows[index]
        for donor in (rows[other] for other in (*sample[at + 1 :], *sample[:at])):
            if donor["user_id"] != row["user_id"] and (swapped := swap_history(row["input"], donor["input"])):
                # a split of its own keeps its name apart from that of the donor's own window with this target
                named = {"split": "swapped", "user_id": donor["user_id"]}
                found[index] = row | named | {"input": swapped}
                break
    return found
