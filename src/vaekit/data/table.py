"""Table: a data set as it is stored, named fields and rows, read a chunk at a time."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vaekit.data.layout import Axes
from vaekit.data.schema import Dialect, Support
from vaekit.data.sound import Sound
from vaekit.data.spec import Limit

Kind = Literal["table", "image", "sequence", "volume"]
KINDS: dict[int, Kind] = {1: "table", 2: "sequence", 3: "image", 4: "volume"}  # by the number of axes of a row

_DOUBLE = np.dtype(np.float64)
_WINDOW = 64_000_000  # bytes of rows that are shuffled with one another
_CHUNKS_PER_WINDOW = 16


@dataclass(frozen=True)
class Sizes:
    """How much is read, shuffled and kept in memory at a time, in bytes.

    Attributes:
        chunk: Of consecutive rows, which are read at once.
        window: Of chunks, whose rows are shuffled together.
        cache: The most that chunks may take in memory.
        whole: The most that data takes which is read whole.
    """

    chunk: int
    window: int
    cache: int
    whole: float

    @classmethod
    def of(cls, limit: Limit) -> "Sizes":
        """The cache takes a quarter of Limit.data_gb; from 0.512 GB on, chunks and windows no longer depend on it."""
        whole = int(limit.data_gb * 1e9)
        cache = max(2, whole // 4)
        window = min(_WINDOW, cache // 2)
        return cls(max(1, window // _CHUNKS_PER_WINDOW), window, cache, whole)


def even_starts(rows: int, row_bytes: int, chunk_bytes: int) -> np.ndarray:
    """Where chunks of at most `chunk_bytes` start, and the number of rows: a chunk has at least one row."""
    each = max(1, chunk_bytes // max(1, row_bytes))
    return np.append(np.arange(0, rows, each), rows)


@dataclass(frozen=True)
class Column:
    """What a file says of one of its columns.

    Attributes:
        name: Of the column.
        dtype: As pandas calls it: int64, float32, bool, string, category, datetime, timedelta, ...; category[int64] of
            categories that are integers; object of what is none of these, such as lists.
        categories: The texts that cells are the numbers of; None where cells are numbers themselves. A column of text
            that has too many different ones has none, and its cells read as missing, as those of times do.
        stored: The smallest type of float, or the type of the array, that holds every number.
        odd: Of texts that are numbers but for a few, the first that is none, and its row.
        ordered: Whether the categories have an order, which is that of `categories`.
    """

    name: str
    dtype: str
    categories: tuple[str, ...] | None = None
    stored: np.dtype = _DOUBLE
    odd: tuple[str, int] | None = None
    ordered: bool = False

    @property
    def is_number(self) -> bool:
        """Whether cells are numbers, and not texts or times."""
        return self.categories is None and not self.dtype.startswith(("string", "category")) and not self.holds

    @property
    def holds(self) -> str:
        """What cells are that have no numbers, in words; empty where they have some, and of text."""
        return {"datetime": "dates or times", "timedelta": "durations", "object": "neither numbers nor text"}.get(
            self.dtype, ""
        )


@dataclass(frozen=True, eq=False)
class Table:
    """A data set as it is stored; its own test rows, if it has any, come last.

    Data in memory is one chunk. A cell is a number; one of text is the number of its category, and a missing one NaN.

    Attributes:
        name: Of the data set, or of its file.
        starts: (chunks + 1,) the row at which each chunk starts, and the number of rows.
        shape, dtype: of one row, and of its values.
        read: The rows of a chunk by its number, (rows, *shape), or DataError. It may be called from another thread. Of
            a table of columns, it is called with the numbers of those wanted, too.
        columns: Of a table; None for arrays of another kind.
        picked: The numbers of `columns` in the file, where not all are taken.
        labels: (n,) int64 numbers of the classes, or None.
        classes: Names of the labels, by number.
        label: The column that they were, where they were one.
        row_names: (n,) what the source calls its rows, as cells by their barcodes; None where it does not.
        order: The names of all columns that the source has, with that of the label; where they are not those of
            `columns`.
        factors: (n, f) int64, the values 0, 1, ... of the factors that a row was made from, or None.
        factor_names, factor_sizes: of each factor, its name and how many values it takes.
        test_rows: How many of the last rows are the source's own test set; 0 where it has none.
        stored: The support, where the source declares one.
        axes: Of the array, where the source is one.
        dialect: Of a CSV file.
        sound: How recordings became rows, where the source is some.
        note: How it was read, in words, where that is worth saying; part of the protocol.
        notices: What was left out or taken for something, and why: for the user.
        streamable: Whether chunks can be read one by one, again and again, without all of them in memory.
    """

    name: str
    starts: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[..., np.ndarray]
    columns: tuple[Column, ...] | None = None
    picked: tuple[int, ...] | None = None
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    label: Column | None = None
    row_names: np.ndarray | None = None
    order: tuple[str, ...] = ()
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    test_rows: int = 0
    stored: Support | None = None
    axes: Axes | None = None
    dialect: Dialect | None = None
    sound: Sound | None = None
    note: str = ""
    notices: tuple[str, ...] = ()
    streamable: bool = True

    @classmethod
    def of(cls, name: str, values: np.ndarray, **facts: Any) -> "Table":
        """Rows (n, *shape) in memory, as one chunk.

        Args:
            name: Of the data set.
            values: In the types and units of the source.
            facts: Any other attribute.
        """

        def read(chunk: int, picked: Sequence[int] | None = None) -> np.ndarray:
            return values if picked is None else values.take(np.asarray(picked, np.intp), axis=1)

        starts = np.array([0, len(values)])
        return cls(name, starts, values.shape[1:], values.dtype, read, streamable=False, **facts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def chunks(self) -> int:
        """Their number."""
        return len(self.starts) - 1

    @property
    def kind(self) -> Kind:
        """What a row is."""
        return KINDS[len(self.shape)]

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the columns of a table."""
        return None if self.columns is None else tuple(column.name for column in self.columns)

    @property
    def train_rows(self) -> int:
        """How many of the first rows are not the source's own test set."""
        return len(self) - self.test_rows

    @property
    def row_bytes(self) -> int:
        """What the values of one row take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def chunk_bytes(self, chunk: int) -> int:
        """What the values of a chunk take in memory."""
        return int(self.starts[chunk + 1] - self.starts[chunk]) * self.row_bytes

    def chunk(self, number: int) -> np.ndarray:
        """The rows of a chunk, (rows, *shape); DataError where they cannot be read."""
        return self.read(number) if self.picked is None else self.read(number, self.picked)

    def whole(self) -> np.ndarray:
        """All rows, (n, *shape)."""
        if self.chunks == 1:
            return self.chunk(0)
        values = np.empty((len(self), *self.shape), self.dtype)
        for number in range(self.chunks):
            values[self.starts[number] : self.starts[number + 1]] = self.chunk(number)
        return values

    def pick(self, wanted: Sequence[int]) -> "Table":
        """The same rows, with some of the columns of a table, by number, in the order given."""
        assert self.columns is not None
        columns = tuple(self.columns[place] for place in wanted)
        if columns == self.columns:
            return self
        before = range(len(self.columns)) if self.picked is None else self.picked
        picked = tuple(before[place] for place in wanted)
        dtype = np.result_type(*(column.stored for column in columns)) if columns else self.dtype
        return replace(self, columns=columns, picked=picked, shape=(len(columns),), dtype=dtype)

    def column(self, place: int) -> np.ndarray:
        """The cells of one column of a table, (n,)."""
        return self.pick([place]).whole()[:, 0]

    def place(self, row: int, cell: tuple[int, ...]) -> str:
        """Where a cell is, in words: its row, counted from 0, and its column or pixel."""
        number = f"{row}" if row < self.train_rows else f"{row - self.train_rows} of the test set"
        if self.columns is not None:
            return f"row {number} (counted from 0), column {self.columns[cell[0]].name!r}"
        if self.kind != "image":
            return f"row {number} (counted from 0), cell {tuple(cell)}"
        return f"image {number} (counted from 0), pixel (channel {cell[0]}, row {cell[1]}, column {cell[2]})"


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

    def texts(self, texts: Sequence[str]) -> None:
        """Take names that numbers stand for."""
        self._digest.update("\0".join(texts).encode("utf-8", "surrogatepass"))

    def value(self) -> str:
        """The digest, in hexadecimal."""
        return self._digest.hexdigest()
