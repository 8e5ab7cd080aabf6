"""Pictures of many counts: columns of samples against those of test rows."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vaekit.report.columns import bin_edges
from vaekit.report.figures import (
    COLOURS,
    QUIET,
    STROKES,
    add_legend,
    name_axes,
    new_figure,
    pictured,
    power_of_ten,
)

MANY = 64  # columns, beyond which they are shown together


@pictured
def mean_and_variance(data: np.ndarray, samples: np.ndarray) -> Figure:
    """The variance of each column over its mean, of test rows and of samples, (rows, columns) each."""
    figure = new_figure()
    axes = figure.subplots()
    handles: list[object] = []
    for rows, colour in ((data, COLOURS[0]), (samples, COLOURS[1])):
        mean, variance = rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64)
        there = (mean > 0) & (variance > 0)
        axes.scatter(mean[there], variance[there], s=4, color=colour, alpha=0.3, linewidths=0)
        handles += [axes.scatter([], [], s=30, color=colour)]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(power_of_ten))
    low, high = axes.get_xlim()
    handles += axes.plot((low, high), (low, high), color=QUIET, linewidth=1, linestyle=STROKES[1])
    axes.set_xlim(low, high)
    name_axes(axes, "Variance of each column", "mean", "variance")
    add_legend(figure, handles, ["test rows", "samples", "Poisson"])
    return figure


@pictured
def zeros_and_totals(data: np.ndarray, samples: np.ndarray) -> Figure:
    """The share of zeros in each column, and how many columns of a row are above 0, of test rows and of samples.

    Args:
        data: Test rows, (rows, columns).
        samples: Likewise.
    """
    figure = new_figure()
    by_column, by_row = figure.subplots(1, 2)
    zeros = [(rows == 0).mean(0) for rows in (data, samples)]
    by_column.plot((0, 1), (0, 1), color=QUIET, linewidth=1, linestyle=STROKES[1])
    by_column.scatter(*zeros, s=4, color=COLOURS[0], alpha=0.3, linewidths=0)
    name_axes(by_column, "Zeros by column", "share, test rows", "share, samples")
    counts = [(rows != 0).sum(1) for rows in (data, samples)]
    edges, handles = bin_edges(counts), []
    for number, values in enumerate(counts):
        shares, filled = np.histogram(values, edges)[0] / len(values), number == 0
        colour, alpha = COLOURS[number], 0.4 if filled else 1
        handles += [by_row.stairs(shares, edges, fill=filled, color=colour, alpha=alpha, linewidth=1.6)]
    by_row.locator_params(nbins=4)
    name_axes(by_row, "Above 0 by row", "columns", "share of rows")
    add_legend(figure, handles, ["test rows", "samples"])
    return figure
