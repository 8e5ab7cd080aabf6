"""One picture of what was understood of a data set: a panel for each column, examples of everything else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from vaekit.data import Rows, Schema
from vaekit.report.columns import bars_of_categories, bin_edges
from vaekit.report.figures import COLOURS, QUIET, compact, new_figure, pictured, short
from vaekit.report.lines import MOST_CHANNELS, sampled_lines
from vaekit.report.pictures import (
    Categories,
    brightness,
    captioned,
    column_categories,
    column_names,
    image_grid,
    observed,
    to_unit,
)
from vaekit.words import counted

MOST_PANELS = 48
_WIDE = 64  # columns of one kind: with more, rows and columns are summed up first
_SINGLE = 8  # of so many columns, those that are shown by themselves
_ACROSS, _PANEL = 4, (2.8, 1.9)  # inches
_EXAMPLES, _SPECTROGRAMS = 64, 9
_MOST_NOTICES = 3


@dataclass(frozen=True)
class Panel:
    """A panel of a table: its title, a note below that, and what draws it."""

    title: str
    note: str
    draw: Callable[[Axes], Any]


def data_picture(schema: Schema, rows: Rows, likelihoods: Sequence[str] = ()) -> Image.Image:
    """What a data set was taken for, as one picture of bounded size, with a caption.

    Of a table it has a histogram or bars for each column, with its kind, its missing cells and its likelihood; of one
    of many columns of one kind also the sums and zeros of its rows and columns. Of images it has examples, of
    recordings spectrograms, of sequences lines.

    Args:
        schema: Of the data.
        rows: Some of its training rows.
        likelihoods: Of each column of a table of several kinds, by name.
    """
    x = rows.batch(slice(None)).numpy()
    mask = None if rows.mask is None else rows.mask.numpy()
    if schema.kind == "table":
        panels, what = table_panels(schema, observed(schema.to_stored(x.astype(np.float64)), mask), likelihoods)
        picture = _drawn(panels)
    elif schema.sound is not None:
        labels = [] if rows.labels is None else rows.labels.tolist()
        names = [schema.classes[label] for label in labels] if schema.classes else []
        picture = _spectrograms(schema, schema.to_stored(x[:_SPECTROGRAMS]), names)
        count = min(len(x), _SPECTROGRAMS)
        what = f"{counted(count, 'recording')} as {schema.sound.words}"
    elif schema.kind == "sequence":
        stored = observed(schema.to_stored(x), mask)
        picture = sampled_lines(stored, stored, ("rows", "5% to 95% of rows"))
        channels, steps = schema.shape
        fewer = f"; the first {MOST_CHANNELS} are shown" if channels > MOST_CHANNELS else ""
        what = (
            f"{counted(len(x), 'training row')}, sequences of {counted(channels, 'channel')} over {steps} steps{fewer}"
        )
    else:
        examples = x[:_EXAMPLES] if schema.kind == "image" else x[:_EXAMPLES, :, x.shape[2] // 2]
        picture = image_grid(to_unit(examples, schema))
        slices = "" if schema.kind == "image" else ", the middle slice of each"
        what = f"{counted(len(examples), schema.kind)} of shape {schema.shape}{slices}; {brightness(schema)}"
    notices = [*schema.notices[:_MOST_NOTICES]]
    if len(schema.notices) > _MOST_NOTICES:
        more = len(schema.notices) - _MOST_NOTICES
        notices.append(f"and {counted(more, 'more note')}")
    return captioned(picture, "; ".join([f"{short(schema.name, 60)}: {what}", *(short(one, 200) for one in notices)]))


def table_panels(schema: Schema, cells: np.ndarray, likelihoods: Sequence[str] = ()) -> tuple[list[Panel], str]:
    """The panels of a table, and what they are in words.

    Args:
        schema: Of the data.
        cells: (rows, columns), as they are stored; NaN is a missing one.
        likelihoods: Of each column, by name; none where all have one.
    """
    names, categories = column_names(schema), column_categories(schema) or [None] * cells.shape[1]
    kinds = [field.kind for field in schema.fields] if schema.fields else [schema.stored.kind] * len(names)
    summed = len(names) > _WIDE and len(set(kinds)) == 1 and not any(categories)
    panels = _of_many(cells, kinds[0]) if summed else []
    shown: Sequence[int] = range(min(len(names), MOST_PANELS))
    if summed:
        shown = () if kinds[0] == "binary" else _strongest(cells)
    for at in shown:
        missing = float(np.isnan(cells[:, at]).mean())
        by = [name for name in likelihoods[at : at + 1] if name != kinds[at]]
        notes = [kinds[at], *by, *([f"{missing:.1%} missing"] if missing else [])]
        panels.append(Panel(names[at], ", ".join(notes), _drawing(cells[:, at], categories[at])))
    which = "those" if summed else f"the first {len(shown)}"
    some = f", and {which} of them that vary the most" if summed and shown else f", {which}" if not summed else ""
    fewer = some if len(shown) < len(names) else ""
    return (
        panels,
        f"{counted(len(cells), 'training row')} of {counted(len(names), 'column')}{fewer}; heights are shares",
    )


def _drawing(cells: np.ndarray, categories: Categories | None) -> Callable[[Axes], Any]:
    known = cells[~np.isnan(cells)]
    if categories is not None:
        return lambda axes: bars_of_categories(axes, [known], categories)
    return lambda axes: _histogram(axes, known)


def _histogram(axes: Axes, known: np.ndarray) -> None:
    edges = bin_edges([known])
    counts, _ = np.histogram(known, edges)
    axes.stairs(counts / max(1, len(known)), edges, fill=True, color=COLOURS[0], alpha=0.6)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=4)
    axes.locator_params(axis="y", nbins=3)
    axes.xaxis.set_major_formatter(FuncFormatter(compact))


def _of_many(cells: np.ndarray, kind: str) -> list[Panel]:
    """Panels of what rows and columns of one kind are together."""
    known = ~np.isnan(cells)
    filled = np.where(known, cells, 0)
    there = np.maximum(known.sum(0), 1), np.maximum(known.sum(1), 1)
    if kind in ("count", "binary", "levels"):
        used = (filled != 0).sum(0) / there[0], (filled != 0).sum(1) / there[1]
        whole = 1 - (filled != 0).sum() / max(1, known.sum())
        found = [
            ("total of a row", f"{kind}, median {np.median(filled.sum(1)):,.4g}", filled.sum(1)),
            ("row: share of cells above 0", f"{whole:.1%} of all cells are 0", used[1]),
            ("column: share of cells above 0", kind, used[0]),
            *([("mean of a column", kind, filled.sum(0) / there[0])] if kind != "binary" else []),
        ]
    else:
        mean = filled.sum(0) / there[0]
        spread = np.sqrt((np.where(known, cells - mean, 0) ** 2).sum(0) / there[0])
        found = [
            ("mean of a row", kind, filled.sum(1) / there[1]),
            ("mean of a column", kind, mean),
            ("deviation of a column", kind, spread),
            ("column: share of missing cells", kind, 1 - known.mean(0)),
        ]
    return [Panel(name, note, _drawing(values, None)) for name, note, values in found]


def _strongest(cells: np.ndarray) -> Sequence[int]:
    """Some columns that vary much, in their order."""
    known = ~np.isnan(cells)
    there = np.maximum(known.sum(0), 1)
    mean = np.where(known, cells, 0).sum(0) / there
    variance = (np.where(known, cells - mean, 0) ** 2).sum(0) / there
    return sorted(variance.argsort(kind="stable")[::-1][:_SINGLE].tolist())


@pictured
def _drawn(panels: Sequence[Panel]) -> Figure:
    """Panels with a title and a note each, four in a row."""
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(max(2, across) * _PANEL[0], 0.3 + down * _PANEL[1])
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(short(panel.title, 30), fontsize=9.5, pad=15)
        axes.text(0, 1.03, short(panel.note, 44), transform=axes.transAxes, fontsize=7, color=QUIET)
        axes.tick_params(labelsize=7.5)
        panel.draw(axes)
    for axes in grid[len(panels) :]:
        axes.remove()
    return figure


@pictured
def _spectrograms(schema: Schema, rows: np.ndarray, names: Sequence[str]) -> Figure:
    """Log-mel features (rows, ..., bands, frames), low bands at the bottom, on one scale of colours."""
    assert schema.sound is not None
    rows, seconds = rows.reshape(len(rows), *rows.shape[-2:]), schema.sound.length / schema.sound.features.rate
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    figure = new_figure(1 + 2.6 * across, 0.5 + 1.9 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    low, high = float(np.quantile(rows, 0.01)), float(rows.max())
    for number, (axes, row) in enumerate(zip(grid, rows, strict=False)):
        extent = (0.0, seconds, 0.0, float(len(row)))
        axes.imshow(row, cmap="magma", vmin=low, vmax=high, origin="lower", aspect="auto", extent=extent)
        axes.set_title(short(names[number], 20) if names else "", fontsize=9)
        axes.grid(False)
        axes.tick_params(labelsize=7.5)
    for axes in grid[len(rows) :]:
        axes.remove()
    figure.supxlabel("seconds", fontsize=10)
    figure.supylabel("mel band", fontsize=10)
    return figure
