"""Writes docs/results.md, what every benchmark measured, from the files that they left: `python docs/make_results.py`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = Path(__file__).with_name("results.md")
HEAD = """# Results

What every benchmark measured when it ran last, beside the bar that it was held against. Peers ran in the same rounds, each in an environment of its own; a ratio is the median of the rounds'. `make bench NAME=<name>` measures again, on your machine. [quality.md](quality.md) says what the students' figures mean. This page is made from [benchmarks/results](../benchmarks/results) by `python docs/make_results.py`.
"""
FLOORS = {
    "like_rate": "the like-rate",
    "words": "the words",
    "logistic_regression": "the regression",
    "logistic_regression_mf": "that with factors",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def number(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def held_against_bars(figures: list[dict]) -> Iterator[list[str]]:
    """A row for each figure of a benchmark."""
    for one in figures:
        unit = one["unit"] and f" {one['unit'].strip()}"
        bar = f"{'at most' if one['at_most'] else 'at least'} {number(one['bar'])}{unit}"
        met = one["value"] <= one["bar"] if one["at_most"] else one["value"] >= one["bar"]
        yield [one["what"], number(one["value"]) + unit, bar, "met" if met else "**missed**"]


def students(figures: dict[str, dict], means: dict[str, float]) -> str:
    """The grid of variants and seeds: means over the seeds, and each one's AUC and how far it is above each floor, with DeLong's p."""

    def above(figure: dict, floor: str) -> str:
        found = figure.get(f"against_{floor}")
        return f"{found['difference']:+.3f} (p = {found['p']:.2g})" if found and found["standard_error"] else ""

    rows = (
        [name, f"{one['auc']:.3f} [{one['low']:.3f}, {one['high']:.3f}]", *(above(one, floor) for floor in FLOORS)]
        for name, one in figures.items()
    )
    nothing = ""
    for name, one in figures.items():
        if dealt := one.get("dealt_anew"):
            nothing += f"\n{name}: the words' regression, told answers that were dealt anew {dealt['dealings']} times, ends at "
            nothing += f"{dealt['low']:.3f} to {dealt['high']:.3f}, median {dealt['median']:.3f}."
            if base := one["against_untrained"]:
                nothing += f" Above the untrained base: {base['difference']:+.3f} (p = {base['p']:.2g})."
            nothing += "\n"
    seeds = {name: sum(one.startswith(f"{name}, seed ") for one in figures) for name in means}
    summary = (
        [name, f"{mean:.4f}", str(seeds[name]), f"{mean - means['logistic_regression']:+.4f}"]
        for name, mean in sorted(means.items(), key=lambda item: -item[1])
    )
    first = table(["method", "mean AUC", "seeds", f"above {FLOORS['logistic_regression']}"], summary)
    return first + "\n" + table(["method", "AUC", *(f"above {floor}" for floor in FLOORS.values())], rows) + nothing


def board(figures: list[dict]) -> str:
    """The leaderboards of one dataset: the mean of the seeds' AUCs, and the interval within the first of them."""
    first, means = figures[0]["details"], figures[-1]["details"]
    rows = (
        [method, f"{one['mean']:.3f}", number(one["seeds"]), f"[{first[method]['low']:.3f}, {first[method]['high']:.3f}]"]
        for method, one in means.items()
        if method in first
    )
    return table(["method", "mean AUC", "seeds", "interval in the first"], rows)


def measured(found: dict) -> str:
    """A result's figures, in the table that suits them."""
    if "figures" not in found:  # sizes or students of different recipes, each with what was measured of it
        rows = found.get("sizes") or [recipe | student for recipe in found["recipes"] for student in recipe["students"]]
        shown = [name for name, value in rows[0].items() if not isinstance(value, (dict, list))]
        return table(
            shown,
            ([number(row[name]) if shown and not isinstance(row[name], str) else row[name] for name in shown] for row in rows),
        )
    if isinstance(found["figures"], dict):
        return students(found["figures"], found["mean_auc"])
    held = table(["figure", "measured", "bar", ""], held_against_bars(found["figures"]))
    return held + (f"\n{board(found['figures'])}" if found["name"] == "leaderboard" else "")


def page() -> str:
    """The whole page, a section for each benchmark."""
    text = HEAD
    for path in sorted(RESULTS.glob("*.json")):
        found, module = (
            json.loads(path.read_text(encoding="utf-8")),
            ROOT / "benchmarks" / f"{path.stem.removesuffix('-cuda').replace('-', '_')}.py",
        )
        about = found.get("about") or ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))).splitlines()[0]
        commit, machine = found["commit"], found["machine"]
        where = ", ".join(machine.get("cards") or [f"{machine['cores']} cores", *machine["features"]])
        when = f"{found['at'][:10]}, " if found.get("at") else ""
        ran = f"`{commit[:7]}{commit[40:]}`" if " " not in commit else commit
        text += f"\n## {path.stem}\n\n{about}\n\nRan at {ran} ({when}{where}; torch {found['versions']['torch']}).\n\n"
        text += measured(found)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
