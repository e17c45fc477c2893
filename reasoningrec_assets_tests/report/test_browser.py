"""The report as a browser shows it: nothing runs, nothing is requested, every drawing has a size, on a phone and in the dark."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from reasoningrec_assets.report.gather import gather
from reasoningrec_assets.report.page import render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.operations


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield running
        running.close()


def opened(browser: Any, path: Path, **context: Any) -> tuple[Any, list[str]]:
    """The page, and everything that it complained about or asked for."""
    page = browser.new_context(**context).new_page()
    noise: list[str] = []
    page.on("console", lambda message: noise.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noise.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: noise.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.goto(path.as_uri(), wait_until="load")
    return page, noise


@pytest.fixture
def path(files: dict[str, Any], hostile: str, tmp_path: Path) -> Path:
    epochs = [{"epoch": number, "train_loss": 1 / number, "valid_auc": 0.5 + number / 10} for number in (1, 2, 3)]
    planted = tmp_path / "report.html"
    planted.write_text(render(gather(**files | {"title": f"Films {hostile}"}, training={"student": epochs})), encoding="utf-8")
    return planted


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_drawn_and_nothing_runs_or_is_requested(browser: Any, path: Path, width: int, scheme: Any) -> None:
    page, noise = opened(browser, path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert '<script>alert("x")</script>' in page.inner_text("h1")
    assert page.locator("script, img").count() == 0
    drawings = page.locator("section svg:visible")
    assert drawings.count() >= 8
    for drawing in drawings.all():
        box = drawing.bounding_box()
        assert box["width"] >= 1
        assert box["height"] >= 1
    for line in page.locator("svg.square polyline").all():
        assert line.evaluate("node => node.getTotalLength()") > 0
        assert line.evaluate("node => getComputedStyle(node).stroke") not in ("none", "")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    dark = (
        sum(int(part) for part in page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(","))
        < 200
    )
    assert dark == (scheme == "dark")
    assert noise == []


def test_the_lines_of_two_methods_differ_without_colour(browser: Any, path: Path) -> None:
    page, _ = opened(browser, path)
    dashes = (
        page.locator("svg.square")
        .first.locator("polyline")
        .evaluate_all("nodes => nodes.map(node => getComputedStyle(node).strokeDasharray)")
    )
    assert len(dashes) == len({*dashes}) == 2


def test_a_page_that_would_run_a_script_is_found(browser: Any, path: Path) -> None:
    # the checks above can fail: the same page, unescaped and without its policy
    text = path.read_text(encoding="utf-8").replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace("&#39;", "'")
    path.write_text(
        text.replace("default-src 'none'", "default-src *").replace("style-src", "script-src 'unsafe-inline'; style-src")
    )
    _, noise = opened(browser, path)
    assert "dialog: x" in noise
