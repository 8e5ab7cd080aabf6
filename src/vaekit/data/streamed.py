"""Rows on disk, with the interface of `Rows`: shuffled in windows, read ahead, turned into x a batch at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaekit.data.chunk_cache import ChunkCache
from vaekit.data.rows import Rows, drawn_rows
from vaekit.data.stores import Sizes, Store

_PLACES = 64  # of the file, that rows which stand for all are taken from


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """The rows of a store but for some that are left out, in the order of the file.

    Attributes:
        out: (m,) the rows that are left out, by number, in rising order.
        make: turns values as they are stored, (n, *shape), into rows in memory.
        store: the data on disk.
        sizes: how many bytes a window has.
        cache: the chunks in memory.
        labels: (n,) int64, or None.
        classes: how many there are, where the model is conditioned on the label; else 0.
        n: how many rows these are.
        device: where batches go.
        log_scale, protocol: see `Rows`.
    """

    store: Store
    out: np.ndarray
    make: Callable[[np.ndarray], Rows]
    sizes: Sizes
    cache: ChunkCache
    labels: Tensor | None
    n: int
    device: torch.device
    classes: int = 0
    log_scale: float = 0.0
    protocol: str = ""

    @classmethod
    def of(cls, store: Store, out: np.ndarray, make: Callable[[np.ndarray], Rows], sizes: Sizes) -> "StreamedRows":
        """All rows of a store that are not in `out`."""
        labels = None if store.labels is None else torch.from_numpy(np.delete(store.labels, out))
        cache = ChunkCache(store, sizes.cache)
        log_scale = make(np.empty((0, *store.shape), store.dtype)).log_scale
        n, device = len(store) - len(out), torch.device("cpu")
        return cls(store, out, make, sizes, cache, labels, n, device, log_scale=log_scale)

    def __len__(self) -> int:
        return self.n

    @property
    def shape(self) -> torch.Size:
        """Shape of one row."""
        return torch.Size(self.store.shape)

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
            size = self.store.chunk_bytes(chunk)
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
        return self._rows(np.empty((0, *self.store.shape), self.store.dtype)).noise(n, generator)

    def batch(
        self, index: Tensor | slice, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """The x of the rows in `index`, as `Rows.batch` gives it; quickest for consecutive parts of the last `order`.

        Raises:
            DataError: the file can no longer be read.
        """
        if isinstance(index, slice):
            wanted = np.arange(*index.indices(self.n))
        else:
            wanted = index.cpu().numpy()
            wanted = np.where(wanted < 0, wanted + self.n, wanted)
            if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.n):
                raise IndexError(f"rows are numbered from 0 to {self.n - 1}")
        values = self._gather(self._in_store(wanted), ahead=not isinstance(index, slice))
        return self._rows(values).batch(slice(None), generator, noise)

    def context_of(self, index: Tensor | slice) -> Tensor | None:
        """The context of the rows in `index`: see `Rows.context_of`."""
        if not self.classes or self.labels is None:
            return None
        # a label of another data set may be none of the classes: then all are zero
        classes = torch.arange(self.classes, device=self.labels.device)
        return (self.labels[index][..., None] == classes).float()

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
        return replace(self, labels=None if self.labels is None else self.labels[:n], n=n)

    def _rows(self, values: np.ndarray) -> Rows:
        return self.make(values).to(self.device)

    def _bounds(self) -> np.ndarray:
        """(chunks + 1,) the number of the first of these rows in each chunk, and how many there are."""
        starts = self.store.starts
        return np.minimum(starts - np.searchsorted(self.out, starts), self.n)

    def _in_store(self, rows: np.ndarray) -> np.ndarray:
        """The numbers in the store of rows by their numbers here, which skip those left out."""
        return rows + np.searchsorted(self._before, rows, side="right")

    @cached_property
    def _before(self) -> np.ndarray:
        """(m,) how many of these rows come before each one that is left out."""
        return self.out - np.arange(len(self.out))

    def _gather(self, rows: np.ndarray, ahead: bool) -> np.ndarray:
        starts = self.store.starts
        values = np.empty((len(rows), *self.store.shape), self.store.dtype)
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
