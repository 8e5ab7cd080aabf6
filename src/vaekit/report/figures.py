"""The look of every drawn figure, in one place. Nothing here, or on import, changes matplotlib's global state."""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

P = ParamSpec("P")

DENSITY = 2  # pixels of a figure for each pixel of the page
WIDTH, HEIGHT = 5.2, 3.5  # inches, at 100 page pixels an inch
PAGE_WIDTH = 10.8  # of a picture that takes all of a page
INK, QUIET, PAPER = "#1f2328", "#59636e", "#ffffff"
# Okabe and Ito (2008), in an order that stays apart for every kind of colour vision; the last is for long lists.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#3b3b3b", "#8a6d00", "#7f3c8d", "#a5aa99")
STROKES = ("-", (0, (5, 1.6)), (0, (1, 1.1)), (0, (5, 1.3, 1, 1.3)), (0, (8, 2, 2, 2)), (0, (3, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8c959f",
    "axes.facecolor": PAPER,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,  # names are the user's: a dollar sign in one is a dollar sign
    "text.usetex": False,
    "xtick.color": QUIET,
    "xtick.labelsize": 9.5,
    "ytick.color": QUIET,
    "ytick.labelsize": 9.5,
}


def pictured(draw: Callable[P, Figure]) -> Callable[P, Image.Image]:
    """Make a function that draws a figure return it as an image, drawn in the style of all figures."""

    @wraps(draw)
    def picture(*args: P.args, **kwargs: P.kwargs) -> Image.Image:
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            canvas = FigureCanvasAgg(draw(*args, **kwargs))
            canvas.draw()
            return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    picture.__annotations__["return"] = Image.Image
    return picture


def new_figure(width: float = WIDTH, height: float = HEIGHT, plain: bool = False) -> Figure:
    """An empty figure, in inches.

    Args:
        width: Of all.
        height: Of all.
        plain: Leave the places of the axes to the caller.
    """
    layout = None if plain else ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=100 * DENSITY, layout=layout)


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title and the names of both axes."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], beside: bool = False) -> None:
    """A legend below the axes, or beside them. Labels are set as text: matplotlib hides those with an underscore."""
    inside, outside = ("upper right", "outside right upper") if beside else ("lower left", "outside lower left")
    columns = 1 if beside else 2 if max(map(len, labels)) > 14 else min(4, len(labels))
    legend = figure.legend(
        handles,
        ["-"] * len(labels),
        loc=inside if figure.get_layout_engine() is None else outside,
        ncols=columns,
        handlelength=1.2 if beside else 2.6,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(short(label, 16 if beside else 30))


def short(text: str, most: int) -> str:
    """Text on one line, cut to at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def compact(value: float, _: object = None) -> str:
    """A tick in few characters: 200k, 1.5M, 4e18."""
    for least, unit, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if least <= abs(value) < 1e15:
            return f"{value / unit:.4g}{letter}"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def power_of_ten(value: float, _: object = None) -> str:
    """The tick of a logarithmic axis, as text that needs no formula: 10⁻², 1, 10⁴."""
    exponent = round(math.log10(value))
    if exponent in (0, 1):
        return str(10**exponent)
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
