"""Codes z for a decoder, in the files that `vaekit encode` writes, read with the checks of any other data."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaekit.data.columns import listing, unnamed
from vaekit.data.formats.npz import npz_bytes, npz_names, read_named
from vaekit.data.open import NPZ, format_of, open_table
from vaekit.data.spec import NO_LABEL, DataSpec, Limit
from vaekit.data.table import Table
from vaekit.errors import DataError
from vaekit.words import counted

LABEL = "label"
MEANS = ("mean", "z")  # arrays of a .npz file that hold codes
_ROWS = 4096  # of a block of what is in memory
_KNOWN = re.compile(r"row|name|label|scale\d+")  # columns that `encode` writes beside codes


@dataclass(frozen=True, eq=False)
class Codes:
    """z (rows, size) in a file, of which a block is in memory at a time if it is large.

    Attributes:
        labels: (rows,) what the file has for each row under that name, as text; None where there are none, or none
            wanted.
    """

    table: Table
    path: Path
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.table)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in order, (n, size) float32, a block at a time.

        Raises:
            DataError: A value is not finite in single precision.
        """
        start = 0
        for values in self._stored():
            with np.errstate(over="ignore"):
                z = np.ascontiguousarray(values, dtype=np.float32)
            if (bad := ~np.isfinite(z)).any():
                row, column = map(int, np.argwhere(bad)[0])
                raise DataError(
                    f"{self.path} holds a value that is not finite in single precision, first in row {start + row} "
                    f"(counted from 0), z{column}: leave the row out, or fill it in"
                )
            yield z
            start += len(z)

    def _stored(self) -> Iterator[np.ndarray]:
        for chunk in range(self.table.chunks):
            values = self.table.chunk(chunk)
            for first in range(0, len(values), _ROWS):
                yield values[first : first + _ROWS]


def read_codes(path: Path, size: int, with_labels: bool = False) -> Codes:
    """The codes in a .npy, .npz, .csv or Parquet file, or in a folder of Parquet files.

    An archive's codes are its array `mean` or `z`, or its only one; a table's are its columns z0, z1, ..., wherever
    they stand, or all columns of one without names.

    Args:
        path: Of the file.
        size: Numbers in a code.
        with_labels: Whether to read what is called `label`, too.

    Raises:
        DataError: The file cannot be read, is damaged, or holds something else.
    """
    limit = Limit()
    try:
        if format_of(path) is NPZ:
            codes = _of_archive(path, limit, with_labels)
        else:
            codes = _of_table(path, size, limit, with_labels)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path} cannot be read: {why}; give a file of codes, as `vaekit encode` writes") from None
    if codes.table.shape != (size,) or len(codes) == 0:
        raise DataError(
            f"{path} holds {counted(len(codes), 'row')} of shape {codes.table.shape}, and this model's z needs "
            f"rows of ({size},)"
        )
    for _ in codes.blocks():  # what cannot be decoded is found before anything is
        pass
    return codes


def _of_archive(path: Path, limit: Limit, with_labels: bool) -> Codes:
    size, most = npz_bytes(path), limit.data_gb * 1e9
    if size > most:
        raise DataError(
            f"{path} would take {size / 1e9:.3g} GB in memory, and at most {most / 1e9:.3g} GB are read at once: give "
            "the codes as .npy or .parquet, which are read in parts"
        )
    names = npz_names(path)
    name = next((name for name in MEANS if name in names), names[0] if len(names) == 1 else None)
    if name is None:
        raise DataError(f"{path} holds the arrays {listing(names) or '(none)'}: call the one with codes mean or z")
    found = read_named(path, (name, LABEL) if with_labels else (name,))
    values = found[name]
    if values.dtype.kind not in "biuf" or values.ndim != 2:
        raise DataError(
            f"{path}: the array {name} is {values.dtype} of shape {values.shape}, and codes are a table of "
            "real numbers, (rows, size)"
        )
    labels = found.get(LABEL)
    if labels is not None and labels.shape != values.shape[:1]:
        raise DataError(
            f"{path} holds {counted(len(values), 'code')} and labels of shape {labels.shape}: give one for each row"
        )
    return Codes(Table.of(path.name, values), path, None if labels is None else _as_text(labels))


def _of_table(path: Path, size: int, limit: Limit, with_labels: bool) -> Codes:
    table = open_table(DataSpec(source=str(path.absolute()), label=NO_LABEL), limit)
    names = table.names
    if names is None or names == unnamed(names):
        return Codes(table, path, None)
    wanted = [f"z{i}" for i in range(size)]
    missing = [name for name in wanted if name not in names]
    more = [name for name in names if re.fullmatch(r"z\d+", name) and name not in wanted]
    if missing or more:
        what = f"lacks {listing(missing)}" if missing else f"has {listing(more)} besides"
        raise DataError(
            f"{path} {what}: the columns of a code of this model are {listing(wanted)}; it has {listing(names)}"
        )
    columns = {column.name: column for column in table.columns or ()}
    if text := [name for name in wanted if not columns[name].is_number]:
        raise DataError(f"{path}: the column {text[0]} holds text, and codes are numbers: correct its cells")
    unknown = [name for name in names if name not in wanted and not _KNOWN.fullmatch(name)]
    if unknown:
        warnings.warn(
            f"{path} has columns that are no part of a code and are not used: {listing(unknown)}", stacklevel=2
        )
    labels = None
    if with_labels and LABEL in names:
        place = names.index(LABEL)
        cells, categories = table.column(place), (table.columns or ())[place].categories
        known = np.where(np.isnan(cells), -1, cells).astype(np.int64)
        labels = _as_text(cells) if categories is None else np.array([*categories, ""])[known]
    return Codes(table.pick([names.index(name) for name in wanted]), path, labels)


def _as_text(labels: np.ndarray) -> np.ndarray:
    whole = labels.dtype.kind == "f" and np.all(labels == np.floor(labels))
    return (labels.astype(np.int64) if whole else labels).astype(str)
