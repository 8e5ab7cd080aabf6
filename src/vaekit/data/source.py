"""A data set as it is stored: one array, in which the source's own test rows, if any, come last."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaekit.data.schema import Support


class Fingerprint:
    """SHA-256 over a number of test rows, and arrays that may come in parts: their dtype, shape and bytes."""

    def __init__(self, test_rows: int) -> None:
        self._digest = hashlib.sha256(f"{test_rows}".encode())

    def begin(self, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        """Announce the next array."""
        self._digest.update(f"{dtype.str}{shape}".encode())

    def add(self, part: np.ndarray) -> None:
        """Take the next rows of the array that was announced."""
        self._digest.update(np.ascontiguousarray(part).data)

    def value(self) -> str:
        """The digest, in hexadecimal."""
        return self._digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is stored.

    Attributes:
        values: (n, columns) or (n, channels, height, width), in the dtype of the file.
        labels: (n,) int64 numbers of the classes, or None.
        factors: (n, f) int64, the values 0, 1, ... of the factors that a row was made from, or None.
        factor_names, factor_sizes: of each factor, its name and how many values it takes.
        test_rows: how many of the last rows are the source's own test set; 0 where it has none.
        stored: the support, where the source declares one.
        name: of the data set, or of its file.
        columns: names of a table's columns.
        classes: names of the labels, by number.
        context: (n, width) what the model is conditioned on, or None.
        context_names: of its numbers.
        note: how it was read, in words, where that is worth saying.
        start: number of the first row, where the rows are a part of a larger source; None where they are all of it.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray | None = None
    test_rows: int = 0
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    stored: Support | None = None
    context: np.ndarray | None = None
    context_names: tuple[str, ...] = ()
    note: str = ""
    start: int | None = None
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None

    @property
    def kind(self) -> Literal["image", "table"]:
        """What a row is."""
        return "table" if self.values.ndim == 2 else "image"

    @property
    def train_rows(self) -> int:
        """How many of the first rows are not the source's own test set."""
        return len(self.values) - self.test_rows

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over dtype, shape and bytes of values, labels and factors."""
        digest = Fingerprint(self.test_rows)
        for array in (self.values, self.labels, self.factors):
            if array is not None:
                digest.begin(array.dtype, array.shape)
                digest.add(array)
        return digest.value()

    def place(self, index: tuple[int, ...]) -> str:
        """Where a cell is, in words: its row, counted from 0, and its column or pixel."""
        row, *cell = index
        number = f"{row + (self.start or 0)}"
        if row >= self.train_rows:
            number = f"{row - self.train_rows} of the test set"
        if self.columns is not None:
            return f"row {number} (counted from 0), column {self.columns[cell[0]]!r}"
        if len(cell) != 3:
            return f"row {number} (counted from 0), cell {tuple(cell)}"
        return f"image {number} (counted from 0), pixel (channel {cell[0]}, row {cell[1]}, column {cell[2]})"
