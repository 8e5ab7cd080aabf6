"""Pictures of tables: one panel for each column, in the units of the source."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit.report.figures import COLOURS, QUIET, STROKES, WIDTH, add_legend, new_figure, pictured, short

MOST_COLUMNS = 12
_ACROSS = 3
_BINS = 30


@pictured
def pairs_by_column(originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str]) -> Figure:
    """Each value against its reconstruction, (rows, columns) each; on the diagonal nothing is lost."""
    figure, panels = _panels(names)
    for i, axes in enumerate(panels):
        x, y = originals[:, i], reconstructions[:, i]
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low) or 0.5
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=STROKES[1])
        axes.scatter(x, y, s=7, color=COLOURS[0], alpha=0.45, linewidths=0)
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        axes.set_aspect("equal")
        axes.locator_params(nbins=4)
    figure.supxlabel("original", fontsize=10)
    figure.supylabel("reconstruction", fontsize=10)
    return figure


@pictured
def histograms_by_column(tables: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """The distribution of each column in each table (rows, columns), as shares of its rows; the first one is filled."""
    figure, panels = _panels(names)
    handles: list[object] = []
    for i, axes in enumerate(panels):
        edges = bin_edges([table[:, i] for table in tables.values()])
        handles = []
        for number, table in enumerate(tables.values()):
            counts, _ = np.histogram(table[:, i], edges)
            shares, colour = counts / len(table), COLOURS[number]
            filled = number == 0
            handles += [
                axes.stairs(shares, edges, fill=filled, color=colour, alpha=0.4 if filled else 1, linewidth=1.6)
            ]
        axes.locator_params(nbins=4)
        axes.set_ylim(bottom=0)
    figure.supylabel("share of rows", fontsize=10)
    add_legend(figure, handles, list(tables))
    return figure


def _panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    shown = names[:MOST_COLUMNS]
    rows = -(-len(shown) // _ACROSS)
    figure = new_figure(WIDTH, 0.7 + 1.75 * rows)
    grid = figure.subplots(rows, min(_ACROSS, len(shown)), squeeze=False).ravel()
    for axes, name in zip(grid, shown, strict=False):
        axes.set_title(short(name, 20), fontsize=9.5)
        axes.tick_params(labelsize=8)
    for axes in grid[len(shown) :]:
        axes.remove()
    return figure, list(grid[: len(shown)])


def bin_edges(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Bins for values of one column: one for each integer where there are few, else equal ones over nearly all."""
    values = np.concatenate(columns)
    integers = np.unique(columns[0])
    if len(integers) <= _BINS and (integers == np.round(integers)).all() and np.ptp(values) < 2 * _BINS:
        return np.arange(np.floor(values.min()), np.ceil(values.max()) + 2) - 0.5
    values.sort()
    beyond = len(values) // 500  # on either side, which would stretch the axis
    low, high = values[beyond], values[-1 - beyond]
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)
