"""The report as one HTML file that needs nothing but itself; `verdicts.html` says what its figures allow."""

from collections.abc import Callable
from pathlib import Path

from reasoningrec_assets.lake.files import sha256_file
from reasoningrec_assets.report.gather import Report

_FOLDER = Path(__file__).parent
_FILTERS: dict[str, Callable[..., str]] = {
    "fixed": lambda value, digits=3: "–" if value is None else f"{value:.{digits}f}",
    "p": lambda value: "–" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}",
    "percent": lambda value: "–" if value is None else f"{100 * value:.1f} %",
    "whole": lambda value: "–" if value is None else f"{value:,.0f}",
}


def looks() -> dict[str, str]:
    """SHA-256 of the templates and of the style, so that a page is made again when one changes."""
    return {name: sha256_file(_FOLDER / name) for name in ("page.html", "verdicts.html", "page.css")}


def render(report: Report) -> str:
    """The whole page, with its style and drawings inline; strangers and models wrote its texts, and all of them are escaped."""
    import jinja2

    loader, strict = jinja2.FileSystemLoader(_FOLDER), jinja2.StrictUndefined
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=strict, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= _FILTERS
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(report=report, css=css)
