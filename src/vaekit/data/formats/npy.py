"""NumPy's .npy: one array. Sizes in a header are checked against the file before anything is allocated; no pickles."""

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vaekit.data.bounds import check_shape, size_of
from vaekit.data.columns import numbered
from vaekit.data.layout import Reading, how_to_read
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table, even_starts
from vaekit.errors import DataError
from vaekit.words import counted, plural

_SAMPLE = 1000  # rows that are looked at to see what they are


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A .npy file of rows one after another, which are read a chunk at a time; in Fortran order, all at once.

    Raises:
        DataError: The header is damaged or does not fit the file, the array cannot be read as `spec.layout` says, or it
            is laid out column by column and too large to be read whole.
    """
    size = size_of(path)
    with path.open("rb") as file:
        shape, fortran, dtype = read_header(file, size, f"{path}")
        offset = file.tell()
    if spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names labels, and {path} holds only one array: leave DataSpec.label out, "
            "or save data and labels together with numpy.savez(file, X=..., y=...).",
            field="DataSpec.label",
            value=spec.label,
        )
    if (fortran and len(shape) > 1) or len(shape) < 2 or 0 in shape:
        if fortran and (size > sizes.whole or spec.stream == "always"):
            raise DataError(
                f"{path} is laid out column by column (Fortran order), and only rows can be streamed: save "
                "numpy.ascontiguousarray(x), or read it whole with DataSpec.stream=never."
            )
        with path.open("rb") as file:
            values = read_array(file, size, f"{path}")
        reading = how_to_read(values, spec.layout, f"{path}: the data")
        return table_of(path.name, reading.rows(values), reading)
    few = _read(path, shape[1:], dtype, offset, 0, min(_SAMPLE, shape[0]))
    reading = how_to_read(few, spec.layout, f"{path}: the data")
    first = reading.rows(few[:1])
    starts = even_starts(shape[0], first.nbytes, sizes.chunk)

    def read(chunk: int, picked: tuple[int, ...] | None = None) -> np.ndarray:
        rows = reading.rows(_read(path, shape[1:], dtype, offset, int(starts[chunk]), int(starts[chunk + 1])))
        return rows if picked is None else np.ascontiguousarray(rows[:, picked])

    columns = numbered(first.shape[1], first.dtype) if first.ndim == 2 else None
    return Table(path.name, starts, first.shape[1:], first.dtype, read, columns, axes=reading.axes)


def table_of(name: str, values: np.ndarray, reading: Reading, **facts: Any) -> Table:
    """Rows in memory that were read so, as a `Table`."""
    columns = numbered(values.shape[1], values.dtype) if values.ndim == 2 else None
    return Table.of(name, values, columns=columns, axes=reading.axes, **facts)


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int, start: int, stop: int) -> np.ndarray:
    width = math.prod(shape)
    try:
        # Read, not mapped: what a map has touched counts as memory of the process.
        values = np.fromfile(path, dtype, (stop - start) * width, offset=offset + start * width * dtype.itemsize)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(values) < (stop - start) * width:
        raise DataError(f"{path} ends in the rows from {start} on: it was cut short while in use; put it back.")
    return values.reshape(stop - start, *shape)


@runtime_checkable
class _File(Protocol):
    """What a plain file and a member of an archive have in common."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


def read_array(file: _File, size: int, what: str) -> np.ndarray:
    """The array in `file`, which is `size` bytes long."""
    read_header(file, size, what)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_header(file: _File, size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape of the array in a .npy file, whether it is in Fortran order, and dtype.

    Args:
        file: Which is left where the values begin.
        size: Bytes of the file.
        what: How the array is called in errors.

    Raises:
        DataError: The header is damaged, or does not fit the file.
    """
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header[version](file)
    # The header is a Python literal out of an unknown file: what a broken one raises cannot be listed.
    except Exception as error:
        raise DataError(
            f"{what} has a header that cannot be read ({type(error).__name__}); expected what numpy.save writes."
        ) from None
    if dtype.hasobject:
        raise DataError(
            f"{what} holds Python objects, which can run code when they are read, so they are not; "
            "convert with .astype(numpy.float32) before saving."
        )
    check_shape(what, shape, dtype.itemsize)
    claimed = math.prod(shape) * dtype.itemsize
    there = size - file.tell()
    if claimed != there:
        raise DataError(
            f"{what}: its header says shape {shape} of {dtype}, which is {counted(claimed, 'byte')}, but {there} "
            f"{plural(there, 'is', 'are')} there: it is truncated, or its header is wrong; save it anew."
        )
    return shape, fortran, dtype
