"""Rows of any kind as a table of numbers and texts under neutral names, and back."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from vaekit.data.in_memory import arrow_of, is_frame


@dataclass(frozen=True)
class Times:
    """Dates, times or durations as whole numbers, value = first + step number.

    Attributes:
        kind: Their type in Arrow.
        first, step: in its unit.
    """

    kind: Any
    first: int
    step: int

    def numbers(self, cells: Any) -> Any:
        """Of a column of these, in Arrow."""
        values = cells.cast(_integer(self.kind)).cast(pa.int64())
        return pa.array([None if one is None else (one - self.first) // self.step for one in values.to_pylist()])

    def restored(self, cells: Any) -> Any:
        """The column of whole numbers."""
        values = [None if one is None else self.first + self.step * one for one in cells.to_pylist()]
        return pa.array(values, pa.int64()).cast(_integer(self.kind)).cast(self.kind)

    @classmethod
    def of(cls, cells: Any) -> "Times":
        """What the cells of a column have in common."""
        values = cells.cast(_integer(cells.type)).cast(pa.int64()).drop_null().to_numpy()
        first = int(values.min()) if len(values) else 0
        return cls(cells.type, first, max(1, int(np.gcd.reduce(values - first))) if len(values) else 1)


@dataclass(frozen=True)
class Layout:
    """How rows were given, so that others are made alike.

    Attributes:
        empty: The frame without its rows, or the type of an array's numbers.
        names: Of the columns.
        times: Of columns of dates and times, by number.
    """

    empty: Any
    names: tuple[Any, ...]
    times: dict[int, Times]

    @classmethod
    def of(cls, rows: Any) -> "Layout":
        """Of a frame, or of a checked array."""
        if not is_frame(rows):
            return cls(np.dtype(rows.dtype), tuple(range(rows.shape[1])), {})
        names = tuple(rows.column_names if isinstance(rows, pa.Table) else rows.columns)
        columns = arrow_of(_plain(rows)).columns
        times = {at: Times.of(cells) for at, cells in enumerate(columns) if pa.types.is_temporal(cells.type)}
        return cls(rows.slice(0, 0) if isinstance(rows, pa.Table) else rows.head(0), names, times)

    def table(self, rows: Any) -> Any:
        """Rows as a table of Arrow, whose columns are called c0, c1, ..."""
        if not is_frame(rows):
            return pa.table({f"c{at}": pa.array(cells, from_pandas=True) for at, cells in enumerate(rows.T)})
        columns = arrow_of(_plain(rows)).columns
        found = {}
        for at, cells in enumerate(columns):
            kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
            cells = cells.cast(kind)
            cells = self.times[at].numbers(cells) if at in self.times else cells
            found[f"c{at}"] = cells.cast(pa.float64()) if pa.types.is_decimal(kind) else cells
        return pa.table(found)

    def rows(self, table: Any) -> Any:
        """A table of Arrow that `table` could have made, as rows were given; a column that it lacks is empty."""
        columns = []
        for at in range(len(self.names)):
            cells = table[f"c{at}"].combine_chunks() if f"c{at}" in table.column_names else pa.nulls(len(table))
            columns += [self.times[at].restored(cells) if at in self.times else cells]
        if isinstance(self.empty, np.dtype):
            return np.stack([np.asarray(cells.to_numpy(zero_copy_only=False), float) for cells in columns], 1).astype(
                self.empty
            )
        if isinstance(self.empty, pa.Table):
            kinds = self.empty.schema.types
            return pa.table([_cast(cells, kind) for cells, kind in zip(columns, kinds, strict=True)], self.empty.schema)
        named = pa.table(columns, [f"c{at}" for at in range(len(columns))])
        if hasattr(self.empty, "iloc"):
            return self._of_pandas(named)
        found = import_module("polars").from_arrow(named)
        return found.rename(dict(zip(found.columns, self.names, strict=True))).cast(dict(self.empty.schema))

    def _of_pandas(self, table: Any) -> Any:
        import pandas as pd

        made, found = table.to_pandas(), {}
        for at, dtype in enumerate(self.empty.dtypes):
            cells = made.iloc[:, at]
            if isinstance(dtype, pd.CategoricalDtype):
                known = {str(one): place for place, one in enumerate(dtype.categories)}
                codes = [known.get(str(one), -1) if one is not None else -1 for one in cells]
                found[at] = pd.Categorical.from_codes(codes, dtype=dtype)
            else:
                found[at] = cells.astype(dtype)
        frame = pd.DataFrame(found)
        frame.columns = self.empty.columns
        return frame


def _plain(frame: Any) -> Any:
    """A frame whose categories are texts, since some of them may stand for numbers."""
    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "iloc"):
        import pandas as pd

        found = frame.copy(deep=False)
        found.columns = [f"c{at}" for at in range(frame.shape[1])]
        for name, dtype in found.dtypes.items():
            if isinstance(dtype, pd.CategoricalDtype):
                texts = np.array([*map(str, dtype.categories), None], object)
                found[name] = texts[found[name].cat.codes.to_numpy()]
        return found
    pl = import_module("polars")
    return frame.with_columns(pl.selectors.categorical().cast(pl.String), pl.selectors.enum().cast(pl.String))


def _cast(cells: Any, kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return cells.cast(kind.value_type).dictionary_encode().cast(kind)
    return cells.cast(kind, safe=False)


def _integer(kind: Any) -> Any:
    """The type of integers that are as wide as those of a type of times."""
    return pa.int32() if kind.bit_width == 32 else pa.int64()
