"""What the teacher writes: item descriptions, user profiles, and reasoning about a known label.

What belongs here: which rows ask for a text, and the table of what came back. What doesn't: wording (`prompts`) and how
texts are made (`run`). Only items and users that a window needs are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.datasets.sampling import choose_sample, choose_train
from reasoningrec_assets.generation.engines import transformers as engine
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import Text, Written, write_texts
from reasoningrec_assets.lake.schemas import ITEM_DESCRIPTIONS, REASONING_LABELS, USER_PROFILES, TableSchema
from reasoningrec_assets.lake.steps import Output
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import description_prompt, profile_prompt, reasoning_prompt
from reasoningrec_assets.settings import GenerationSettings, SamplingSettings

Log = Callable[[str], None]


def describe_items(
    dataset: Dataset, windows: Path, items: Path, settings: GenerationSettings, data_root: Path, *, log: Log = print
) -> Output:
    """Write a description of every item that is a target, in a history or in a profile of any window.

    Args:
        dataset: The dataset's record.
        windows: Parquet file of ``interaction_windows``.
        items: Parquet file of ``items``.
        settings: How to write.
        data_root: Holds models and the generation cache.
        log: Receives the progress.
    """
    needed: set[str] = set()
    for row in read_rows(windows, ["target_item_id", "history_item_ids", "profile_item_ids"]):
        needed.update([row["target_item_id"], *row["history_item_ids"], *row["profile_item_ids"]])  # type: ignore[misc, list-item]
    known = load_context(items).items
    requests = [
        Request(item_id, description_prompt(known[item_id], kind=dataset.item_kind, words=settings.words))
        for item_id in sorted(needed)
    ]
    written = _write(requests, settings, data_root, log)
    rows = [{"item_id": text.row, **_columns(text, settings)} for text in written.texts]
    return _output(ITEM_DESCRIPTIONS, dataset, rows, written, settings, templates.ITEM_DESCRIPTION)


def profile_users(
    dataset: Dataset,
    windows: Path,
    items: Path,
    descriptions: Path,
    settings: GenerationSettings,
    data_root: Path,
    *,
    log: Log = print,
) -> Output:
    """Write every user's profile from the profile items alone; a user without any has an empty profile and costs no call.

    Args:
        dataset: The dataset's record.
        windows: Parquet file of ``interaction_windows``; a user's profile items are the same in all splits.
        items: Parquet file of ``items``.
        descriptions: Parquet file of ``item_descriptions``.
        settings: How to write.
        data_root: Holds models and the generation cache.
        log: Receives the progress.
    """
    context = load_context(items, descriptions=descriptions)
    users: dict[str, Mapping[str, Any]] = {}
    for row in read_rows(windows, ["user_id", "profile_item_ids", "profile_liked"]):
        users.setdefault(str(row["user_id"]), row)
    words = min(settings.words, dataset.profile_words)
    requests = [
        Request(
            user,
            profile_prompt(context.history(row["profile_item_ids"], row["profile_liked"]), kind=dataset.item_kind, words=words),
        )
        for user, row in sorted(users.items())
        if row["profile_item_ids"]
    ]
    written = _write(requests, settings, data_root, log)
    texts = {text.row: _columns(text, settings) for text in written.texts}
    nothing = {"text": "", "status": "empty", "finish_reason": None, "model": None, "cache_key": None}
    rows = [{"user_id": user, **texts.get(user, nothing)} for user in sorted(users)]
    return _output(USER_PROFILES, dataset, rows, written, settings, templates.USER_PROFILE)


def reason_about_labels(
    dataset: Dataset,
    windows: Path,
    items: Path,
    descriptions: Path,
    profiles: Path,
    settings: GenerationSettings,
    sampling: SamplingSettings,
    data_root: Path,
    *,
    log: Log = print,
) -> Output:
    """Write why each known label came about, for the K training rows and for the test rows that are explained.

    Validation rows need none: early stopping looks at their label alone.

    Args:
        dataset: The dataset's record.
        windows: Parquet file of ``interaction_windows``.
        items: Parquet file of ``items``.
        descriptions: Parquet file of ``item_descriptions``.
        profiles: Parquet file of ``user_profiles``.
        settings: How to write.
        sampling: K, the number of explained rows, and the seed that draws both.
        data_root: Holds models and the generation cache.
        log: Receives the progress.
    """
    context = load_context(items, descriptions=descriptions, profiles=profiles)
    train = choose_train(windows, sampling.k, sampling.seed)
    test = choose_sample(windows, "test", sampling.explained_rows, sampling.seed)
    _say_short(train.counts, log)
    chosen: list[dict[str, Any]] = [*train.rows.to_pylist(), *test.to_pylist()]
    requests = [
        Request(
            f"{row['split']}/{row['user_id']}/{row['target_item_id']}",
            reasoning_prompt(context.window(row), liked=row["label"], kind=dataset.item_kind, words=settings.words),
        )
        for row in chosen
    ]
    written = _write(requests, settings, data_root, log)
    rows = [
        {name: row[name] for name in ("split", "user_id", "target_item_id", "label")}
        | {"teacher_mode": "conditioned"}
        | _columns(text, settings)
        for row, text in zip(chosen, written.texts, strict=True)
    ]
    output = _output(REASONING_LABELS, dataset, rows, written, settings, templates.REASONING)
    output.metrics |= {f"train_{name}": float(value) for name, value in train.counts.items()}
    return output


def _say_short(counts: Mapping[str, int], log: Log) -> None:
    if counts["filled_up"] or counts["short_by"]:
        log(
            f"the train split has {counts['liked_available']} liked and {counts['disliked_available']} disliked rows: took {counts['liked']} liked and "
            f"{counts['disliked']} disliked, {counts['short_by']} fewer than K = {counts['requested']}"
        )


def _write(requests: Sequence[Request], settings: GenerationSettings, data_root: Path, log: Log) -> Written:
    return write_texts(
        requests,
        identity=ModelIdentity(store.identity(settings.model), "transformers"),
        sampling=Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed),
        cache_root=data_root / "cache",
        open_engine=lambda: engine.open_engine(settings.model, data_root, log=log),
        batch_size=settings.batch_size,
        chunk_size=settings.chunk_size,
        max_failed_share=settings.max_failed_share,
        log=log,
    )


def _columns(text: Text, settings: GenerationSettings) -> dict[str, Any]:
    return {
        "text": text.text,
        "status": text.status,
        "finish_reason": text.finish_reason,
        "model": settings.model,
        "cache_key": text.cache_key,
    }


def _output(
    schema: TableSchema,
    dataset: Dataset,
    rows: Sequence[Mapping[str, Any]],
    written: Written,
    settings: GenerationSettings,
    template: templates.Template,
) -> Output:
    import pyarrow as pa

    return Output(
        table=pa.Table.from_pylist([{"dataset": dataset.name, **row} for row in rows], schema=schema.arrow()),
        metrics=dict(written.metrics),
        models=({"role": "teacher", "reference": settings.model},),
        prompts={template.name: template.sha256},
    )
