"""Data on disk, in chunks of consecutive rows, of which few are in memory at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from vaekit.data.arrays import read_header
from vaekit.data.bounds import check_streamed, size_of
from vaekit.data.raw import name_columns, to_rows
from vaekit.data.source import Source
from vaekit.data.spec import NO_LABEL, DataSpec, Limit
from vaekit.errors import ConfigError, DataError

_WINDOW = 64_000_000  # bytes of rows that are shuffled with one another
_CHUNKS_PER_WINDOW = 16


@dataclass(frozen=True)
class Sizes:
    """How much is read, shuffled and kept in memory at a time, in bytes.

    Attributes:
        chunk: of consecutive rows, which are read at once.
        window: of chunks, whose rows are shuffled together.
        cache: the most that chunks may take in memory.
    """

    chunk: int
    window: int
    cache: int

    @classmethod
    def of(cls, limit: Limit) -> "Sizes":
        """The cache takes a quarter of Limit.data_gb; from 0.512 GB on, chunks and windows no longer depend on it."""
        cache = max(2, int(limit.data_gb * 1e9 / 4))
        window = min(_WINDOW, cache // 2)
        return cls(max(1, window // _CHUNKS_PER_WINDOW), window, cache)


@dataclass(frozen=True, eq=False)
class Store:
    """A data set as it lies on disk.

    Attributes:
        starts: (chunks + 1,) the row at which each chunk starts, and the number of rows.
        shape, dtype: of one row, and of its values.
        read: the rows of a chunk by its number, (rows, *shape), or DataError. It may be called from another thread.
        labels, columns, classes, note: as in `Source`.
    """

    name: str
    starts: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int], np.ndarray]
    labels: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    note: str = ""

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def kind(self) -> Literal["image", "table"]:
        """What a row is."""
        return "table" if len(self.shape) == 1 else "image"

    @property
    def row_bytes(self) -> int:
        """What the values of one row take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def chunk_bytes(self, chunk: int) -> int:
        """What the values of a chunk take in memory."""
        return int(self.starts[chunk + 1] - self.starts[chunk]) * self.row_bytes

    def part(self, values: np.ndarray, start: int | None = 0) -> Source:
        """Some rows, from row `start` on, as a source without labels."""
        return Source(self.name, values, columns=self.columns, start=start)

    def whole(self) -> Source:
        """All rows, in memory."""
        values = np.empty((len(self), *self.shape), self.dtype)
        for chunk in range(len(self.starts) - 1):
            values[self.starts[chunk] : self.starts[chunk + 1]] = self.read(chunk)
        return Source(self.name, values, self.labels, 0, self.columns, self.classes, note=self.note)


def even_starts(rows: int, row_bytes: int, chunk_bytes: int) -> np.ndarray:
    """Where chunks of at most `chunk_bytes` start, and the number of rows: a chunk has at least one row."""
    each = max(1, chunk_bytes // row_bytes)
    return np.append(np.arange(0, rows, each), rows)


def npy_store(path: Path, spec: DataSpec, sizes: Sizes) -> Store:
    """A .npy file of rows one after another.

    Raises:
        DataError: the header is damaged or does not fit the file, the array is no table or images, or it is laid out
            column by column.
        ConfigError: columns of images are to be dropped.
    """
    size = size_of(path)
    with path.open("rb") as file:
        stored, fortran, dtype = read_header(file, size, f"{path}")
        offset = file.tell()
    rows = stored[0] if stored else 0
    check_streamed(path.name, rows, math.prod(stored[1:]), sizes.cache)
    sample = to_rows(np.zeros((min(rows, 1), *stored[1:]), dtype), f"{path}: the data")
    if fortran and len(stored) > 1:
        raise DataError(
            f"{path} is laid out column by column (Fortran order), and only rows can be streamed: save "
            "numpy.ascontiguousarray(x), or read it whole with DataSpec.stream=never."
        )
    if spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names labels, and {path} holds only one array: leave it out.",
            field="DataSpec.label",
            value=spec.label,
        )
    columns, kept = None, None
    if sample.ndim == 2:
        kept, columns = name_columns(sample.shape[1], spec.drop, str(path))
        sample = sample[:, kept]
    elif spec.drop:
        raise ConfigError(
            f"DataSpec.drop={list(spec.drop)} is for tables, and {path} holds images: leave it out.",
            field="DataSpec.drop",
            value=spec.drop,
        )
    starts = even_starts(rows, sample.nbytes, sizes.chunk)
    read = partial(_read_npy, path, starts, stored[1:], dtype, offset, kept)
    return Store(path.name, starts, sample.shape[1:], sample.dtype, read, columns=columns)


def _read_npy(
    path: Path, starts: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, offset: int, kept: list[int] | None, k: int
) -> np.ndarray:
    rows, width = int(starts[k + 1] - starts[k]), int(np.prod(shape))
    try:
        # Read, not mapped: what a map has touched counts as memory of the process.
        values = np.fromfile(path, dtype, rows * width, offset=offset + int(starts[k]) * width * dtype.itemsize)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(values) < rows * width:
        raise DataError(f"{path} ends in the rows from {starts[k]} on: it was cut short while in use; put it back.")
    values = to_rows(values.reshape(rows, *shape), f"{path}: the data")
    return values if kept is None or len(kept) == values.shape[1] else np.ascontiguousarray(values[:, kept])
