"""What the catalogue's commands print: aligned plain text in 110 columns.

What belongs here: turning records into lines. What doesn't: reading the catalogue, or printing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from reasoningrec_assets.catalog.queries import Materialization, Record

WIDTH = 110

# An AUC that may be off by more than this cannot tell methods apart: published gains are smaller.
TOO_WIDE = 0.05

# Metrics in the order in which a reader compares methods; further ones follow by name while there is room.
_METRIC_ORDER = ("auc", "user_auc", "per_user_auc", "accuracy", "brier", "ece", "log_loss")


def cut(text: str, width: int) -> str:
    """A text on one line, at most `width` characters wide."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Aligned columns under a ruled header; the columns numbered in `right` are aligned to the right."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return [line(header), "  ".join("─" * width for width in widths), *(line(row) for row in rows)]


def current_lines(rows: Sequence[Record]) -> list[str]:
    """The current materializations, one line each."""
    if not rows:
        return ["Nothing was materialized yet."]
    body = [
        [
            cut(row["asset"], 44),
            cut(row["partition"], 18),
            str(row["sequence"]),
            "" if row["row_count"] is None else f"{row['row_count']:,}",
            _seconds(row["seconds"]),
            (row["data_version"] or row["status"])[:12],
            f"{row['finished_at']:%Y-%m-%d %H:%M}" if row["finished_at"] else "",
        ]
        for row in rows
    ]
    return grid(["asset", "partition", "seq", "rows", "seconds", "version", "finished (UTC)"], body, right=(2, 3, 4))


def lineage_lines(walk: Sequence[Record]) -> list[str]:
    """An upstream walk, indented; says which versions were replaced since they were read."""
    labels = [f"{'  ' * row['depth']}{row['asset']}[{row['partition']}]" for row in walk]
    width = min(max(map(len, labels)), 62)
    lines: list[str] = []
    for label, row in zip(labels, walk, strict=True):
        notes = ["see above"] if row["repeated"] else []
        notes += [] if row["is_current"] else ["replaced since"]
        note = f"  ({', '.join(notes)})" if notes else ""
        run = (row["run_id"] or "unknown")[:8]
        lines.append(f"{label.ljust(width)}  {(row['data_version'] or 'failed')[:12]}  run {run}{note}")
    return lines


def materialization_lines(found: Materialization) -> list[str]:
    """Everything about one materialization, in sections; empty ones are left out."""
    row = found.summary
    lines = [f"{row['asset']}[{row['partition']}]", ""]
    facts = {
        "status": "current" if row["is_current"] else f"failed: {cut(row['error'] or '', WIDTH - 24)}",
        "data version": row["data_version"],
        "sequence": row["sequence"],
        "run": row["run_id"],
        "finished": f"{row['finished_at']:%Y-%m-%d %H:%M:%S} UTC, after {_seconds(row['seconds'])} s"
        if row["finished_at"]
        else None,
        "rows": None if row["row_count"] is None else f"{row['row_count']:,}",
        "size": None if row["bytes"] is None else f"{row['bytes']:,} bytes",
        "path": row["path"],
        "device": row["device"],
        "code version": row["code_version"],
        "fingerprint": row["fingerprint"],
        "receipt": row["receipt"],
    }
    lines += _pairs({name: str(value) for name, value in facts.items() if value not in {None, ""}}, whole=True)
    for failure in found.newer_failures:
        lines.append(f"  attempt {failure['sequence']} after it failed: {cut(failure['error'] or '', WIDTH - 30)}")
    details = dict(found.details)
    preview = details.pop("preview", "")
    columns = [[c["name"], c["type"] + ("?" if c["nullable"] else ""), cut(c["description"] or "", 70)] for c in found.columns]
    lines += _section(
        "Schema (? may be null)", [f"  {line}" for line in grid(["column", "type", "description"], columns)] if columns else []
    )
    lines += _section("Column lineage", _pairs({name: ", ".join(sources) for name, sources in found.column_lineage.items()}))
    lines += _section("Preview", _preview(preview))
    lines += _section("Metrics", _pairs({m["name"]: _number(m["value"]) for m in found.metrics}))
    lines += _section("Details", _pairs(details))
    lines += _section("Settings", _pairs(found.settings))
    reads = {
        f"{e['upstream_asset']}[{e['upstream_partition']}]": f"version {e['upstream_data_version'][:12]}" for e in found.upstream
    }
    lines += _section("Read", _pairs(reads))
    used = [
        f"  {a['kind']}: " + " ".join(filter(None, (a["name"], a["reference"], (a["version"] or "")[:40])))
        for a in found.artifacts
    ]
    lines += _section("Models, prompts and files", used)
    checks = [
        f"  {'passed' if check['passed'] else 'FAILED'}  {check['check_name']} ({check['severity'].lower()})  "
        + cut("" if check["details"] == "{}" else check["details"], 60)
        for check in found.checks
    ]
    return lines + _section("Checks", [line.rstrip() for line in checks])


