"""What readers of files return, and how it becomes rows: layout of the values, labels as numbers."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vaekit.errors import DataError

LABEL_NAMES = ("label", "labels", "target", "class", "y")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Raw:
    """Arrays as a file holds them.

    Attributes:
        values: (n, ...) numbers.
        test_values: the same for a test set, where the file has one.
        labels, test_labels: (n,) numbers or text, or None.
        columns: names, where the file gives them.
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    test_values: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None


def to_rows(values: np.ndarray, what: str) -> np.ndarray:
    """Values as a table (n, d) or as images (n, channels, height, width), contiguous, in native byte order.

    Args:
        values: as a file has them.
        what: how the values are called in errors.

    Raises:
        DataError: the shape or the type of the cells is another, or there are no cells.
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
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[1] not in _CHANNELS and values.shape[3] in _CHANNELS:
        values = np.moveaxis(values, 3, 1)
    elif values.ndim > 4 or (values.ndim == 4 and values.shape[1] not in _CHANNELS):
        raise DataError(
            f"{what} has shape {values.shape}; a table is (rows, columns), images are (rows, height, width), "
            "(rows, channels, height, width) or (rows, height, width, channels) with 1, 3 or 4 channels."
        )
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def are_classes(values: np.ndarray) -> bool:
    """Whether values could be labels: one per row, and text, integers, or floats that are integers."""
    if values.ndim != 1:
        return False
    if values.dtype.kind == "f":
        known = values[~np.isnan(values)]
        return bool(np.all(np.isfinite(known) & (known == np.floor(known))))
    return values.dtype.kind in "biuSU"


def encode_labels(values: np.ndarray, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as (n,) int64 numbers of classes, and the classes' names, sorted.

    Raises:
        DataError: a label is missing, or the values are measurements and not classes.
    """
    if not are_classes(values):
        raise DataError(
            f"{what} holds {values.dtype} of shape {values.shape}, not classes; labels are one integer or text "
            "per row: leave DataSpec.label out."
        )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    kind = values.dtype.kind
    missing = np.isnan(values) if kind == "f" else values == "" if kind == "U" else np.zeros(1, bool)
    if missing.any():
        raise DataError(
            f"{what} is missing in {missing.sum()} rows, first in row {missing.argmax()} (counted from 0); "
            "labels must be complete or absent: fill them in, or leave the labels out."
        )
    classes, codes = np.unique(values, return_inverse=True)
    names = [int(name) for name in classes] if classes.dtype.kind == "f" else classes.tolist()
    return codes.astype(np.int64), tuple(str(name) for name in names)


def find_name(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of `names` that is one of `wanted`, in any case, in the order of `wanted`."""
    by_folded = {name.casefold(): name for name in reversed(list(names))}
    return next((by_folded[name.casefold()] for name in wanted if name.casefold() in by_folded), None)


def nearest(name: str, names: Iterable[str]) -> str:
    """A parenthesis that names the likeliest of `names`, or nothing."""
    names = list(names)[:1000]  # a comparison takes long, and longer for long names
    close = difflib.get_close_matches(name, names, n=1) if len(name) <= 200 else []
    return f" (did you mean {close[0]}?)" if close else ""


def listing(names: Sequence[str], most: int = 12) -> str:
    """Names for an error message: all of them, or the first few and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_short, names[:most])) + more


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


def name_columns(width: int, drop: Sequence[str], what: str) -> tuple[list[int], tuple[str, ...]]:
    """Which of `width` columns without names are kept, and their names: their numbers, before any is dropped.

    Raises:
        DataError: one that is to be dropped is not there, or none is left.
    """
    columns = unnamed(range(width))
    check_drop(drop, columns, what)
    dropped = set(drop)
    kept = [place for place, name in enumerate(columns) if name not in dropped]
    check_left(kept, what)
    return kept, tuple(columns[place] for place in kept)


def unnamed(columns: Sequence[object]) -> tuple[str, ...]:
    """The names that so many columns have if they have none."""
    return tuple(f"column {place}" for place in range(len(columns)))


def check_distinct(names: Sequence[str], what: str) -> None:
    """Raise DataError where two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{what} has two columns named {name!r}; names must differ: rename one of them.")
        seen.add(name)


def check_drop(drop: Sequence[str], columns: Sequence[str], what: str) -> None:
    """Raise DataError where a column that is to be dropped is not there."""
    known = set(columns)
    for name in drop:
        if name not in known:
            raise DataError(
                f"DataSpec.drop names the column {name!r}, which {what} does not have{nearest(name, columns)}; "
                f"its columns are {listing(columns)}.",
                field="DataSpec.drop",
                value=list(drop),
            )


def check_left(columns: Sequence[object], what: str) -> None:
    """Raise DataError where no column of data is left."""
    if not columns:
        raise DataError(f"{what}: no column of data is left; DataSpec.drop and DataSpec.label must leave at least one.")


def drop_setting(columns: Sequence[str]) -> str:
    """The setting that leaves these columns out, as it would be typed."""
    quoted = [json.dumps(name, ensure_ascii=False) for name in columns]
    return f"DataSpec.drop=[{listing(quoted, 50)}]"
