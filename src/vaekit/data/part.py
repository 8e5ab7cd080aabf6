"""Rows of a table as they are stored, in an order of their own, and in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK = 1 << 26  # bytes


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a table, as they are stored.

    Attributes:
        stored: (m, *shape), with all columns of the table.
        labels, factors: of these rows, or None.
        index: (n,) which rows of `stored` these are, so that large data is not copied to change its order; None for
            all, as they come.
    """

    stored: np.ndarray
    labels: np.ndarray | None = None
    factors: np.ndarray | None = None
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.stored if self.index is None else self.index)

    def __getitem__(self, index: np.ndarray | slice) -> "Part":
        labels, factors = (None if one is None else one[index] for one in (self.labels, self.factors))
        if self.index is None:
            return Part(self.stored[index], labels, factors)
        return Part(self.stored, labels, factors, self.index[index])

    @property
    def values(self) -> np.ndarray:
        """The rows, (n, *shape)."""
        return self.stored if self.index is None else self.stored[self.index]

    def column(self, place: int) -> np.ndarray:
        """The cells of a column, (n,)."""
        cells = self.stored[:, place]
        return cells if self.index is None else cells[self.index]

    def blocks(self, size: int = _BLOCK) -> Iterator["Part"]:
        """The rows in blocks of at most so many bytes, but of at least a row; one block where there are no rows."""
        each = max(1, size * len(self.stored) // max(1, self.stored.nbytes))
        return (self[start : start + each] for start in range(0, max(1, len(self)), each))