def evaluation_lines(partition: str, rows: Sequence[Record]) -> list[str]:
    """Methods by AUC, each figure with its 95 % interval where one was computed, and a word on samples too small.

    Args:
        partition: The dataset evaluated.
        rows: Records of ``evaluation_metrics``; metrics that find no room in the line are named below the table.
    """
    population = {row["metric"]: row for row in rows if row["method"] == "population"}
    by_method: dict[str, dict[str, Record]] = {}
    for row in rows:
        if row["method"] != "population":
            by_method.setdefault(row["method"], {})[row["metric"]] = row

    def auc_of(method: str) -> float:
        value = by_method[method].get("auc", {}).get("value")
        return -1.0 if value is None else value

    methods = sorted(by_method, key=lambda method: (-auc_of(method), method))
    unsure = {method for method in methods if _half_width(by_method[method].get("auc")) > TOO_WIDE}
    names = {metric for of_method in by_method.values() for metric in of_method}
    ordered = [name for name in _METRIC_ORDER if name in names] + sorted(names - set(_METRIC_ORDER))
    header, right = ["method", "n"], [1]
    body = [[cut(method, 34) + (" *" if method in unsure else ""), _sample(by_method[method])] for method in methods]
    left_out: list[str] = []
    for metric in ordered:
        cells = [_figure(by_method[method].get(metric)) for method in methods]
        wider = [[*row, cell] for row, cell in zip(body, cells, strict=True)]
        label = "AUC" if metric == "auc" else metric
        if len(grid([*header, label], wider)[1]) > WIDTH:
            left_out.append(metric)
        else:
            header, body = [*header, label], wider
    lines = [f"Evaluation of {partition}, best AUC first; [low, high] is the 95 % interval", "", *grid(header, body, right=right)]
    if left_out:
        lines += ["", *_wrapped(f"Also in the table evaluation_metrics: {', '.join(left_out)}.")]
    if population:
        counts = ", ".join(f"{name} {_number(row['value'])}" for name, row in population.items())
        lines += ["", *_wrapped(f"Population: {counts}.")]
    if unsure and len(unsure) == len(methods):
        lines += ["", *_wrapped(f"* This sample is too small to judge by: every AUC may be off by more than {TOO_WIDE}.")]
    elif unsure:
        lines += [
            "",
            *_wrapped(f"* The sample is too small to judge this method by: its AUC may be off by more than {TOO_WIDE}."),
        ]
    return lines


def _half_width(row: Record | None) -> float:
    return 0.0 if row is None or row["low"] is None or row["high"] is None else (row["high"] - row["low"]) / 2


def _sample(metrics: dict[str, Record]) -> str:
    row = metrics.get("auc") or next(iter(metrics.values()))
    return f"{row['n']:,}"


def _figure(row: Record | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    interval = "" if row["low"] is None or row["high"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _pairs(values: dict[str, Any], *, whole: bool = False) -> list[str]:
    """Names and values in two columns; values are cut to the line unless a user would copy them."""
    if not values:
        return []
    width = min(max(map(len, values)), 40)
    room = WIDTH - width - 4
    return [f"  {name.ljust(width)}  {value if whole else cut(str(value), room)}".rstrip() for name, value in values.items()]


def _preview(markdown: str, limit: int = 3) -> list[str]:
    """The first rows of a Markdown preview, one column a line: a table of texts is wider than any terminal."""
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in markdown.splitlines()]
    if len(table) < 3:
        return []
    lines: list[str] = []
    for number, cells in enumerate(table[2 : 2 + limit], start=1):
        shown = [cell.replace("\\|", "|").replace("&lt;", "<") for cell in cells]
        lines += [f"  row {number}", *(f"  {line}" for line in _pairs(dict(zip(table[0], shown, strict=False))))]
    return [cut_right(line) for line in lines]


def cut_right(line: str) -> str:
    """A line cut to the width of the page, its indentation kept."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH)
