"""Where the marks of a plot go: pixels down, and percent across, so that text keeps its size on a phone's narrow page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reasoningrec_assets.report.gather import Method

ROW_HEIGHT = 50
CURVE_HEIGHT = 150
# Room for the round ends and the axis labels, in percent of the width.
_MARGIN = 4.0


class Bar(NamedTuple):
    """A method's interval: centre and ends in percent, top of its row in pixels."""

    method: Method
    top: int
    at: float
    low: float
    high: float


class IntervalPlot(NamedTuple):
    """All methods that have an AUC on one axis; ticks and chance in percent, ticks with their labels."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    chance: float
    height: int


class CurvePlot(NamedTuple):
    """One series over epochs: points as (percent, pixels, label), lines between neighbours."""

    name: str
    points: tuple[tuple[float, float, str], ...]
    best: str


def _across(part: float, whole: float) -> float:
    return round(_MARGIN + (100 - 2 * _MARGIN) * part / whole, 2)


def interval_plot(methods: Sequence[Method]) -> IntervalPlot | None:
    """Lay the AUC intervals out in the order given, on an axis that holds them and 0.5, in whole tenths; None without AUC."""
    drawn = [(method, method.auc) for method in methods if method.auc is not None]
    if not drawn:
        return None
    lows = [auc if method.low is None else method.low for method, auc in drawn]
    highs = [auc if method.high is None else method.high for method, auc in drawn]
    # The 1e-9 keeps 0.7 * 10 = 7.000000000000001 from opening another tenth.
    first = math.floor(min(0.5, *lows) * 10 + 1e-9)
    last = max(math.ceil(max(0.5, *highs) * 10 - 1e-9), first + 1)

    def place(value: float) -> float:
        return _across(value * 10 - first, last - first)

    return IntervalPlot(
        bars=tuple(
            Bar(method, index * ROW_HEIGHT, place(auc), place(low), place(high))
            for index, ((method, auc), low, high) in enumerate(zip(drawn, lows, highs, strict=True))
        ),
        ticks=tuple((place(tenth / 10), f"{tenth / 10:.1f}") for tenth in range(first, last + 1)),
        chance=place(0.5),
        height=len(drawn) * ROW_HEIGHT,
    )


def curve_plots(training: Sequence[Mapping[str, Any]]) -> list[CurvePlot]:
    """One small plot a series, each on its own scale: loss and AUC share no unit, so they share no axis."""
    plots: list[CurvePlot] = []
    for name, column, best in (("Training loss", "train_loss", min), ("Validation AUC", "valid_auc", max)):
        known = [(row["epoch"], row[column]) for row in training if row[column] is not None and math.isfinite(row[column])]
        if not known:
            continue
        epochs, values = zip(*known, strict=True)
        width, height = (max(epochs) - min(epochs)) or 1.0, (max(values) - min(values)) or 1.0
        across = [_across(epoch - min(epochs), width) for epoch in epochs]
        down = [round(12 + (CURVE_HEIGHT - 24) * (1 - (value - min(values)) / height), 1) for value in values]
        labels = [f"epoch {epoch:.4g}: {value:.4g}" for epoch, value in known]
        epoch, value = best(known, key=lambda point: point[1])
        plots.append(CurvePlot(name, tuple(zip(across, down, labels, strict=True)), f"best {value:.4g} at epoch {epoch:.4g}"))
    return plots
