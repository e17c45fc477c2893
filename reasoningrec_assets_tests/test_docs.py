"""What the pages say holds: their SQL runs, what they link to and name is there, and those that are made are of today."""

from __future__ import annotations

import re
import runpy
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


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_and_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (page.parent / link).exists()]
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|sql|toml|html|yaml))`", text)
    roots = (ROOT, ROOT / "reasoningrec_assets", ROOT / "reasoningrec_assets_tests")
    assert not [name for name in named if not any((root / name).exists() for root in roots)]


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, flags=re.MULTILINE)}
    assert {"test", "demo", "lint"} <= named <= targets


@pytest.mark.parametrize("name", ["make_settings", "make_results"])
def test_a_page_that_is_made_is_what_it_is_made_from(name: str) -> None:
    made = runpy.run_path(str(ROOT / "docs" / f"{name}.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), f"run: python docs/{name}.py"
