"""Sparse matrices of counts and ratings: their sizes and numbers are checked before they are read as rows."""

from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.bounds import MOST_SPARSE_COLUMNS, check_whole
from vaekit.data.formats.npz import npz_bytes, npz_names, read_named
from vaekit.data.in_memory import sparse_table
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError

_LAYOUTS = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "coo": ("row", "col")}
_BYTES_PER_ROW = 32  # what reading, shuffling and splitting take for each row, beside its values


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A sparse matrix as scipy.sparse.save_npz writes it, kept sparse; a chunk of rows is made dense as it is read.

    Raises:
        DataError: The file is damaged, its numbers are no sparse matrix, or it is too large to be kept in memory.
    """
    if spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names labels, and {path} holds only a matrix: leave DataSpec.label out.",
            field="DataSpec.label",
            value=spec.label,
        )
    size = npz_bytes(path)
    check_whole(path, size, sizes.whole)
    facts = read_named(path, ("format", "shape"))
    shape = facts["shape"]
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise DataError(f"{path}: its shape is {shape.dtype} of shape {shape.shape}; two integers are needed.")
    form = facts["format"]
    layout = form.item() if form.size == 1 and form.dtype.kind in "SU" else form
    layout = layout.decode("latin-1") if isinstance(layout, bytes) else str(layout)
    if layout not in _LAYOUTS:
        raise DataError(
            f"{path} is a sparse matrix in the format {layout[:20]!r}, and {', '.join(_LAYOUTS)} are read: save "
            "matrix.tocsr()."
        )
    rows, width = (int(number) for number in shape)
    needed = ("data", *_LAYOUTS[layout])
    if lacking := [name for name in needed if name not in npz_names(path)]:
        raise DataError(f"{path} lacks the array {lacking[0]!r} of a sparse matrix: save it anew, by scipy's save_npz.")
    check_sizes(path, rows, width, 2 * size, sizes.whole)  # twice, where it is not in rows
    arrays = read_named(path, needed)
    return sparse_table(path.name, compressed_rows(path, layout, (rows, width), *(arrays[name] for name in needed)))


def check_sizes(path: Path, rows: int, width: int, size: int, most: float) -> None:
    """Raise DataError where a sparse matrix would take too much memory, or has no rows or columns.

    Args:
        path: Of its file.
        rows: Of the matrix.
        width: How many columns it has.
        size: Bytes of its numbers in memory.
        most: Bytes that it may take.
    """
    if min(rows, width) < 1:
        raise DataError(f"{path} holds a matrix of shape ({rows}, {width}); rows and columns are needed.")
    if width > MOST_SPARSE_COLUMNS:
        raise DataError(
            f"{path} has {width:,} columns, and at most {MOST_SPARSE_COLUMNS:,} are read: leave out those that are "
            "hardly ever filled."
        )
    check_whole(path, size + _BYTES_PER_ROW * rows, most)


def compressed_rows(
    path: Path, layout: str, shape: tuple[int, int], data: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Any:
    """A sparse matrix of scipy in compressed rows, of arrays that come out of an unknown file.

    Args:
        path: Of the file, for errors.
        layout: Csr, csc or coo.
        shape: Of the matrix.
        data: Its numbers.
        first: Indices, or the rows.
        second: Indptr, or the columns.

    Raises:
        DataError: They do not make a matrix.
    """
    from scipy import sparse

    if data.ndim != 1 or data.dtype.kind not in "biuf":
        raise DataError(f"{path}: its numbers are {data.dtype} of shape {data.shape}; one array of numbers is needed.")
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    for places in (first, second):
        if places.ndim != 1 or places.dtype.kind not in "iu":
            raise DataError(f"{path}: its indices are {places.dtype} of shape {places.shape}, and not integers.")
    rows, width = shape
    if layout == "coo":
        wrong = len(first) != len(data) or len(second) != len(data) or _beyond(first, rows) or _beyond(second, width)
    else:
        major, minor = (rows, width) if layout == "csr" else (width, rows)
        starts = second.astype(np.int64)
        wrong = len(starts) != major + 1 or len(first) != len(data) or _beyond(first, minor)
        wrong = wrong or starts[0] != 0 or starts[-1] != len(data) or bool((np.diff(starts) < 0).any())
    if wrong:
        raise DataError(f"{path}: its indices are not those of a sparse matrix of shape {shape}: save it anew.")
    if layout == "coo":
        return sparse.coo_array((data, (first, second)), shape).tocsr()
    make = sparse.csr_array if layout == "csr" else sparse.csc_array
    matrix = make((data, first, second), shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def _beyond(places: np.ndarray, size: int) -> bool:
    return len(places) > 0 and (int(places.min()) < 0 or int(places.max()) >= size)
