"""Parquet: a table in one file, or in a folder of parts with one schema."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaekit.data.bounds import MOST_TEXTS, refuse_bomb, size_of
from vaekit.data.columns import check_distinct, listing
from vaekit.data.formats.arrow import categories_of, cells_of, column_of, is_text
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column, Sizes, Table
from vaekit.errors import DataError


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A .parquet file, or a folder of them in the order of their names; a chunk is a row group.

    Values are float32 where that holds every number of the columns' types (floats of up to 32 bits, integers of up to
    16), else float64; a missing value is NaN. Columns of text are read once, for their categories.

    Raises:
        DataError: a file is damaged, or its columns are not those of the first, or there are no rows.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.suffix.lower() == ".parquet" and file.name[0] != ".")
    facts = [_facts(file) for file in paths]
    schema = facts[0][0]
    for file, (other, _) in zip(paths, facts, strict=True):
        _same_columns(schema, other, paths[0], file)
    groups = [(place, group) for place, (_, counts) in enumerate(facts) for group, n in enumerate(counts) if n]
    starts = np.cumsum([0, *(facts[place][1][group] for place, group in groups)])
    if starts[-1] == 0:
        raise DataError(f"{path} holds columns but no rows; at least three rows are needed.")
    refuse_bomb(path, sum(map(size_of, paths)), int(starts[-1]) * len(schema.names) * 8)
    unused = set(spec.drop)
    texts = {
        field.name: _categories(paths, field.name)
        for field in schema
        if field.name not in unused
        if is_text(field.type)
    }
    columns = tuple(column_of(field, texts.get(field.name)) for field in schema)
    dtype = np.result_type(*(column.stored for column in columns))

    def read(chunk: int, picked: Sequence[int] | None = None) -> np.ndarray:
        return _read(paths, groups, columns if picked is None else [columns[place] for place in picked], chunk)

    return Table(path.name, starts, (len(columns),), dtype, read, columns)


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a .parquet file, or of the first of a folder of them."""
    paths = sorted(file for file in path.iterdir() if file.suffix.lower() == ".parquet") if path.is_dir() else [path]
    return tuple(_facts(paths[0])[0].names)


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


def _read(paths: list[Path], groups: list[tuple[int, int]], columns: Sequence[Column], chunk: int) -> np.ndarray:
    place, group = groups[chunk]
    names = [column.name for column in columns]
    texts = [column.name for column in columns if column.categories is not None and column.dtype != "bool"]
    with _whole(paths[place]), _open(paths[place], texts) as file:
        table = file.read_row_group(group, columns=names, use_threads=False)
        if len(table) != (said := file.metadata.row_group(group).num_rows):
            raise ValueError(f"a row group has {len(table)} rows, and {said} by the footer")
        values = np.empty((len(table), len(columns)), np.result_type(*(column.stored for column in columns)))
        for at, column in enumerate(columns):
            values[:, at] = cells_of(table[column.name], column)
    return values


def _categories(paths: Sequence[Path], name: str) -> tuple[str, ...] | None:
    """The different texts of a column in all files, read a row group at a time; see `categories_of`."""
    found: set[str] = set()
    for path in paths:
        with _whole(path), _open(path, [name]) as file:
            for group in range(file.metadata.num_row_groups):
                cells = file.read_row_group(group, columns=[name], use_threads=False)[name]
                cells.validate(full=True)  # of a dictionary, every number in it
                here = categories_of(cells)
                if here is None:
                    return None
                found.update(here)
                if len(found) > MOST_TEXTS:
                    return None
    return tuple(sorted(found))


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
