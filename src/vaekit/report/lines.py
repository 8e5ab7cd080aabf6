"""Pictures of sequences: a panel for each of some channels, over steps, in the units of the source."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit.report.figures import COLOURS, STROKES, WIDTH, add_legend, new_figure, pictured

MOST_CHANNELS = 9
_ACROSS = 3
_MOST_ROWS = 6


@pictured
def reconstructed_lines(originals: np.ndarray, reconstructions: np.ndarray) -> Figure:
    """A few rows of all, (rows, channels, steps) each, and their reconstructions, dashed in the same colours."""
    figure, panels = _panels(originals.shape[1])
    shown = min(3, len(originals))
    rows = [len(originals) * (2 * number + 1) // (2 * shown) for number in range(shown)]
    for channel, axes in panels:
        for row, colour in zip(rows, COLOURS, strict=False):
            axes.plot(originals[row, channel], color=colour, linewidth=1.4)
            axes.plot(reconstructions[row, channel], color=colour, linewidth=1.4, linestyle=STROKES[1])
    lines = panels[0][1].get_lines()[:2]
    add_legend(figure, lines, ["original", "reconstruction"])
    return figure


@pictured
def sampled_lines(
    samples: np.ndarray, others: np.ndarray | None = None, names: tuple[str, str] = ("samples", "test rows, 5% to 95%")
) -> Figure:
    """A few rows, (rows, channels, steps), each a line; behind them the range of others, between 5% and 95%.

    Args:
        samples: The rows.
        others: The other rows.
        names: Of both.
    """
    figure, panels = _panels(samples.shape[1])
    handles: list[object] = []
    for channel, axes in panels:
        handles = []
        for row in range(min(_MOST_ROWS, len(samples))):
            handles = [*axes.plot(samples[row, channel], color=COLOURS[1], linewidth=1.0, alpha=0.7)]
        if others is not None:
            low, high = np.nanquantile(others[:, channel], (0.05, 0.95), axis=0)
            steps = np.arange(len(low))
            handles += [axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.22, linewidth=0)]
    if handles:
        add_legend(figure, handles, names[: len(handles)])
    return figure


@pictured
def traversed_lines(x: np.ndarray, names: Sequence[str]) -> Figure:
    """The first channel of rows (lines, steps, channels, time): a panel for each line, from light to dark in steps."""
    rows, across = -(-len(x) // _ACROSS), min(_ACROSS, len(x))
    figure = new_figure(WIDTH, 0.7 + 1.6 * rows)
    grid = figure.subplots(rows, across, squeeze=False, sharex=True, sharey=True).ravel()
    shades = np.linspace(0.15, 1.0, x.shape[1])
    for axes, line, name in zip(grid, x, names, strict=False):
        for values, shade in zip(line[:, 0], shades, strict=True):
            axes.plot(values, color=COLOURS[0], alpha=shade, linewidth=1.2)
        axes.set_title(name, fontsize=9.5)
        axes.tick_params(labelsize=8)
    for axes in grid[len(x) :]:
        axes.remove()
    return figure


def _panels(channels: int) -> tuple[Figure, list[tuple[int, Axes]]]:
    shown = range(min(channels, MOST_CHANNELS))
    rows, across = -(-len(shown) // _ACROSS), min(_ACROSS, len(shown))
    figure = new_figure(WIDTH, 0.7 + 1.6 * rows)
    grid = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    for channel, axes in zip(shown, grid, strict=False):
        axes.set_title(f"channel {channel}", fontsize=9.5)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=4)
    for axes in grid[len(shown) :]:
        axes.remove()
    for axes in grid[max(0, len(shown) - across) : len(shown)]:
        axes.set_xlabel("step")
    return figure, list(zip(shown, grid, strict=False))
