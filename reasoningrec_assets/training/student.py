"""The student's life: its rows, its training, its predictions.

What belongs here: tables in, tables or an adapter out. What doesn't: the training loop (`lora`) and reading scores
(`scoring`). Zero-shot and fine-tuned students share one way of predicting; only the adapter differs.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reasoningrec_assets import compute
from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.datasets.sampling import choose_sample
from reasoningrec_assets.generation.engines.transformers import TransformersEngine, open_engine
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import write_texts
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.lake.schemas import PREDICTIONS, SFT_SPLITS
from reasoningrec_assets.lake.steps import Output, seal
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import student_answer, student_record
from reasoningrec_assets.settings import SamplingSettings, ScoringSettings, TrainingSettings
from reasoningrec_assets.training.encode import EncodedRow, encode_rows
from reasoningrec_assets.training.lora import train_adapter
from reasoningrec_assets.training.scoring import label_log_odds

Log = Callable[[str], None]
STUDENT_TEMPLATES = {template.name: template.sha256 for template in templates.STUDENT}


def build_splits(
    dataset: Dataset,
    windows: Path,
    items: Path,
    descriptions: Path,
    profiles: Path,
    labels: Path,
    sampling: SamplingSettings,
    *,
    log: Log = print,
) -> Output:
    """Write the student's rows: the K training rows, a validation sample, and the whole test split.

    Args:
        dataset: The dataset's record.
        windows: Parquet file of ``interaction_windows``.
        items: Parquet file of ``items``.
        descriptions: Parquet file of ``item_descriptions``.
        profiles: Parquet file of ``user_profiles``.
        labels: Parquet file of ``reasoning_labels``; its training rows are the ones trained on.
        sampling: How many validation rows, and the seed that draws them.
        log: Receives a line where training rows have no reasoning.
    """
    import pyarrow as pa

    context = load_context(items, descriptions=descriptions, profiles=profiles)
    reasoning = {_key(row): str(row["text"]) for row in read_rows(labels)}
    chosen = [row for row in read_rows(windows) if row["split"] == "test" or (row["split"] == "train" and _key(row) in reasoning)]
    chosen += choose_sample(windows, "valid", sampling.valid_rows, sampling.seed).to_pylist()
    bare = sum(row["split"] == "train" and not reasoning[_key(row)] for row in chosen)
    if bare:
        # dropping them would unbalance the K rows, and their label, which is the part that decides the AUC, is known
        log(
            f"{bare} training rows have no reasoning (the teacher's answer was empty, cut or failed): they teach their label alone"
        )
    rows = [
        {
            "dataset": dataset.name,
            **{name: row[name] for name in ("split", "user_id", "target_item_id", "label")},
            **student_record(
                context.window(row), liked=bool(row["label"]), reasoning=reasoning.get(_key(row), ""), kind=dataset.item_kind
            ),
        }
        for row in chosen
    ]
    sizes = Counter(str(row["split"]) for row in rows)
    liked = Counter(str(row["split"]) for row in rows if row["label"])
    return Output(
        table=pa.Table.from_pylist(rows, schema=SFT_SPLITS.arrow()),
        metrics={
            "train_rows_without_reasoning": float(bare),
            **{f"{split}_rows": float(sizes[split]) for split in ("train", "valid", "test")},
            **{f"{split}_liked_share": liked[split] / sizes[split] for split in sizes},
        },
        prompts=STUDENT_TEMPLATES,
    )


def train(
    splits: Path,
    settings: TrainingSettings,
    tokens_per_batch: int,
    data_root: Path,
    scratch: Path,
    *,
    data_version: str,
    log: Log = print,
) -> Output:
    """Fine-tune the student and seal its adapter into a folder that says what it is.

    Args:
        splits: Parquet file of ``sft_splits``.
        settings: Hyper-parameters.
        tokens_per_batch: Padded tokens in one forward pass of validation.
        data_root: Holds models.
        scratch: Folder for the unfinished adapter.
        data_version: Version of ``splits``, for the adapter's manifest.
        log: Receives the progress.
    """
    base = store.resolve(settings.base_model, data_root, log=log)
    chat = Chat(store.load_tokenizer(base))
    rows = read_rows(splits)
    encoded = {
        split: encode_rows([row for row in rows if row["split"] == split], chat, max_tokens=settings.max_tokens)
        for split in ("train", "valid")
    }
    folder = scratch / "adapter"
    with compute.lease(log=log) as device:
        result = train_adapter(
            encoded["train"],
            encoded["valid"],
            base=base,
            chat=chat,
            settings=settings,
            tokens_per_batch=tokens_per_batch,
            device=device,
            folder=folder,
            log=log,
        )
    store.free_memory()
    curve = [asdict(epoch) for epoch in result.epochs]
    seal(
        folder,
        {
            "base_model": settings.base_model,
            "base_identity": store.identity(settings.base_model),
            "data_version": data_version,
            "settings": settings.model_dump(),
            "templates": STUDENT_TEMPLATES,
            "chat_template": sha256_json(chat.tokenizer.chat_template),
            "best_epoch": result.best_epoch,
            # without the seconds: equal trainings give equal manifests
            "epochs": [{name: epoch[name] for name in ("epoch", "train_loss", "valid_auc")} for epoch in curve],
        },
    )
    return Output(
        path=folder,
        metrics={**result.metrics, "history_lines_dropped": float(sum(row.dropped for row in encoded["train"]))},
        details={"curve": _curve_markdown(curve)},
        models=({"role": "student base", "reference": settings.base_model},),
        prompts=STUDENT_TEMPLATES,
        device=device.name,
    )


def predict(
    dataset: Dataset,
    method: str,
    splits: Path,
    base_model: str,
    scoring: ScoringSettings,
    data_root: Path,
    *,
    max_tokens: int,
    adapter: Path | None = None,
    log: Log = print,
) -> Output:
    """Score every validation and test row, and let the model explain the test rows that have a teacher's reasoning.

    An explanation continues from the label that the model itself predicted, never from the true one.

    Args:
        dataset: The dataset's record.
        method: Name of the method in the predictions.
        splits: Parquet file of ``sft_splits``.
        base_model: Model reference of the base.
        scoring: Batch sizes and the length of explanations.
        data_root: Holds models and the generation cache.
        max_tokens: Longest row; the oldest history goes first, as in training.
        adapter: Folder of the LoRA adapter; None for zero-shot.
        log: Receives the progress.
    """
    import pyarrow as pa

    rows = [row for row in read_rows(splits) if row["split"] != "train"]
    with open_engine(base_model, data_root, adapter=adapter, log=log) as engine:
        encoded = encode_rows(rows, engine.chat, max_tokens=max_tokens)
        scores = label_log_odds(
            engine.model,
            [row.prompt for row in encoded],
            engine.chat.label_tokens(),
            pad=engine.chat.tokenizer.pad_token_id,
            tokens_per_batch=scoring.tokens_per_batch,
            device=engine.device,
            log=log,
        )
        explanations, metrics = _explain(rows, encoded, scores, engine, base_model, adapter, scoring, data_root, log)
        device = engine.device
    table = [
        {
            "dataset": dataset.name,
            "method": method,
            **{name: row[name] for name in ("split", "user_id", "target_item_id", "label")},
            "score": score,
            "probability": 1 / (1 + math.exp(-score)) if score > -700 else 0.0,  # exp overflows a float near 710
            "explanation": explanations.get(_key(row)),
        }
        for row, score in zip(rows, scores, strict=True)
    ]
    metrics |= {"scored_rows": float(len(rows)), "history_lines_dropped": float(sum(row.dropped for row in encoded))}
    models = [{"role": "student base", "reference": base_model}]
    if adapter is not None:
        models.append({"role": "adapter", "reference": adapter.name})
    return Output(
        table=pa.Table.from_pylist(table, schema=PREDICTIONS.arrow()),
        metrics=metrics,
        models=tuple(models),
        prompts=STUDENT_TEMPLATES,
        device=device,
    )


def _explain(
    rows: Sequence[Mapping[str, Any]],
    encoded: Sequence[EncodedRow],
    scores: Sequence[float],
    engine: TransformersEngine,
    base_model: str,
    adapter: Path | None,
    scoring: ScoringSettings,
    data_root: Path,
    log: Log,
) -> tuple[dict[str, str], dict[str, float]]:
    wanted = [index for index, row in enumerate(rows) if row["split"] == "test" and "\n" in row["output"]]
    requests = [
        Request(_key(rows[index]), encoded[index].message, prefill=student_answer(liked=scores[index] > 0, reasoning="") + "\n")
        for index in wanted
    ]
    written = write_texts(
        requests,
        # an adapter's folder is named by its content
        identity=ModelIdentity(store.identity(base_model), "transformers", adapter=adapter.name if adapter else None),
        sampling=Sampling(scoring.explanation_tokens, temperature=0.0, top_p=1.0, seed=0),
        cache_root=data_root / "cache",
        open_engine=lambda: contextlib.nullcontext(engine),
        batch_size=scoring.batch_size,
        chunk_size=scoring.batch_size,
        log=log,
    )
    return {text.row: text.text for text in written.texts}, written.metrics


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['split']}/{row['user_id']}/{row['target_item_id']}"


def _curve_markdown(curve: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| epoch | train loss | validation AUC | seconds |", "| --- | --- | --- | --- |"]
    for epoch in curve:
        auc = "not defined" if epoch["valid_auc"] is None else f"{epoch['valid_auc']:.4f}"
        lines.append(f"| {epoch['epoch']} | {epoch['train_loss']:.4f} | {auc} | {epoch['seconds']:.1f} |")
    return "\n".join(lines)
