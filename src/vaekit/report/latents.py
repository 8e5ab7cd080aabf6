"""Figures of the latent space: how much each dimension carries, where the rows lie, what the plane decodes to."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vaekit.evaluation import Estimate
from vaekit.evaluation.results import ACTIVE_KL
from vaekit.report.components import MINUS
from vaekit.report.figures import (
    COLOURS,
    HEIGHT,
    MARKERS,
    QUIET,
    STROKES,
    WIDTH,
    add_legend,
    name_axes,
    new_figure,
    pictured,
)
from vaekit.report.pictures import GUTTER
from vaekit.words import counted, plural

_MOST_NAMED = 24  # dimensions, with a tick each
_MOST_CLASSES = len(COLOURS)
_SMALL = 16  # pixels; smaller tiles have lines between them
_OTHER = "#b6bcc4"


@pictured
def kl_bars(kl: Sequence[Estimate]) -> Figure:
    """Mean KL of each latent dimension, largest first, with its standard error and the threshold of being active."""
    values = np.array([estimate.value or 0.0 for estimate in kl])
    errors = np.nan_to_num([estimate.stderr for estimate in kl])
    order = np.argsort(-values, kind="stable")
    active = values[order] > ACTIVE_KL
    figure = new_figure()
    axes = figure.subplots()
    places = np.arange(len(values))
    colours = [COLOURS[0] if is_active else _OTHER for is_active in active]
    whiskers = {"elinewidth": 1, "ecolor": QUIET, "capsize": 2 if len(values) <= _MOST_NAMED else 0}
    axes.bar(places, values[order], yerr=errors[order], color=colours, width=0.75, error_kw=whiskers)
    line = axes.axhline(ACTIVE_KL, color=COLOURS[1], linestyle=STROKES[1], linewidth=1.4)
    title = f"{active.sum()} of {len(values)} dimensions {plural(active.sum(), 'is', 'are')} active"
    named = len(values) <= _MOST_NAMED
    name_axes(axes, title, "latent dimension" if named else "latent dimensions, largest first", "KL (nats)")
    if named:
        axes.set_xticks(places, [str(i) for i in order])
        axes.tick_params(axis="x", labelsize=9.5 if len(values) <= 16 else 8)
    axes.grid(False, axis="x")
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_ylim(0, max(float((values + errors).max()) * 1.06, 3 * ACTIVE_KL))
    add_legend(figure, [line], [f"threshold, {ACTIVE_KL} nats"])
    return figure


@pictured
def latent_map(
    points: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None, axis_names: Sequence[str]
) -> Figure:
    """Rows in the latent plane (n, 2), or on the latent line (n, 1), coloured and shaped by label."""
    figure = new_figure(WIDTH, HEIGHT + 0.9)
    axes = figure.subplots()
    groups = _groups(labels, classes, len(points))
    if points.shape[1] == 1:
        _histograms(axes, points[:, 0], groups)
        name_axes(axes, "", axis_names[0], "rows")
    else:
        _scatter(axes, points, groups)
        name_axes(axes, "", axis_names[0], axis_names[1])
    if labels is not None:
        handles = [
            Line2D([], [], linestyle="", marker=MARKERS[style % len(MARKERS)], color=colour, markersize=6)
            for _, _, colour, style in groups
        ]
        add_legend(figure, handles, [name for name, *_ in groups], beside=True)
    return figure


@pictured
def manifold(tiles: np.ndarray, axis: np.ndarray) -> Figure:
    """What the plane of z decodes to: tiles (rows, columns, height, width, 1 or 3) in [0, 1], the first row at the top.

    Args:
        tiles: The images.
        axis: The values of z1, and of z2, of the tiles.
    """
    rows, columns, height, width, channels = tiles.shape
    if max(height, width) < _SMALL:
        edges = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
        tiles = np.pad(tiles, edges, constant_values=GUTTER / 255)
        height, width = height + 1, width + 1
    mosaic = tiles.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    figure = new_figure(WIDTH, WIDTH - 0.2)
    axes = figure.subplots()
    picture = mosaic if channels == 3 else mosaic[..., 0]
    axes.imshow(
        picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, columns, 0, rows), aspect="equal"
    )
    shown = np.unique(np.linspace(0, columns - 1, 7).round().astype(int))
    axes.set_xticks(shown + 0.5, [_signed(float(axis[i])) for i in shown])
    axes.set_yticks(shown + 0.5, [_signed(float(axis[i])) for i in shown])
    axes.grid(False)
    name_axes(axes, "", "z₁", "z₂")
    return figure


def principal_plane(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n, latent) as points in two dimensions at most, and what their axes are."""
    if codes.shape[1] <= 2:
        return codes, ("z₁", "z₂")[: codes.shape[1]]
    centred = codes.astype(np.float64) - codes.mean(0)
    _, singular, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    # A component's sign is arbitrary; this one makes the same codes give the same picture everywhere.
    largest = np.abs(components).argmax(1)
    components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
    shares = singular**2 / max(float((singular**2).sum()), 1e-300)
    names = tuple(
        f"{which} principal component ({share:.0%} of variance)"
        for which, share in zip(("1st", "2nd"), shares, strict=False)
    )
    return centred @ components.T, names


def _groups(
    labels: np.ndarray | None, classes: Sequence[str] | None, rows: int
) -> list[tuple[str, np.ndarray, str, int]]:
    """Name, rows, colour and marker of each class; beyond the most frequent ones all are "other"."""
    if labels is None:
        return [("", np.ones(rows, bool), COLOURS[0], 0)]
    found, counts = np.unique(labels, return_counts=True)
    kept = (
        found
        if len(found) <= _MOST_CLASSES
        else np.sort(found[np.argsort(-counts, kind="stable")][: _MOST_CLASSES - 1])
    )
    groups = []
    for style, label in enumerate(kept):
        name = classes[label] if classes and label < len(classes) else str(label)
        groups += [(name, labels == label, COLOURS[style % len(COLOURS)], style)]
    if len(kept) < len(found):
        others = len(found) - len(kept)
        groups = [(counted(others, "other"), ~np.isin(labels, kept), _OTHER, len(kept)), *groups]
    return groups


def _scatter(axes: Axes, points: np.ndarray, groups: Sequence[tuple[str, np.ndarray, str, int]]) -> None:
    size = float(np.clip(9000 / max(1, len(points)), 7, 26))
    for _, rows, colour, style in groups:
        marker = MARKERS[style % len(MARKERS)]
        axes.scatter(*points[rows].T, s=size, marker=marker, color=colour, alpha=0.75, linewidths=0)
    middle, reach = (points.max(0) + points.min(0)) / 2, 0.53 * float(np.ptp(points, axis=0).max()) or 1.0
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))


def _histograms(axes: Axes, values: np.ndarray, groups: Sequence[tuple[str, np.ndarray, str, int]]) -> None:
    edges = np.histogram_bin_edges(values, 40)
    for _, rows, colour, style in groups:
        counts, _ = np.histogram(values[rows], edges)
        axes.stairs(counts, edges, color=colour, linestyle=STROKES[style % len(STROKES)], linewidth=1.6)
    axes.set_ylim(bottom=0)


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", MINUS) if abs(value) >= 0.05 else "0"
