"""Where the marks of a plot go: pixels down, and percent across, so that text keeps its size on a phone's narrow page.

A plot is a namespace, which `page.html` alone reads.
"""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from reasoningrec_assets.report.gather import Method

ROW_HEIGHT = 50
CURVE_HEIGHT = 150
# Room for the round ends and the axis labels, in percent of the width.
_MARGIN = 4.0


def _across(part: float, whole: float) -> float:
    return round(_MARGIN + (100 - 2 * _MARGIN) * part / whole, 2)


def interval_plot(methods: Sequence[Method]) -> SimpleNamespace | None:
    """The AUC intervals in the order given, on one axis that holds them and 0.5, in whole tenths; None without AUC.

    ``bars``: method, ``top`` of its row in pixels, and ``at``, ``low`` and ``high`` in percent; ``ticks``: percent and label.
    """
    drawn = [
        (m, m.auc, m.auc if m.low is None else m.low, m.auc if m.high is None else m.high) for m in methods if m.auc is not None
    ]
    if not drawn:
        return None
    # The 1e-9 keeps 0.7 * 10 = 7.000000000000001 from opening another tenth.
    first = math.floor(min(0.5, *(low for _, _, low, _ in drawn)) * 10 + 1e-9)
    last = max(math.ceil(max(0.5, *(high for *_, high in drawn)) * 10 - 1e-9), first + 1)

    def place(value: float) -> float:
        return _across(value * 10 - first, last - first)

    return SimpleNamespace(
        bars=[
            SimpleNamespace(method=method, top=row * ROW_HEIGHT, at=place(auc), low=place(low), high=place(high))
            for row, (method, auc, low, high) in enumerate(drawn)
        ],
        ticks=[(place(tenth / 10), f"{tenth / 10:.1f}") for tenth in range(first, last + 1)],
        chance=place(0.5),
        height=len(drawn) * ROW_HEIGHT,
    )


def curve_plots(training: Sequence[Mapping[str, Any]]) -> list[SimpleNamespace]:
    """One small plot a series, each on its own scale: loss and AUC share no unit, so they share no axis.

    ``points``: percent, pixels and label of each epoch; ``name`` of the series; ``best`` says which epoch was.
    """
    plots: list[SimpleNamespace] = []
    for name, column, best in (("Training loss", "train_loss", min), ("Validation AUC", "valid_auc", max)):
        known = [(row["epoch"], row[column]) for row in training if row[column] is not None and math.isfinite(row[column])]
        if not known:
            continue
        (start, end), (low, high) = ((min(axis), max(axis)) for axis in zip(*known, strict=True))
        points = [
            (
                _across(epoch - start, (end - start) or 1.0),
                round(12 + (CURVE_HEIGHT - 24) * (1 - (value - low) / ((high - low) or 1.0)), 1),
                f"epoch {epoch:.4g}: {value:.4g}",
            )
            for epoch, value in known
        ]
        epoch, value = best(known, key=lambda point: point[1])
        plots.append(SimpleNamespace(name=name, points=points, best=f"best {value:.4g} at epoch {epoch:.4g}"))
    return plots
