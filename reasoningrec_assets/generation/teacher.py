"""Which rows ask the teacher for a description, a profile or a reasoning, and the table of what came back.

The wording is in `prompts`, the making in `run`. Only items and users that a window needs are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.datasets.sampling import choose_sample, choose_train
from reasoningrec_assets.datasets.windows import window_name
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.plan import Prices, Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import Text, write_texts
from reasoningrec_assets.lake.schemas import ITEM_DESCRIPTIONS, REASONING_LABELS, USER_PROFILES, TableSchema
from reasoningrec_assets.lake.steps import Output
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import (
    blind_prompt,
    description_prompt,
    fields_cut,
    parse_answer,
    profile_prompt,
    reasoning_prompt,
)
from reasoningrec_assets.settings import EngineSettings, GenerationSettings, ReasoningSettings, SamplingSettings

Log = Callable[[str], None]


def teacher_identity(settings: GenerationSettings, engine: EngineSettings) -> ModelIdentity:
    """What decides the teacher's answers besides the questions: the model's content, its engine, and what is put on it."""
    model = settings.model if engine.kind == "openai" else store.identity(settings.model)
    adapter = store.folder_identity(Path(engine.adapter)) if engine.adapter else None
    return ModelIdentity(model, engine.kind, adapter, None if engine.quantization == "none" else engine.quantization)


def teacher_writer(
    settings: GenerationSettings,
    engine: EngineSettings,
    data_root: Path,
    *,
    word_limit: int,
    dry_run: bool = False,
    log: Log = print,
    observe: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> Writer:
    """How one teacher step writes, in the terms of `plan.Writer`; the data root holds models and the generation cache."""

    @cache
    def chat() -> Chat:
        return Chat(store.load_tokenizer(store.resolve(settings.model, data_root, log=log)))

    return Writer(
        model=settings.model,
        identity=teacher_identity(settings, engine),
        sampling=Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed, settings.retry_tokens),
        cache_root=data_root / "cache",
        open_engine=lambda: open_engine(engine, settings.model, data_root, batch_size=settings.batch_size, log=log),
        chunk_size=settings.chunk_size,
        order="length" if engine.kind == "transformers" else "prefix",
        max_failed_share=settings.max_failed_share,
        word_limit=word_limit,
        prices=Prices(engine.prompt_price, engine.completion_price),
        count_tokens=None if engine.kind == "openai" else lambda message: len(chat().prompt(message)),
        dry_run=dry_run,
        log=log,
        observe=observe,
    )


def describe_items(dataset: Dataset, reviews: Path, items: Path, words: int, writer: Writer) -> Output:
    """Write a description, of so many words, of each item of ``item_reviews``, from the reviews there and what ``items`` says."""
    reviewed: dict[str, Any] = {str(row["item_id"]): row["reviews"] for row in read_rows(reviews, ["item_id", "reviews"])}
    known = load_context(items).items

    def ask(item_id: str) -> Request:
        prompt = description_prompt(known[item_id], kind=dataset.item_kind, words=words, reviews=reviewed[item_id])
        return Request(item_id, prompt)

    written = write_texts(sorted(reviewed), ask, writer)
    rows = [{"item_id": text.row, **_columns(text, writer)} for text in written.texts]
    written.metrics["fields_cut"] = float(sum(fields_cut(known[item_id]) for item_id in reviewed))
    return _output(ITEM_DESCRIPTIONS, dataset, rows, written.metrics, writer, *templates.DESCRIPTION)


def profile_users(
    dataset: Dataset,
    windows: Path,
    items: Path,
    descriptions: Path,
    words: int,
    writer: Writer,
) -> Output:
    """Write every user's profile, of so many words, from the profile items alone, which are the same in all splits.

    A user without profile items has an empty profile and costs no call.
    """
    context = load_context(items, descriptions=descriptions)
    users: dict[str, Mapping[str, Any]] = {}
    for row in read_rows(windows, ["user_id", "profile_item_ids", "profile_liked"]):
        users.setdefault(str(row["user_id"]), row)

    def ask(user: str) -> Request:
        history = context.history(users[user]["profile_item_ids"], users[user]["profile_liked"])
        return Request(user, profile_prompt(history, kind=dataset.item_kind, words=words))

    written = write_texts([user for user in sorted(users) if users[user]["profile_item_ids"]], ask, writer)
    texts = {text.row: _columns(text, writer) for text in written.texts}
    nothing = {"text": "", "status": "empty", "finish_reason": None, "error": None, "model": None, "cache_key": None}
    rows = [{"user_id": user, **texts.get(user, nothing)} for user in sorted(users)]
    return _output(USER_PROFILES, dataset, rows, written.metrics, writer, templates.USER_PROFILE)


def reason_about_labels(
    dataset: Dataset,
    windows: Path,
    items: Path,
    descriptions: Path,
    profiles: Path,
    settings: ReasoningSettings,
    sampling: SamplingSettings,
    writer: Writer,
) -> Output:
    """Write why each known label came about, for the K training rows and for the test rows that are explained.

    Validation rows need none: early stopping looks at their label alone. A blind teacher is not told the label: of
    several answers the first one that predicted it is kept, and a row without one falls back to a conditioned teacher.
    """
    context = load_context(items, descriptions=descriptions, profiles=profiles)
    train = choose_train(windows, sampling.k, sampling.seed)
    test = choose_sample(windows, "test", sampling.explained_rows, sampling.seed)
    _say_short(train.counts, writer.log)
    chosen: list[dict[str, Any]] = [*train.rows.to_pylist(), *test.to_pylist()]
    kind, words = dataset.item_kind, settings.words

    def conditioned(row: Mapping[str, Any]) -> Request:
        return Request(window_name(row), reasoning_prompt(context.window(row), liked=row["label"], kind=kind, words=words))

    def blind(drawn: tuple[Mapping[str, Any], int]) -> Request:
        return Request(window_name(drawn[0]), blind_prompt(context.window(drawn[0]), kind=kind, words=words), draw=drawn[1])

    metrics = {f"train_{name}": float(value) for name, value in train.counts.items()}
    kept: dict[str, Text] = {}
    if settings.teacher_mode == "blind":
        drawn = [(row, draw) for row in chosen for draw in range(settings.blind_samples)]
        guessed = write_texts(drawn, blind, writer)
        for (row, _), text in zip(drawn, guessed.texts, strict=True):
            predicted, reasoning = parse_answer(text.text)
            if predicted == row["label"] and reasoning:
                kept.setdefault(text.row, replace(text, text=reasoning))
        metrics |= {f"blind_{name}": value for name, value in guessed.metrics.items()}
        metrics["blind_right_share"] = len(kept) / len(chosen) if chosen else 0.0
    told = write_texts([row for row in chosen if window_name(row) not in kept], conditioned, writer)
    mode = dict.fromkeys(kept, "blind") | dict.fromkeys(
        (text.row for text in told.texts), "conditioned" if settings.teacher_mode == "conditioned" else "conditioned_fallback"
    )
    texts = kept | {text.row: text for text in told.texts}
    rows = [
        {name: row[name] for name in ("split", "user_id", "target_item_id", "label")}
        | {"teacher_mode": mode[window_name(row)]}
        | _columns(texts[window_name(row)], writer)
        for row in chosen
    ]
    template = templates.REASONING if settings.teacher_mode == "conditioned" else templates.REASONING_BLIND
    return _output(REASONING_LABELS, dataset, rows, metrics | told.metrics, writer, template)


def _say_short(counts: Mapping[str, int], log: Log) -> None:
    if counts["filled_up"] or counts["short_by"]:
        log(
            f"the train split has {counts['liked_available']} liked and {counts['disliked_available']} disliked rows: took {counts['liked']} liked and "
            f"{counts['disliked']} disliked, {counts['short_by']} fewer than K = {counts['requested']}"
        )


def _columns(text: Text, writer: Writer) -> dict[str, Any]:
    return {
        "text": text.text,
        "status": text.status,
        "finish_reason": text.finish_reason,
        "error": text.error,
        "model": writer.model,
        "cache_key": text.cache_key,
    }


def _output(
    schema: TableSchema,
    dataset: Dataset,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    writer: Writer,
    *used: templates.Template,
) -> Output:
    import pyarrow as pa

    failed = [f"- {' '.join(str(row[name]) for name in schema.key)}: {row['error']}" for row in rows if row["error"]]
    return Output(
        table=pa.Table.from_pylist([{"dataset": dataset.name, **row} for row in rows], schema=schema.arrow()),
        metrics=dict(metrics),
        details={"failed_rows": "\n".join(failed[:20])} if failed else {},
        models=({"role": "teacher", "reference": writer.model, "engine": writer.identity.engine},),
        prompts={template.name: template.sha256 for template in used},
    )
