"""Every SQL snippet of the README and the docs runs on the catalogue of a lake that holds every table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets_tests.catalog.conftest import Store

ROOT = Path(__file__).parent.parent
SNIPPETS = {
    f"{path.name}, {number}": sql
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, block in enumerate(re.findall(r"```sql\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL), start=1)
    for sql in [block]
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    filled = Store(tmp_path_factory.mktemp("docs") / "data")
    for asset in TABLES:
        filled.publish(asset, "ml100k_demo")
    filled.sync()
    return filled


def test_the_docs_have_snippets() -> None:
    assert len(SNIPPETS) >= 9


@pytest.mark.parametrize("where", SNIPPETS)
def test_a_snippet_runs(where: str, store: Store) -> None:
    for statement in filter(str.strip, SNIPPETS[where].split(";")):
        store.query(statement)
