"""Training curves: one panel to a figure, so that a narrow page can stack them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaekit.report.components import TIMES
from vaekit.report.figures import COLOURS, QUIET, STROKES, add_legend, name_axes, new_figure, pictured, short

_ROOM = 5.0  # a panel is at most so many times as high as a typical line in it,
_RARE = 3.0  # or shows everything, where that takes at most so much more room
_FEW = 3  # points, so few that a line needs markers to be seen


@dataclass(frozen=True, eq=False)
class Line:
    """One curve over epochs; `style` picks its colour and stroke, which belong to a run all over the page."""

    label: str
    epochs: np.ndarray
    values: np.ndarray  # NaN where the number was not finite
    style: int
    best: int | None = None  # the epoch to mark


@pictured
def curves(lines: Sequence[Line], title: str, unit: str, limits: tuple[float, float] | None = None) -> Figure:
    """Lines over epochs. The frame holds what is typical; what leaves it at the top is named above it."""
    figure = new_figure()
    axes = figure.subplots()
    name_axes(axes, title, "epoch", unit)
    handles, labels = [], []
    for line in lines:
        colour, stroke = COLOURS[line.style % len(COLOURS)], STROKES[line.style % len(STROKES)]
        marker = "o" if np.isfinite(line.values).sum() <= _FEW else None
        handles += axes.plot(line.epochs, line.values, color=colour, linestyle=stroke, marker=marker, markersize=4)
        labels += [line.label]
        if line.best is not None and line.best in line.epochs:
            at = line.values[np.flatnonzero(line.epochs == line.best)[0]]
            handles += axes.plot(line.best, at, "o", color=colour, markerfacecolor="white", markersize=7)
            labels += [f"best, epoch {line.best}"]
    low, high = limits or typical_range([line.values for line in lines])
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    wild = [f"{short(line.label, 18)} to {_brief(np.nanmax(line.values))}" for line in lines if _leaves(line, high)]
    if wild:
        more = f" and {len(wild) - 2} more" if len(wild) > 2 else ""
        axes.set_title(f"{title}\n", linespacing=1.3)
        axes.annotate(
            f"↑ off the frame: {', '.join(wild[:2])}{more}",
            (0, 1),
            xytext=(0, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8.5,
            color=QUIET,
        )
    if len(labels) > 1:
        add_legend(figure, handles, labels)
    return figure


def typical_range(series: Sequence[np.ndarray]) -> tuple[float, float]:
    """A range for the vertical axis that shows every line's level, but not a wild start or a diverging run."""
    finite = [values[np.isfinite(values)] for values in series]
    finite = [values for values in finite if len(values)]
    if not finite:
        return 0.0, 1.0
    low, top = min(map(np.min, finite)), max(map(np.max, finite))
    settled = [values[len(values) // 10 :] for values in finite]
    spans = [float(np.quantile(values, 0.9) - values.min()) for values in settled]
    high = min(
        max(np.quantile(values, 0.98) for values in settled), low + max(_ROOM * statistics.median_low(spans), abs(low))
    )
    if top - low <= _RARE * (high - low):
        high = top
    margin = 0.05 * (high - low) or max(0.5, 0.05 * abs(high))
    return float(low - margin), float(high + margin)


def _leaves(line: Line, high: float) -> bool:
    return bool(np.isfinite(line.values).any()) and float(np.nanmax(line.values)) > high


def _brief(value: float) -> str:
    if abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"
    exponent = math.floor(math.log10(abs(value)))
    superscript = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.1f} {TIMES} 10{superscript}"
