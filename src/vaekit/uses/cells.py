"""Cells of rows, each by its number in a row that is flat: their names, their kinds, and their values as stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vaekit.data import Binary, Mixed, Schema
from vaekit.errors import DataError


@dataclass(frozen=True)
class CellFacts:
    """What the cells of a row are, in the order of a row that is flat.

    Attributes:
        schema: Of the rows.
    """

    schema: Schema

    @property
    def count(self) -> int:
        """How many there are."""
        return int(np.prod(self.schema.shape))

    @cached_property
    def categories(self) -> np.ndarray:
        """How many categories each has, (cells,) int64; 0 of one that is a number."""
        schema = self.schema
        if isinstance(schema.support, Mixed):
            kinds = [0 if one.is_number else max(2, len(one.categories)) for one in schema.fields or ()]
            return np.array(kinds, np.int64)
        return np.full(self.count, 2 if isinstance(schema.support, Binary) else 0)

    @cached_property
    def ordered(self) -> np.ndarray:
        """Whether values of each have an order, so that intervals of them mean something, (cells,) bool."""
        if isinstance(self.schema.support, Mixed):
            return np.array([one.is_number or one.kind == "ordinal" for one in self.schema.fields or ()])
        return self.categories == 0

    @cached_property
    def scale(self) -> np.ndarray:
        """What x is multiplied by to be in stored units, (cells,)."""
        return self._of_each(self.schema.scale, 1.0)

    @cached_property
    def loc(self) -> np.ndarray:
        """What is added to x then, (cells,)."""
        return self._of_each(self.schema.loc, 0.0)

    def stored(self, x: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Values x (..., m), as the model has them, of the cells (m,), in stored units."""
        return x.astype(np.float64) * self.scale[cells] + self.loc[cells]

    def names(self, cells: Sequence[int] | np.ndarray) -> list[str]:
        """The column of each cell; of a picture its channel, row and column, counted from 0."""
        schema = self.schema
        if schema.columns is not None:
            return [schema.columns[cell] for cell in cells]
        if len(schema.shape) == 1:
            return [f"column {cell}" for cell in cells]
        places = np.array(np.unravel_index(np.asarray(cells, np.int64), schema.shape)).T
        skipped = int(schema.shape[0] == 1)
        return [f"({', '.join(map(str, place[skipped:]))})" for place in places.tolist()]

    def numbers(self, names: Sequence[str]) -> list[int]:
        """The cells of columns by name.

        Raises:
            DataError: A name is that of no column that is modelled.
        """
        known = self.schema.columns or ()
        if unknown := [name for name in names if name not in known]:
            raise DataError(
                f"{unknown[0]!r} is no column that is modelled; these are {', '.join(known) or 'none'}",
                field="given",
                value=unknown[0],
            )
        return [known.index(name) for name in names]

    def _of_each(self, numbers: tuple[float, ...] | None, none: float) -> np.ndarray:
        shape = self.schema.shape
        axes = (-1, *[1] * (len(shape) - 1))
        return np.broadcast_to(np.reshape(numbers or (none,), axes), shape).reshape(-1).astype(np.float64)
