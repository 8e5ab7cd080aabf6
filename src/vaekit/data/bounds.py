"""Checks of a file of data before any of it is read: that it is a regular file, and that it fits into memory."""

import math
import stat
from pathlib import Path

import numpy as np

from vaekit.errors import DataError

_MOST_DIMENSIONS = 32
LONGEST_LINE = 1 << 24  # characters of a line of text
BESIDE = 750_000_000  # bytes that what is made of data may take beside Limit.data_gb
MOST_COLUMNS = 100_000  # of text
MOST_SPARSE_COLUMNS = 1_000_000
MOST_TEXTS = 100_000  # different ones in a column
MOST_TEXT_BYTES = 100_000_000  # of these
MOST_TEXTS_IN_ALL = 1_000_000  # in all columns of a table

_SUSPECT_RATIO = 200
_SUSPECT_BYTES = 1 << 30
BYTES_PER_ROW = 24  # what shuffling and splitting take for each row, beside its values
_LABEL_BYTES = 1_000_000_000


def size_of(path: Path) -> int:
    """How many bytes a file of data has. A symbolic link is followed.

    Raises:
        DataError: It is no file of data, for one of the reasons that `why_not` gives.
        OSError: It is not there.
    """
    if why := why_not(path):
        raise DataError(f"{path} {why}.")
    return path.stat().st_size


def why_not(path: Path) -> str:
    """Why what is at a path is not read as data; empty where it may be.

    A device, a FIFO and the like are refused, and a sparse file, of which hardly anything is on disk.

    Raises:
        OSError: Nothing is there.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "is neither a file nor the name of a data set: give the path of a file"
    # some file systems do not say what is on disk, and give 0
    on_disk = getattr(facts, "st_blocks", 0) * 512
    if on_disk and facts.st_size > _SUSPECT_BYTES and facts.st_size > _SUSPECT_RATIO * on_disk:
        return (
            f"has {facts.st_size / 1e9:.1f} GB, of which {on_disk / 1e6:.3g} MB are on disk, and the rest is a hole "
            "that reads as zeros: write it anew, with the data"
        )
    return ""


def refuse_bomb(path: Path, stored: int, unpacked: int) -> None:
    """Raise DataError where a small file says that it unpacks to an enormous array."""
    if unpacked > _SUSPECT_BYTES and unpacked > _SUSPECT_RATIO * stored:
        raise DataError(
            f"{path} would unpack to {unpacked / 1e9:.1f} GB, {unpacked // max(stored, 1)} times its size, which "
            f"is refused above {_SUSPECT_RATIO} times; if the data is real, save it uncompressed."
        )


def check_shape(what: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise DataError where no array has such a shape: too many dimensions, or sizes beyond any computer's."""
    if len(shape) > _MOST_DIMENSIONS:
        raise DataError(
            f"{what} has {len(shape)} dimensions, and at most {_MOST_DIMENSIONS} are read: save it with fewer."
        )
    if min(shape, default=0) < 0 or math.prod(max(1, size) for size in shape) * itemsize >= 1 << 60:
        raise DataError(f"{what}: its header says shape {shape}, which no array has; save it anew.")


def check_whole(path: Path | str, size: float, most: float) -> None:
    """Raise DataError where a file that is read whole takes more than so many bytes of memory."""
    if size > most:
        raise DataError(
            f"{path} would take about {size / 1e9:.3g} GB in memory, which is more than Limit.data_gb={most / 1e9:g}, "
            "and such a file cannot be streamed: convert it to .npy or Parquet, or raise Limit.data_gb.",
            field="Limit.data_gb",
            value=most / 1e9,
        )


def check_rows(name: str, stored: int, made: int, most: float) -> None:
    """Raise DataError where data that cannot be streamed takes too much memory with what is made of it.

    Args:
        name: Of the data.
        stored: Bytes that it has as it is stored.
        made: Bytes that the rows have that a model sees.
        most: Bytes of Limit.data_gb, beside which 0.75 GB more are there.
    """
    if stored + made > most + BESIDE:
        raise DataError(
            f"{name} takes {stored / 1e9:.3g} GB in memory, and {made / 1e9:.3g} GB more as a model sees it, which is "
            f"more than Limit.data_gb={most / 1e9:g} and {BESIDE / 1e9:g} beside it, and such data cannot be streamed: "
            "convert it to .npy or Parquet, or raise Limit.data_gb.",
            field="Limit.data_gb",
            value=most / 1e9,
        )


def check_streamed(name: str, rows: int, row_numbers: int, cache: int) -> None:
    """Refuse data that streaming would need too much memory for: for one row, or for the order of all rows.

    Args:
        name: Of the data, for errors.
        rows: How many there are.
        row_numbers: How many numbers a row has.
        cache: Bytes of chunks that streaming may keep in memory, a quarter of Limit.data_gb.

    Raises:
        DataError: It is too much.
    """
    largest = max(cache, _SUSPECT_BYTES // 4)
    if 16 * row_numbers > largest:
        raise DataError(
            f"{name} has {row_numbers:,} numbers in each row, and streaming takes at most {largest // 16:,}, as "
            "Limit.data_gb says: make the rows smaller, or raise Limit.data_gb.",
            field="Limit.data_gb",
        )
    if BYTES_PER_ROW * rows > 4 * largest:
        raise DataError(
            f"{name} has {rows:,} rows, and streaming takes at most {4 * largest // BYTES_PER_ROW:,}, as "
            "Limit.data_gb says: give fewer rows, or raise Limit.data_gb.",
            field="Limit.data_gb",
        )


def check_chunks(name: str, starts: np.ndarray, row_bytes: int, cache: int) -> None:
    """Raise DataError where a chunk takes more than streaming may keep in memory.

    Args:
        name: Of the data.
        starts: (chunks + 1,) the row at which each chunk starts, and the number of rows.
        row_bytes: What a row takes.
        cache: Bytes of chunks that streaming may keep in memory.
    """
    largest = int(np.diff(starts).max())
    if largest > 1 and largest * row_bytes > cache:
        fits = max(1, cache // row_bytes)
        raise DataError(
            f"{name} has a row group of {largest} rows, which is {largest * row_bytes / 1e9:.3g} GB of numbers, "
            f"and streaming holds a quarter of Limit.data_gb, {cache / 1e9:.3g} GB: write it anew with "
            f"row_group_size={min(fits, 100_000)}, or raise Limit.data_gb.",
            field="Limit.data_gb",
        )


def check_labels(what: str, rows: int, longest: int) -> None:
    """Raise DataError where labels of text, the longest of so many characters, take too much memory."""
    if 4 * rows * longest > _LABEL_BYTES:
        raise DataError(
            f"{what} has texts of up to {longest:,} characters in {rows:,} rows, which are no names of classes: leave "
            "it out of the data, or write short labels."
        )
