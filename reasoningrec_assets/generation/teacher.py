"""Which rows ask the teacher for a description, a profile or a reasoning; only items and users that a window needs."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.datasets.sampling import choose_sample, choose_train
from reasoningrec_assets.datasets.windows import window_name
from reasoningrec_assets.errors import Log
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import write_texts
from reasoningrec_assets.lake.schemas import TABLES, TableSchema
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts import render, templates
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.settings import EngineSettings, GenerationSettings, ReasoningSettings, SamplingSettings


def teacher_writer(settings: GenerationSettings, engine: EngineSettings, data_root: Path, *, log: Log, **more: Any) -> Writer:
    """How one teacher step writes; its identity is what decides texts besides questions: model, engine, what is put on it."""
    model = settings.model if engine.kind == "openai" else store.identity(settings.model)
    adapter = store.folder_identity(Path(engine.adapter)) if engine.adapter else None
    quantization = None if engine.quantization == "none" else engine.quantization

    @cache
    def chat() -> Chat:
        return Chat(store.load_tokenizer(store.resolve(settings.model, data_root, log=log)))

    more |= settings.model_dump(include={"model", "chunk_size", "max_failed_share"}) | {"log": log}
    return Writer(
        identity=ModelIdentity(model, engine.kind, adapter, quantization),
        sampling=Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed, settings.retry_tokens),
        cache_root=data_root / "cache",
        open_engine=lambda: open_engine(engine, settings.model, data_root, batch_size=settings.batch_size, log=log),
        order="length" if engine.kind == "transformers" else "prefix",
        prices=(engine.prompt_price, engine.completion_price),
        count_tokens=None if engine.kind == "openai" else lambda message: len(chat().prompt(message)),
        **more,
    )


def describe_items(dataset: Dataset, words: int, inputs: Inputs, writer: Writer) -> Output:
    """Write a description, of so many words, of each item of ``item_reviews``, from the reviews there and what ``items`` says."""
    rows: list[dict[str, Any]] = read_rows(inputs["item_reviews"], ["item_id", "reviews"])
    reviewed = {row["item_id"]: row["reviews"] for row in rows}
    known = load_context(inputs["items"]).items

    def ask(item_id: str) -> Request:
        prompt = render.description_prompt(known[item_id], kind=dataset.item_kind, words=words, reviews=reviewed[item_id])
        return Request(item_id, prompt)

    written = write_texts(sorted(reviewed), ask, writer)
    written.metrics["fields_cut"] = float(sum(render.fields_cut(known[item_id]) for item_id in reviewed))
    rows = [{"dataset": dataset.name, "item_id": text.row, **vars(text)} for text in written.texts]
    return _output(TABLES["item_descriptions"], rows, written.metrics, writer, *templates.DESCRIPTION)


def profile_users(dataset: Dataset, words: int, inputs: Inputs, writer: Writer) -> Output:
    """Write every user's profile, of so many words, from the profile items alone; without any it is empty and costs no call."""
    context = load_context(inputs["items"], descriptions=inputs.find("item_descriptions"))
    rows: list[dict[str, Any]] = read_rows(inputs["interaction_windows"], ["user_id", "profile_item_ids", "profile_liked"])
    users = {row["user_id"]: row for row in rows}

    def ask(user: str) -> Request:
        history = context.history(users[user]["profile_item_ids"], users[user]["profile_liked"])
        return Request(user, render.profile_prompt(history, kind=dataset.item_kind, words=words))

    written = write_texts([user for user in sorted(users) if users[user]["profile_item_ids"]], ask, writer)
    texts = {text.row: vars(text) for text in written.texts}
    nothing = {"text": "", "status": "empty"}
    rows = [{"dataset": dataset.name, "user_id": user, **texts.get(user, nothing)} for user in sorted(users)]
    return _output(TABLES["user_profiles"], rows, written.metrics, writer, "user_profile")


def reason_about_labels(
    dataset: Dataset, settings: ReasoningSettings, sampling: SamplingSettings, inputs: Inputs, writer: Writer
) -> Output:
    """Write why each known label came about, for the K training rows and for the test rows that are explained.

    Validation rows need none: early stopping looks at their label alone. A blind teacher is not told the label: of
    several answers the first one that predicted it is kept, and a row without one falls back to a conditioned teacher.
    """
    seen = {"descriptions": inputs.find("item_descriptions"), "profiles": inputs.find("user_profiles")}
    context = load_context(inputs["items"], **seen)
    windows = inputs["interaction_windows"]
    train, counts = choose_train(windows, sampling.k, sampling.seed, writer.log)
    test = choose_sample(windows, "test", sampling.explained_rows, sampling.seed)
    chosen: list[dict[str, Any]] = [*train.to_pylist(), *test.to_pylist()]
    kind, words, blind = dataset.item_kind, settings.words, settings.teacher_mode == "blind"

    def ask_blind(drawn: tuple[Mapping[str, Any], int]) -> Request:
        row, draw = drawn
        return Request(window_name(row), render.blind_prompt(context.window(row), kind=kind, words=words), draw=draw)

    def ask_conditioned(row: Mapping[str, Any]) -> Request:
        return Request(window_name(row), render.reasoning_prompt(context.window(row), liked=row["label"], kind=kind, words=words))

    metrics = {f"train_{name}": float(value) for name, value in counts.items()}
    blindly: dict[str, float] = {}
    reasoned: dict[str, dict[str, Any]] = {}  # the teacher's columns, by the name of the window
    if blind:
        drawn = [(row, draw) for row in chosen for draw in range(settings.blind_samples)]
        guessed = write_texts(drawn, ask_blind, writer)
        for (row, _), text in zip(drawn, guessed.texts, strict=True):
            predicted, reasoning = render.parse_answer(text.text)
            if predicted == row["label"] and reasoning:
                reasoned.setdefault(text.row, {**vars(text), "text": reasoning, "teacher_mode": "blind"})
        metrics |= {f"blind_{name}": value for name, value in guessed.metrics.items()}
        blindly = guessed.metrics
        metrics["blind_right_share"] = len(reasoned) / len(chosen) if chosen else 0.0
    told = write_texts([row for row in chosen if window_name(row) not in reasoned], ask_conditioned, writer)
    mode = "conditioned_fallback" if blind else "conditioned"
    reasoned |= {text.row: {**vars(text), "teacher_mode": mode} for text in told.texts}
    rows = [row | reasoned[window_name(row)] for row in chosen]
    spent = {f"generation_{name}" for name in ("requests", "calls", "prompt_tokens", "completion_tokens", "seconds", "cost")}
    metrics |= {name: value + blindly.get(name, 0) * (name in spent) for name, value in told.metrics.items()}
    used = ("reasoning_blind", "reasoning") if blind else ("reasoning",)
    return _output(TABLES["reasoning_labels"], rows, metrics, writer, *used)


def _output(schema: TableSchema, rows: list[dict[str, Any]], metrics: Mapping[str, float], writer: Writer, *used: str) -> Output:
    """The table of the rows' columns that the schema names, null where a row lacks one; `used` are the templates asked with."""
    failed = [f"- {' '.join(str(row[name]) for name in schema.key)}: {row['error']}" for row in rows if row.get("error")]
    details = {"failed_rows": "\n".join(failed[:20])} if failed else {}
    models = ({"role": "teacher", "reference": writer.model, "engine": writer.identity.engine},)
    wording = {template: templates.SHA256[template] for template in used}
    return Output(schema.table(rows), metrics, details, models=models, prompts=wording)
