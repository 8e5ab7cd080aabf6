"""A cache of chunks of rows: few are in memory at a time, and a thread reads the next ones ahead."""

import threading
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

from vaekit.data.table import Table
from vaekit.errors import DataError


class ChunkCache:
    """Keeps chunks of a table in memory, at most `most` bytes of them (one chunk is always allowed).

    The thread starts when a window of the plan is entered, reads what is missing of that window and of the next,
    and ends; it also ends, after the chunk that it is reading, when the cache is deleted.
    """

    def __init__(self, table: Table, most: int) -> None:
        self._state = _State(table, most)
        weakref.finalize(self, self._state.close)

    @property
    def peak(self) -> int:
        """The most bytes that were in memory at one time."""
        return self._state.peak

    def plan(self, windows: Sequence[Sequence[int]]) -> None:
        """Set the order in which chunks will be read, window by window."""
        self._state.plan(windows)

    def enter(self, chunks: np.ndarray) -> None:
        """Begin to read the earliest window that has one of these chunks, and the window after it."""
        self._state.enter(chunks)

    def get(self, chunk: int) -> np.ndarray:
        """The rows of a chunk; DataError where it cannot be read."""
        return self._state.get(chunk)


class _State:
    """What the cache shares with its thread, which must not keep the cache itself alive."""

    def __init__(self, table: Table, most: int) -> None:
        self.table, self.most = table, most
        self.changed = threading.Condition()
        self.rows: dict[int, np.ndarray] = {}  # by chunk, the one that was used last at the end
        self.errors: dict[int, DataError | MemoryError] = {}
        self.reading: set[int] = set()
        self.used = self.peak = 0  # bytes, those being read included
        self.windows: list[Sequence[int]] = []
        self.window_of: dict[int, int] = {}
        self.now = -1  # the window that was entered last
        self.kept: frozenset[int] = frozenset()  # the chunks of that window and the next
        self.ahead: deque[int] = deque()  # those of them that the thread has yet to look at
        self.running = self.closed = False

    def plan(self, windows: Sequence[Sequence[int]]) -> None:
        with self.changed:
            self.windows = list(windows)
            self.window_of = {chunk: number for number, window in enumerate(windows) for chunk in window}
            self.now, self.kept, self.ahead = -1, frozenset(), deque()
            self.errors.clear()

    def enter(self, chunks: np.ndarray) -> None:
        with self.changed:
            numbers = [self.window_of[chunk] for chunk in chunks.tolist() if chunk in self.window_of]
            if not numbers or min(numbers) == self.now or self.closed:
                return
            self.now = min(numbers)
            self.ahead = deque(chunk for window in self.windows[self.now : self.now + 2] for chunk in window)
            self.kept = frozenset(self.ahead)
            for chunk in self.rows.keys() - self.kept:
                self._drop(chunk)
            if not self.running:
                self.running = True
                threading.Thread(target=_read_ahead, args=(self,), name="vaekit-data", daemon=True).start()

    def get(self, chunk: int) -> np.ndarray:
        with self.changed:
            while chunk in self.reading:
                self.changed.wait()
            if (error := self.errors.pop(chunk, None)) is not None:
                raise error
            if chunk in self.rows:
                rows = self.rows[chunk] = self.rows.pop(chunk)
                return rows
            size = self.table.chunk_bytes(chunk)
            if not self._free(size, self.kept):
                while not self._free(size, frozenset()) and self.reading:
                    self.changed.wait()
            self._reserve(chunk, size)
        return self._read(chunk)

    def next(self) -> int | None:
        """The chunk that the thread is to read now; None, and it ends, where none is missing or no memory is left."""
        with self.changed:
            while self.ahead and not self.closed:
                chunk = self.ahead.popleft()
                if chunk in self.rows or chunk in self.reading or chunk in self.errors:
                    continue
                size = self.table.chunk_bytes(chunk)
                if not self._free(size, self.kept):
                    break
                self._reserve(chunk, size)
                return chunk
            self.running = False
            return None

    def read_ahead(self, chunk: int) -> None:
        """Read a chunk that has been reserved; what goes wrong is raised by `get` of that chunk."""
        try:
            self._read(chunk)
        except (DataError, MemoryError) as error:
            with self.changed:
                self.errors[chunk] = error

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.rows.clear()

    def _free(self, size: int, keep: frozenset[int]) -> bool:
        """Drop chunks, the longest unused first, until `size` more bytes fit; whether they do."""
        if self.used + size <= self.most:
            return True
        for chunk in [chunk for chunk in self.rows if chunk not in keep]:
            if self.used + size <= self.most:
                break
            self._drop(chunk)
        return self.used + size <= self.most

    def _drop(self, chunk: int) -> None:
        self.used -= self.table.chunk_bytes(chunk)
        del self.rows[chunk]

    def _reserve(self, chunk: int, size: int) -> None:
        self.reading.add(chunk)
        self.used += size
        self.peak = max(self.peak, self.used)

    def _read(self, chunk: int) -> np.ndarray:
        rows = None
        try:
            rows = self.table.chunk(chunk)
            return rows
        except (DataError, MemoryError):
            raise
        # In the thread nobody would see it: whatever it is becomes an error of the data.
        except Exception as error:
            what = f"{self.table.name} can no longer be read ({type(error).__name__}: {error})."
            raise DataError(what) from None
        finally:
            with self.changed:
                self.reading.discard(chunk)
                if rows is None or self.closed:
                    self.used -= self.table.chunk_bytes(chunk)
                else:
                    self.rows[chunk] = rows
                self.changed.notify_all()


def _read_ahead(state: _State) -> None:
    while (chunk := state.next()) is not None:
        state.read_ahead(chunk)
