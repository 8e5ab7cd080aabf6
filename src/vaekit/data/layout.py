"""How an array is read: as a table, pictures, sequences or volumes; channels come first within vaekit."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaekit.errors import DataError

Layout = Literal["auto", "table", "image", "sequence", "volume"]
# The axes of an array as it is stored: n rows, c channels, t steps, d slices, h height, w width, or f columns.
Axes = Literal["nf", "nt", "ntc", "nhw", "nchw", "nhwc", "ndhw", "ndhwc"]

_CHANNELS = (1, 3, 4)
_MOST_ASPECT = 8  # of what is taken for a picture where nothing is said
_ROWS = 1000


@dataclass(frozen=True)
class Reading:
    """How the rows of an array are read.

    Attributes:
        axes: Of the array as it is stored.
    """

    axes: Axes

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Stored values as rows with channels first, contiguous, in native byte order."""
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        if values.dtype.itemsize > 8:
            values = values.astype(np.float64)
        if self.axes in ("nhw", "nt", "ndhw"):
            values = values[:, None]
        elif self.axes in ("nhwc", "ntc", "ndhwc"):
            values = np.moveaxis(values, -1, 1)
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def stored_order(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Rows with channels first, (n, ...), in the axes in which their source has them."""
    if axes in ("nhw", "nt", "ndhw"):
        return values[:, 0]
    return np.moveaxis(values, 1, -1) if axes in ("nhwc", "ntc", "ndhwc") else values


def how_to_read(values: np.ndarray, layout: Layout, what: str) -> Reading:
    """How an array of rows is read.

    A table is (rows, columns), a sequence (rows, steps) or (rows, steps, channels), an image (rows, height, width) with
    the channels before or after these, and a volume (rows, depth, height, width), with the channels last.

    Args:
        values: (n, ...) some rows or all; of none, the type and the shape are believed to be those of pictures.
        layout: What they are; "auto" looks.
        what: How the values are called in errors.

    Raises:
        DataError: The shape or the type of the cells cannot be read so, there are no cells, or it is not clear what
            they are.
    """
    if values.dtype.hasobject or values.dtype.kind not in "biuf":
        raise DataError(
            f"{what} has cells of type {values.dtype}; numbers are needed: convert with .astype(numpy.float32)."
        )
    if values.ndim < 2:
        raise DataError(
            f"{what} has shape {values.shape}; rows of data are needed: "
            "x.reshape(-1, 1) makes a table of one column, x.reshape(1, -1) a single row."
        )
    if values.size == 0:
        raise DataError(f"{what} has shape {values.shape}, so it holds nothing; rows and columns are needed.")
    return Reading(_guessed(values, what) if layout == "auto" else _declared(values, layout, what))


def _declared(values: np.ndarray, layout: Layout, what: str) -> Axes:
    shape = values.shape
    if layout == "image" and values.ndim == 4:
        if shape[1] in _CHANNELS or (shape[3] not in _CHANNELS and shape[1] < shape[3]):
            return "nchw"
        return "nhwc"
    found: dict[tuple[str, int], Axes] = {
        ("table", 2): "nf",
        ("sequence", 2): "nt",
        ("sequence", 3): "ntc",
        ("image", 3): "nhw",
        ("volume", 4): "ndhw",
        ("volume", 5): "ndhwc",
    }
    if (axes := found.get((layout, values.ndim))) is None:
        raise DataError(
            f"{what} has shape {shape}, which is not that of DataSpec.layout={layout}: {_SHAPES[layout]}.",
            field="DataSpec.layout",
            value=layout,
        )
    return axes


_SHAPES: dict[Layout, str] = {
    "table": "a table is (rows, columns)",
    "sequence": "sequences are (rows, steps) or (rows, steps, channels)",
    "image": "images are (rows, height, width), (rows, channels, height, width) or (rows, height, width, channels)",
    "volume": "volumes are (rows, depth, height, width) or (rows, depth, height, width, channels)",
}


def _guessed(values: np.ndarray, what: str) -> Axes:
    if values.ndim == 2:
        return "nf"
    if values.ndim == 3 and _looks_like_pictures(values, values.shape[1:]):
        return "nhw"
    if values.ndim == 4 and values.shape[1] in _CHANNELS:
        return "nchw"
    if values.ndim == 4 and values.shape[3] in _CHANNELS:
        return "nhwc"
    kinds = {3: "image or sequence", 4: "image or volume", 5: "volume"}.get(values.ndim)
    if kinds is None:
        raise DataError(f"{what} has shape {values.shape}; {'; '.join(_SHAPES.values())}.")
    raise DataError(
        f"{what} has shape {values.shape}, and what a row is cannot be seen from it: set DataSpec.layout={kinds}; "
        f"{'; '.join(text for name, text in _SHAPES.items() if name in kinds)}.",
        field="DataSpec.layout",
        value="auto",
    )


def _looks_like_pictures(values: np.ndarray, size: tuple[int, ...]) -> bool:
    """Whether values are grey levels, of something that is not much longer than it is wide."""
    if max(size) > _MOST_ASPECT * min(size):
        return False
    if values.dtype.kind == "b" or values.dtype == np.uint8:
        return True
    some = values[:_ROWS]
    if values.dtype.kind == "f":
        return bool(np.all((some >= 0) & (some <= 1) | np.isnan(some)))
    return bool(np.all(some >= 0))
