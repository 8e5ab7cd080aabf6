"""Parquet: a table of numbers in one file, or in a folder of parts with one schema."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vaekit.data.bounds import refuse_bomb, size_of
from vaekit.data.raw import (
    LABEL_NAMES,
    are_classes,
    check_distinct,
    check_drop,
    check_left,
    encode_labels,
    find_name,
    listing,
    nearest,
)
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.stores import Sizes, Store
from vaekit.data.table import is_numeric, refuse_text, to_labels
from vaekit.errors import DataError


def parquet_store(path: Path, spec: DataSpec, sizes: Sizes | None = None) -> Store:
    """A .parquet file, or a folder of them in the order of their names; a chunk is a row group.

    Values are float32 where that holds every number of the columns' types (floats of up to 32 bits, integers of up to
    16), else float64; a missing value is NaN.

    Args:
        path: of the file or folder.
        spec: its label, and the columns to leave out.
        sizes: how large row groups may be; any size, without it.

    Raises:
        DataError: a file is damaged, or its columns are not those of the first, columns of text are neither the label
            nor dropped, there are no rows, or a row group is too large.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.suffix.lower() == ".parquet" and file.name[0] != ".")
    facts = [_facts(file) for file in paths]
    schema = facts[0][0]
    for file, (other, _) in zip(paths, facts, strict=True):
        _same_columns(schema, other, paths[0], file)
    columns = schema.names
    _check_names(columns, spec, path)
    groups = [(place, group) for place, (_, counts) in enumerate(facts) for group, n in enumerate(counts) if n]
    starts = np.cumsum([0, *(facts[place][1][group] for place, group in groups)])
    if starts[-1] == 0:
        raise DataError(f"{path} holds columns but no rows; at least three rows are needed.")
    refuse_bomb(path, sum(map(size_of, paths)), int(starts[-1]) * len(columns) * 8)
    label, dropped = spec.label, set(spec.drop)
    if label is None and (name := find_name((name for name in columns if name not in dropped), LABEL_NAMES)):
        label = name if are_classes(_labels(paths, name)) else None
    label = None if label == NO_LABEL else label
    kept = [name for name in columns if name != label and name not in dropped]
    check_left(kept, str(path))
    if text := [name for name in kept if not is_numeric(schema.field(name).type)]:
        first = paths[groups[0][0]]
        with _whole(first), _open(first, text[:1]) as file:
            head = next(file.iter_batches(100, columns=text[:1], use_threads=False))
            head.validate(full=True)
        refuse_text(head, path, text)
    dtype = np.result_type(*(_dtype(schema.field(name).type) for name in kept))
    labels, classes = None, None
    if label is not None:
        labels, classes = encode_labels(_labels(paths, label), f"{path}: the label")
    read = partial(_read, paths, groups, kept, dtype)
    store = Store(path.name, starts, (len(kept),), dtype, read, labels, tuple(kept), classes)
    if sizes is not None:
        _check_groups(store, path, sizes)
    return store


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a .parquet file, or of the first of a folder of them."""
    paths = sorted(file for file in path.iterdir() if file.suffix.lower() == ".parquet") if path.is_dir() else [path]
    return tuple(_facts(paths[0])[0].names)


def parquet_bytes(path: Path) -> int:
    """What the numbers of a .parquet file, or of a folder of them, would take in memory at most."""
    paths = [path]
    if path.is_dir():
        paths = [file for file in path.iterdir() if file.suffix.lower() == ".parquet"]
    facts = [_facts(file) for file in paths]
    kinds = [kind for kind in facts[0][0].types if is_numeric(kind)]
    width = np.result_type(*(_dtype(kind) for kind in kinds), np.float32).itemsize
    return sum(sum(counts) for _, counts in facts) * width * len(kinds)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises over a damaged file into one DataError."""
    try:
        yield
    except (MemoryError, DataError):  # Arrow's error of memory is a MemoryError
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(error).strip().splitlines()[0][:200].rstrip(".") if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} is truncated or damaged ({why}); expected a whole Parquet file: write it anew."
        ) from None


