"""Rows that are read in chunks, as `Rows`: shuffled in windows, read ahead, turned into x a batch at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaekit.data.part import Part
from vaekit.data.rows import Inputs, Rows, drawn_rows, inputs_of, observed_log_scale, whole_log_scale
from vaekit.data.streaming.chunk_cache import ChunkCache
from vaekit.data.table import Sizes, Table

_PLACES = 64  # of the file, that rows which stand for all are taken from


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """The rows of a table but for some that are left out, in the order of the file.

    Attributes:
        out: (m,) the rows that are left out, by number, in rising order.
        make: Turns rows as they are stored into rows in memory.
        table: The data on disk.
        shape: Of one row, as the model sees it.
        sizes: How many bytes a window has.
        cache: The chunks in memory.
        labels: (n,) int64, or None.
        n: How many rows these are.
        device: Where batches go.
        log_scales, protocol, names: see `Rows`.
    """

    table: Table
    out: np.ndarray
    make: Callable[[Part], Rows]
    shape: torch.Size
    sizes: Sizes
    cache: ChunkCache
    labels: Tensor | None
    n: int
    device: torch.device
    log_scales: Tensor | None = None
    protocol: str = ""
    names: np.ndarray | None = None
    last: "_Last" = field(init=False, default_factory=lambda: _Last())

    @classmethod
    def of(cls, table: Table, out: np.ndarray, make: Callable[[Part], Rows], sizes: Sizes) -> "StreamedRows":
        """All rows of a table that are not in `out`."""
        labels = None if table.labels is None else torch.from_numpy(np.delete(table.labels, out))
        cache = ChunkCache(table, sizes.cache)
        none = np.arange(0) if table.labels is None else table.labels[:0]
        empty = make(Part(np.empty((0, *table.shape), table.dtype), none))
        names = None if table.row_names is None else np.delete(table.row_names, out)
        n, device, scales = len(table) - len(out), torch.device("cpu"), empty.log_scales
        return cls(table, out, make, empty.shape, sizes, cache, labels, n, device, log_scales=scales, names=names)

    def __len__(self) -> int:
        return self.n

    def order(self, generator: torch.Generator) -> Tensor:
        """The rows by number in a random order, (n,) int64 on the CPU: one epoch, which is then read ahead.

        Chunks of neighbouring rows come in a random order and are grouped into windows of many; within a window the
        rows are shuffled. A function of the generator's state, of the rows' sizes and of the window's.
        """
        bounds = self._bounds()
        windows: list[list[int]] = []
        left = 0  # bytes, in the last window
        for chunk in torch.randperm(len(bounds) - 1, generator=generator).tolist():
            if bounds[chunk] == bounds[chunk + 1]:
                continue
            size = self.table.chunk_bytes(chunk)
            if not windows or size > left:
                windows.append([])
                left = self.sizes.window
            windows[-1].append(chunk)
            left -= size
        self.cache.plan(windows)
        orders = []
        for window in windows:
            rows = np.concatenate([np.arange(bounds[chunk], bounds[chunk + 1]) for chunk in window])
            orders.append(torch.from_numpy(rows)[torch.randperm(len(rows), generator=generator)])
        return torch.cat(orders)

    def noise(self, n: int, generator: torch.Generator | None) -> Tensor | None:
        """What dynamic binarisation draws for n rows, (n, *shape); None for other data."""
        return self._rows(slice(0, 0)).noise(n, generator)

    def batch(
        self, index: Tensor | slice, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """The x of the rows in `index`, as `Rows.batch` gives it; quickest for consecutive parts of the last `order`.

        Raises:
            DataError: The file can no longer be read.
        """
        return self._rows(index).batch(slice(None), generator, noise)

    def context_of(self, index: Tensor | slice) -> Tensor | None:
        """The context of the rows in `index`: see `Rows.context_of`."""
        return self._rows(index).context_of(slice(None))

    def mask_of(self, index: Tensor | slice) -> Tensor | None:
        """Which cells of the rows in `index` are observed: see `Rows.mask_of`."""
        return self._rows(index).mask

    def weight_of(self, index: Tensor | slice) -> Tensor | None:
        """How much the rows in `index` count: see `Rows.weight_of`."""
        return self._rows(index).weight

    @property
    def log_scale(self) -> float:
        """What a log-density of x is above that of the row as it is stored: see `Rows.log_scale`."""
        return whole_log_scale(self)

    def log_scale_of(self, index: Tensor | slice) -> Tensor | float:
        """The same of the observed cells of the rows in `index`: see `Rows.log_scale_of`."""
        return observed_log_scale(self, self.mask_of(index))

    def inputs(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Inputs:
        """What a model is called with for the rows in `index`: `x`, and `context` and `mask` where there are any."""
        return inputs_of(self.batch(index, generator), self.context_of(index), self.mask_of(index))

    def at(self, index: Tensor, generator: torch.Generator | None = None) -> Rows:
        """The rows in `index` in memory: see `Rows.at`."""
        return drawn_rows(self, index, generator)

    def some(self, n: int) -> Tensor:
        """Numbers of n rows (of all, where there are fewer) that stand for all: from places spread over the file."""
        if n >= self.n:
            return torch.arange(self.n)
        places = min(n, _PLACES)
        counts = [n // places + (place < n % places) for place in range(places)]
        return torch.cat([place * self.n // places + torch.arange(count) for place, count in enumerate(counts)])

    def to(self, device: torch.device | str) -> "StreamedRows":
        """The same rows, with batches on another device; labels go there too."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, labels=labels, device=torch.device(device))

    def take(self, n: int) -> "StreamedRows":
        """The first n rows of the file (all of them where there are fewer)."""
        n = min(n, self.n)
        labels, names = (None if part is None else part[:n] for part in (self.labels, self.names))
        return replace(self, labels=labels, names=names, n=n)

    def _rows(self, index: Tensor | slice) -> Rows:
        """The rows in `index`, made once for the batch, the context and the mask that are wanted in turn."""
        if self.last.index is index and not isinstance(index, slice):
            assert self.last.rows is not None
            return self.last.rows
        if isinstance(index, slice):
            wanted = np.arange(*index.indices(self.n))
        else:
            wanted = index.cpu().numpy()
            wanted = np.where(wanted < 0, wanted + self.n, wanted)
            if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.n):
                raise IndexError(f"rows are numbered from 0 to {self.n - 1}")
        values = self._gather(self._in_table(wanted), ahead=not isinstance(index, slice))
        labels = None if self.labels is None else self.labels.cpu().numpy()[wanted]
        rows = self.make(Part(values, labels)).to(self.device)
        self.last.index, self.last.rows = index, rows
        return rows

    def _bounds(self) -> np.ndarray:
        """(chunks + 1,) the number of the first of these rows in each chunk, and how many there are."""
        starts = self.table.starts
        return np.minimum(starts - np.searchsorted(self.out, starts), self.n)

    def _in_table(self, rows: np.ndarray) -> np.ndarray:
        """The numbers in the table of rows by their numbers here, which skip those left out."""
        return rows + np.searchsorted(self._before, rows, side="right")

    @cached_property
    def _before(self) -> np.ndarray:
        """(m,) how many of these rows come before each one that is left out."""
        return self.out - np.arange(len(self.out))

    def _gather(self, rows: np.ndarray, ahead: bool) -> np.ndarray:
        starts = self.table.starts
        values = np.empty((len(rows), *self.table.shape), self.table.dtype)
        by_row = np.argsort(rows)
        rising = rows[by_row]
        chunks = np.searchsorted(starts, rising, side="right") - 1
        within = rising - starts[chunks]
        used, firsts = np.unique(chunks, return_index=True)
        if ahead:
            self.cache.enter(used)
        bounds = [*firsts.tolist(), len(rows)]
        for chunk, first, last in zip(used.tolist(), bounds, bounds[1:], strict=False):
            # The mode changes nothing, as all rows are there, but without it NumPy copies twice.
            self.cache.get(chunk).take(within[first:last], axis=0, out=values[first:last], mode="clip")
        back = np.empty_like(by_row)
        back[by_row] = np.arange(len(rows))
        return values.take(back, axis=0)


class _Last:
    """The rows that were made last, and for which index."""

    index: Tensor | slice | None = None
    rows: Rows | None = None
