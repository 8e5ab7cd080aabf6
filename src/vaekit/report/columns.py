"""Pictures of tables: one panel for each column, in the units of the source; categories by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vaekit.report.figures import (
    COLOURS,
    PAGE_WIDTH,
    QUIET,
    STROKES,
    WIDTH,
    add_legend,
    compact,
    new_figure,
    pictured,
    short,
)
from vaekit.report.pictures import Categories, OfColumns

MOST_COLUMNS = 12
MOST_MARGINALS = 60  # in a report
_MOST_CATEGORIES = 7  # of a panel
_ACROSS, _ACROSS_PAGE = 3, 4
# Inches that a panel leaves for its title, its ticks and their names. Measuring these takes longer than drawing them.
_PANEL, _TITLE, _TICKS, _NAMES, _TICK_NAMES = 1.2, 0.3, 0.34, 1.05, 0.52
_UNDER, _EDGE, _BELOW = 0.18, 0.12, 0.36
_BINS = 30
_MOST_INTEGERS = 10_000  # of a column; of more of them, what a bin holds hardly differs


@pictured
def pairs_by_column(
    originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str], categories: OfColumns = ()
) -> Figure:
    """Each value against its reconstruction, (rows, columns) each; on the diagonal nothing is lost.

    Of a column of categories, the share of the rows of each category that keep it. NaN is a missing cell.
    """
    figure, panels = _panels(names, wide=any(categories))
    for i, axes in enumerate(panels):
        known = ~np.isnan(originals[:, i])
        x, y = originals[known, i], reconstructions[known, i]
        if len(x) == 0:
            continue
        if categories and (named := categories[i]):
            _kept(axes, x, y, named)
            continue
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low) or 0.5
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=STROKES[1])
        axes.scatter(x, y, s=7, color=COLOURS[0], alpha=0.45, linewidths=0)
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        axes.set_aspect("equal")
        axes.locator_params(nbins=4)
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        axes.yaxis.set_major_formatter(FuncFormatter(compact))
    _name_both(figure, "original", "reconstruction")
    return figure


@pictured
def histograms_by_column(
    tables: Mapping[str, np.ndarray], names: Sequence[str], categories: OfColumns = (), most: int = MOST_COLUMNS
) -> Figure:
    """The distribution of each column in each table (rows, columns), as shares of its rows; the first one is filled.

    Args:
        tables: By name; NaN is a missing cell, and a share is one of the others.
        names: Of the columns.
        categories: Of each column.
        most: Columns that are shown.
    """
    figure, panels = _panels(names, most, wide=any(categories))
    handles: list[Any] = []
    for i, axes in enumerate(panels):
        cells = [table[~np.isnan(table[:, i]), i] for table in tables.values()]
        if categories and (named := categories[i]):
            handles = bars_of_categories(axes, cells, named)
            continue
        edges = bin_edges(cells)
        handles = []
        for number, known in enumerate(cells):
            counts, _ = np.histogram(known, edges)
            shares, colour = counts / max(1, len(known)), COLOURS[number]
            filled = number == 0
            handles += [
                axes.stairs(shares, edges, fill=filled, color=colour, alpha=0.4 if filled else 1, linewidth=1.6)
            ]
        axes.locator_params(nbins=4)
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        axes.set_ylim(bottom=0)
    _name_both(figure, "", "share of rows")
    add_legend(figure, handles, list(tables))
    return figure


def bars_of_categories(axes: Axes, cells: Sequence[np.ndarray], categories: Categories) -> list[Any]:
    """Shares of categories in each table: the most frequent ones of the first, and all others together.

    The most frequent one is at the top; of those with an order, the lowest.
    """
    names = categories.names
    counts = [np.bincount(known.astype(int), minlength=len(names)) for known in cells]
    shares = [count / max(1, count.sum()) for count in counts]
    most = len(names) if len(names) == _MOST_CATEGORIES + 1 else _MOST_CATEGORIES
    shown = categories.most(shares[0], most)
    others = np.setdiff1d(np.arange(len(names)), shown)
    labels = [short(names[code], 14) for code in shown] + ([f"{len(others)} others"] if len(others) else [])
    places, thick = np.arange(len(labels)), 0.8 / len(cells)
    handles = []
    for number, share in enumerate(shares):
        values = [*share[shown], *([share[others].sum()] if len(others) else [])]
        handles += [axes.barh(places + number * thick, values, thick, color=COLOURS[number], alpha=0.4 + 0.6 * number)]
    _name_bars(axes, places + thick * (len(cells) - 1) / 2, labels)
    return handles


def _kept(axes: Axes, x: np.ndarray, y: np.ndarray, categories: Categories) -> None:
    """The share of rows of each of the most frequent categories that are reconstructed as such."""
    counts = np.bincount(x.astype(int), minlength=len(categories.names))
    shown = categories.most(counts, _MOST_CATEGORIES)
    shown = shown[counts[shown] > 0]
    axes.barh(
        np.arange(len(shown)), [(y[x == code] == code).mean() for code in shown], 0.8, color=COLOURS[0], alpha=0.6
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel("share kept", fontsize=8)
    _name_bars(axes, np.arange(len(shown)), [short(categories.names[code], 14) for code in shown])


def _name_bars(axes: Axes, places: np.ndarray, labels: Sequence[str]) -> None:
    every = -(-len(labels) // (_MOST_CATEGORIES + 1))
    axes.set_yticks(places[::every], labels[::every], fontsize=7)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=3)


def _panels(names: Sequence[str], most: int = MOST_COLUMNS, wide: bool = False) -> tuple[Figure, list[Axes]]:
    """A panel for each column; wide ones, which have room for names of categories, across a whole page."""
    shown = names[:most]
    across = min(len(shown), (_ACROSS_PAGE if len(shown) >= _ACROSS_PAGE else 2) if wide else _ACROSS)
    rows = -(-len(shown) // across)
    left, title = _NAMES if wide else _TICK_NAMES, _TITLE
    below = _TICKS + (_UNDER if wide else 0)
    width, height = PAGE_WIDTH if across == _ACROSS_PAGE else WIDTH, 0.1 + (title + _PANEL + below) * rows + _BELOW
    figure = new_figure(width, height, plain=True)
    panel = (width - _BELOW - across * left - _EDGE) / across
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    figure.subplots_adjust(
        left=(_BELOW + left) / width,
        right=1 - _EDGE / width,
        top=1 - (0.1 + title) / height,
        bottom=(_BELOW + below) / height,
        wspace=left / panel,
        hspace=(title + below) / _PANEL,
    )
    for axes, name in zip(grid, shown, strict=False):
        axes.set_title(short(name, 20), fontsize=9.5)
        axes.tick_params(labelsize=8)
    for axes in grid[len(shown) :]:
        axes.remove()
    return figure, list(grid[: len(shown)])


def _name_both(figure: Figure, x: str, y: str) -> None:
    """Name the axes of all panels together."""
    width, height = figure.get_size_inches()
    figure.text(0.5, 0.1 / height, x, ha="center", va="bottom")
    figure.text(0.1 / width, 0.5, y, ha="left", va="center", rotation="vertical")


def bin_edges(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Bins for values of one column over nearly all of them; those of integers hold equally many of these."""
    values = np.concatenate(columns)
    if len(values) == 0:
        return np.array([0.0, 1.0])
    values.sort()
    beyond = len(values) // 500  # on either side, which would stretch the axis
    low, high = values[beyond], values[-1 - beyond]
    if (values == np.round(values)).all() and high - low < _MOST_INTEGERS:
        wide = -(-int(high - low + 1) // _BINS)
        return np.arange(low, high + wide + 1, wide) - 0.5
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)
