"""The report as one HTML file that needs nothing but itself: the sentences that say what the figures allow, and rendering."""

from collections.abc import Callable, Iterator
from pathlib import Path

from reasoningrec_assets.lake.files import sha256_file
from reasoningrec_assets.report.gather import Method, Report

# At 500 rows an AUC near 0.75 is known to about +-0.045 (section 5, point 12, of the method: +-0.035 at 800).
SMALLEST_SAMPLE = 500
WIDEST_HALF_INTERVAL = 0.05
_FOLDER = Path(__file__).parent


def _best(report: Report, *, floor: bool) -> Method | None:
    return next((method for method in report.methods if method.floor == floor and method.auc is not None), None)


def _figure(method: Method) -> str:
    bounds = "" if method.low is None or method.high is None else f" ({method.low:.3f} to {method.high:.3f})"
    return f"{method.auc:.3f}{bounds}"


def _results(report: Report) -> Iterator[str]:
    model, floor = _best(report, floor=False), _best(report, floor=True)
    if model and floor:
        higher, lower = (model, floor) if (model.auc or 0.0) > (floor.auc or 0.0) else (floor, model)
        separate = higher.low is not None and lower.high is not None and higher.low > lower.high
        verb = "is above" if higher is model else "equals" if model.auc == floor.auc else "does not reach"
        spread = "and the intervals do not overlap" if separate else "though the intervals overlap"
        yield f"{model.name}, with an AUC of {_figure(model)}, {verb} the best floor, {floor.name}, with {_figure(floor)}, {spread}."


def _warnings(report: Report) -> Iterator[str]:
    few = f"there are {report.test_rows:,} test rows, fewer than {SMALLEST_SAMPLE}" if report.test_rows < SMALLEST_SAMPLE else ""
    halves = {m.name: (m.high - m.low) / 2 for m in report.methods if m.low is not None and m.high is not None}
    wide = ", ".join(f"{name} to ±{half:.2f}" for name, half in halves.items() if half > WIDEST_HALF_INTERVAL)
    if problems := [*filter(None, (few, wide and f"an AUC is known only roughly ({wide})"))]:
        yield f"This sample is too small to judge by: {', and '.join(problems)}."
    if report.liked_share in {0.0, 1.0} and report.test_rows:
        yield f"Every test row is {'liked' if report.liked_share else 'disliked'}: with one class only, there is no AUC."
    for method in report.methods:
        if method.missing_rows:
            covered = f"{method.name} scored {method.rows:,.0f} of {report.test_rows:,} test rows"
            yield f"{covered}; its figures are computed on those, so they do not compare with the others'."
        if method.extra_rows:
            yield f"{method.name} also scored {method.extra_rows:,.0f} rows outside the test population; they are left out."


def verdicts(report: Report) -> list[tuple[str, str]]:
    """What the figures allow one to say: ``result`` or ``warning``, which limits what may be concluded, and a sentence."""
    said = {"result": _results, "warning": _warnings}
    return [(kind, sentence) for kind, sentences in said.items() for sentence in sentences(report)]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


_FILTERS: dict[str, Callable[..., str]] = {
    "fixed": lambda value, digits=3: "–" if value is None else f"{value:.{digits}f}",
    "p": lambda value: "–" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}",
    "percent": lambda value: "–" if value is None else f"{100 * value:.1f} %",
    "whole": lambda value: "–" if value is None else f"{value:,.0f}",
    "duration": _duration,
}


def looks() -> dict[str, str]:
    """SHA-256 of the template and of the style, so that a page is made again when either changes."""
    return {name: sha256_file(_FOLDER / name) for name in ("page.html", "page.css")}


def render(report: Report) -> str:
    """The whole page, with its style and drawings inline; strangers and models wrote its texts, and all of them are escaped."""
    import jinja2

    loader, strict = jinja2.FileSystemLoader(_FOLDER), jinja2.StrictUndefined
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=strict, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= _FILTERS
    said = {"verdicts": verdicts(report), "best_floor": _best(report, floor=True), "best_model": _best(report, floor=False)}
    said |= {"explains": any(method.explained_rows for method in report.methods)}
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(report=report, css=css, **said)
