"""IDX, the format of MNIST: a magic number, big-endian sizes, then the values; plain or gzipped."""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from vaekit.data.bounds import check_shape, check_whole, refuse_bomb, size_of
from vaekit.data.columns import encode_labels
from vaekit.data.formats.npy import table_of
from vaekit.data.layout import how_to_read
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError
from vaekit.words import counted, plural

_BLOCK = 1 << 20  # values that are read at once
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The array of an IDX file, and the labels in the file that MNIST's naming puts beside it; read at once.

    Raises:
        DataError: A file is damaged, there is not one label for each row, or they are too large to be read whole.
    """
    check_whole(path, idx_bytes(path), sizes.whole)
    values = read_idx(path)
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if beside == path or not os.path.lexists(beside) or spec.label == NO_LABEL:
        if spec.label not in (None, NO_LABEL):
            raise DataError(
                f"DataSpec.label={spec.label} names labels, and {path} holds only one array: leave it out.",
                field="DataSpec.label",
                value=spec.label,
            )
        labels, classes = None, None
    else:
        with _open(beside) as (file, zipped):
            of_labels, _ = _read_header(file, beside, zipped)
        if of_labels != values.shape[:1]:
            raise DataError(
                f"{path}: the labels have shape {of_labels}, and there "
                f"{plural(len(values), 'is', 'are')} {counted(len(values), 'row')}; one label per row is needed."
            )
        labels, classes = encode_labels(read_idx(beside), f"{path}: the label")
    reading = how_to_read(values, spec.layout, f"{path}: the data")
    return table_of(path.name, reading.rows(values), reading, labels=labels, classes=classes)


def is_idx(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be IDX."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= 8


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file. Raises DataError unless the file is whole and its sizes are true."""
    with _open(path) as (file, zipped):
        return _parse(file, path, zipped)


def idx_bytes(path: Path) -> int:
    """What an IDX file takes in memory, by its header; raises DataError where the file is too short for it."""
    with _open(path) as (file, zipped):
        shape, dtype = _read_header(file, path, zipped)
    return math.prod(shape) * dtype.itemsize


@contextmanager
def _open(path: Path) -> Iterator[tuple[BufferedIOBase, bool]]:
    """The file's content, and whether it is zipped."""
    size_of(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            yield file, zipped
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}); expected a whole gzip file: fetch it anew."
        ) from None


def _parse(file: BufferedIOBase, path: Path, zipped: bool) -> np.ndarray:
    shape, dtype = _read_header(file, path, zipped)
    values = np.empty(math.prod(shape), dtype.newbyteorder("="))
    for start in range(0, len(values), _BLOCK):
        part = values[start : start + _BLOCK]
        part[:] = np.frombuffer(_exactly(file, part.nbytes, path), dtype)
    if file.read(1):
        raise DataError(f"{path}: there is data beyond the {shape} that its header says; fetch it anew.")
    return values.reshape(shape)


def _read_header(file: BufferedIOBase, path: Path, zipped: bool) -> tuple[tuple[int, ...], np.dtype]:
    head = file.read(4)
    if not is_idx(head):
        raise DataError(f"{path} is not an IDX file: it begins with the bytes {head.hex(' ') or '(none)'}.")
    sizes = np.frombuffer(_exactly(file, 4 * head[3], path), ">u4")
    shape = tuple(int(size) for size in sizes)
    dtype = np.dtype(TYPES[head[2]])
    check_shape(str(path), shape, dtype.itemsize)
    claimed = math.prod(shape) * dtype.itemsize
    stored = size_of(path)
    # The claim is judged before it is believed: gzip can shrink at most 1032 times.
    if claimed > stored * (1032 if zipped else 1):
        raise DataError(
            f"{path}: its header says {shape}, which is {counted(claimed, 'byte')}, but the file has {stored}: "
            "it is truncated, or its header is wrong; fetch it anew."
        )
    refuse_bomb(path, stored, claimed)
    return shape, dtype


def _exactly(file: BufferedIOBase, count: int, path: Path) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise DataError(f"{path} is truncated: its header says {count} bytes, of which {len(data)} are there.")
    return data