def _open(path: Path, repeated: Sequence[str] = ()) -> pq.ParquetFile:
    """repeated: columns of text, of which a text that many rows share is kept once."""
    if size_of(path) == 0:
        raise DataError(f"{path} is empty (0 bytes); expected a Parquet file (.parquet).")
    with _whole(path):
        return pq.ParquetFile(
            path,
            memory_map=False,
            pre_buffer=False,
            page_checksum_verification=True,
            read_dictionary=list(repeated),
        )


def _facts(path: Path) -> tuple[pa.Schema, list[int]]:
    """The columns of a file, and how many rows each of its row groups has."""
    with _open(path) as file, _whole(path):
        groups = file.metadata
        return file.schema_arrow, [groups.row_group(group).num_rows for group in range(groups.num_row_groups)]


def _read(paths: list[Path], groups: list[tuple[int, int]], kept: list[str], dtype: np.dtype, k: int) -> np.ndarray:
    place, group = groups[k]
    with _whole(paths[place]), _open(paths[place]) as file:
        table = file.read_row_group(group, columns=kept, use_threads=False)
        if len(table) != (said := file.metadata.row_group(group).num_rows):
            raise ValueError(f"a row group has {len(table)} rows, and {said} by the footer")
        values = np.empty((len(table), len(kept)), dtype)
        for column, name in enumerate(kept):
            values[:, column] = pc.cast(table[name], pa.float64(), safe=False).to_numpy()
    return values


def _labels(paths: Sequence[Path], name: str) -> np.ndarray:
    columns = []
    for path in paths:
        with _whole(path), _open(path, [name]) as file:
            columns += file.read(columns=[name], use_threads=False)[name].chunks
    with _whole(paths[0]):
        column = pa.chunked_array(columns)
        column.validate(full=True)  # of a dictionary, every number in it
        return to_labels(column, f"{paths[0]}: the label")


def _dtype(kind: pa.DataType) -> np.dtype:
    small = (
        pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    )
    if small or (pa.types.is_integer(kind) and kind.bit_width <= 16):
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def _same_columns(first: pa.Schema, other: pa.Schema, first_path: Path, path: Path) -> None:
    check_distinct(other.names, str(path))
    if other.names != first.names:
        odd = sorted(set(first.names) ^ set(other.names)) or other.names
        raise DataError(
            f"{path} has other columns than {first_path.name} ({listing(odd)}); the parts of a folder are one table "
            "and need the same columns in the same order: write them anew, or move what is not a part elsewhere."
        )
    for field, wanted in zip(other, first, strict=True):
        if field.type != wanted.type:
            raise DataError(
                f"{path}: its column {field.name!r} is of type {field.type}, and of type {wanted.type} in "
                f"{first_path.name}; the parts of a folder need the same types: write them anew."
            )


def _check_names(columns: Sequence[str], spec: DataSpec, path: Path) -> None:
    check_drop(spec.drop, columns, str(path))
    if spec.label not in (None, NO_LABEL, *columns):
        raise DataError(
            f"DataSpec.label names the column {spec.label!r}, which {path} does not have"
            f"{nearest(spec.label, columns)}; its columns are {listing(columns)}.",
            field="DataSpec.label",
            value=spec.label,
        )


def _check_groups(store: Store, path: Path, sizes: Sizes) -> None:
    largest = int(np.diff(store.starts).max())
    if largest * store.row_bytes > sizes.cache:
        fits = max(1, sizes.cache // store.row_bytes)
        raise DataError(
            f"{path} has a row group of {largest} rows, which is {largest * store.row_bytes / 1e9:.3g} GB of numbers, "
            f"and streaming holds a quarter of Limit.data_gb, {sizes.cache / 1e9:.3g} GB: write it anew with "
            f"row_group_size={min(fits, 100_000)}, or raise Limit.data_gb."
        )
