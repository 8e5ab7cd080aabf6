"""Codes z for a decoder, in the files that `vaekit encode` writes, read with the checks of any other data."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaekit.data.arrays import npz_bytes, npz_names, read_named
from vaekit.data.open import open_source
from vaekit.data.raw import listing, unnamed
from vaekit.data.readers import CSV, NPZ, PARQUET, PARTS, kind_of
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.stores import Store
from vaekit.errors import DataError

LABEL = "label"
MEANS = ("mean", "z")  # arrays of a .npz file that hold codes
_ROWS = 4096  # of a block of what is in memory
_KNOWN = re.compile(r"row|label|scale\d+")  # columns that `encode` writes beside codes


@dataclass(frozen=True, eq=False)
class Codes:
    """z (rows, size) in a file, of which a block is in memory at a time if it is large.

    Attributes:
        labels: (rows,) what the file has for each row under that name, as text; None where there are none, or none
            wanted.
    """

    source: Source | Store
    picked: list[int] | None  # the columns z0, z1, ... among those of the source; None for all as they come
    path: Path
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.source.values) if isinstance(self.source, Source) else len(self.source)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in order, (n, size) float32, a block at a time.

        Raises:
            DataError: a value is not finite in single precision.
        """
        start = 0
        for values in self._stored():
            with np.errstate(over="ignore"):
                z = np.ascontiguousarray(values if self.picked is None else values[:, self.picked], dtype=np.float32)
            if (bad := ~np.isfinite(z)).any():
                row, column = map(int, np.argwhere(bad)[0])
                raise DataError(
                    f"{self.path} holds a value that is not finite in single precision, first in row {start + row} "
                    f"(counted from 0), z{column}: leave the row out, or fill it in"
                )
            yield z
            start += len(z)

    def _stored(self) -> Iterator[np.ndarray]:
        if isinstance(self.source, Store):
            yield from map(self.source.read, range(len(self.source.starts) - 1))
        else:
            for first in range(0, len(self.source.values), _ROWS):
                yield self.source.values[first : first + _ROWS]


def read_codes(path: Path, size: int, with_labels: bool = False) -> Codes:
    """The codes in a .npy, .npz, .csv or Parquet file, or in a folder of Parquet files.

    An archive's codes are its array `mean` or `z`, or its only one; a table's are its columns z0, z1, ..., wherever
    they stand, or all columns of one without names.

    Args:
        path: of the file.
        size: numbers in a code.
        with_labels: whether to read what is called `label`, too.

    Raises:
        DataError: the file cannot be read, is damaged, or holds something else.
    """
    limit = Limit()
    try:
        kind = kind_of(path)
        if kind == NPZ:
            codes = _of_archive(path, limit, with_labels)
        else:
            codes = _of_table(path, kind, size, limit, with_labels)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path} cannot be read: {why}; give a file of codes, as `vaekit encode` writes") from None
    found = codes.source
    shape = found.values.shape[1:] if isinstance(found, Source) else found.shape
    shape = shape if codes.picked is None else (len(codes.picked),)
    if shape != (size,) or len(codes) == 0:
        raise DataError(f"{path} holds {len(codes)} rows of shape {shape}, and this model's z needs rows of ({size},)")
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
        raise DataError(f"{path} holds {len(values)} codes and labels of shape {labels.shape}: give one for each row")
    return Codes(Source(path.name, values), None, path, None if labels is None else _as_text(labels))


def _of_table(path: Path, kind: str, size: int, limit: Limit, with_labels: bool) -> Codes:
    names = _columns(path, kind)
    if names is None or names == unnamed(names):
        return Codes(open_source(DataSpec(source=str(path.absolute())), limit), None, path, None)
    wanted = [f"z{i}" for i in range(size)]
    missing = [name for name in wanted if name not in names]
    more = [name for name in names if re.fullmatch(r"z\d+", name) and name not in wanted]
    if missing or more:
        what = f"lacks {listing(missing)}" if missing else f"has {listing(more)} besides"
        raise DataError(
            f"{path} {what}: the columns of a code of this model are {listing(wanted)}; it has {listing(names)}"
        )
    unknown = [name for name in names if name not in wanted and not _KNOWN.fullmatch(name)]
    if unknown:
        warnings.warn(
            f"{path} has columns that are no part of a code and are not used: {listing(unknown)}", stacklevel=2
        )
    label = LABEL if with_labels and LABEL in names else None
    others = tuple(name for name in names if name not in wanted and name != label)
    source = open_source(DataSpec(source=str(path.absolute()), label=label, drop=others), limit)
    columns = source.columns or ()
    labels = None
    if label is not None and source.labels is not None and source.classes is not None:
        labels = np.array(source.classes)[source.labels]
    return Codes(source, [columns.index(name) for name in wanted], path, labels)


def _columns(path: Path, kind: str) -> tuple[str, ...] | None:
    """The names of a table's columns; None for files of another kind."""
    if kind == CSV:
        from vaekit.data.table import column_names  # pyarrow takes a while to import

        return column_names(path)
    if kind in (PARQUET, PARTS):
        from vaekit.data.parquet import column_names

        return column_names(path)
    return None


def _as_text(labels: np.ndarray) -> np.ndarray:
    whole = labels.dtype.kind == "f" and np.all(labels == np.floor(labels))
    return (labels.astype(np.int64) if whole else labels).astype(str)
