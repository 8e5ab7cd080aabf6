"""Parquet: a table in one file, or in a folder of parts with one schema."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaekit.data.bounds import MOST_TEXTS_IN_ALL, refuse_bomb, size_of
from vaekit.data.columns import check_distinct, listing
from vaekit.data.formats.arrow import cells_of, column_of, column_of_cells, is_named
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column, Sizes, Table
from vaekit.errors import DataError

_CELLS = 1 << 21  # that are decoded at once
_OPENED = 16  # files of a folder that stay open while columns of text are looked at
LARGEST_PAGE = 1 << 28  # bytes of a page that is unpacked
_PAGE_HEADER = 1 << 16  # bytes that the header of a page has at most
_UNPACKED = {"UNCOMPRESSED": 1, "SNAPPY": 32, "LZ4": 256, "GZIP": 1100, "ZSTD": 1 << 15}  # times its size, at most


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A .parquet file, or a folder of them in the order of their names; a chunk is a row group.

    Values are float32 where that holds every number of the columns' types (floats of up to 32 bits, integers of up to
    16), else float64; a missing value is NaN. Columns of text are read once, for their categories.

    Raises:
        DataError: A file is damaged, or its columns are not those of the first, or there are no rows.
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
    used = [field for field in schema if field.name not in spec.drop]
    for file in paths:
        _check_pages(file, [field.name for field in used], max(LARGEST_PAGE, sizes.cache))
    columns, notices = [], []
    total = 0
    texts = {field.name for field in used if is_named(field.type)}
    with ExitStack() as stack:  # a footer of many columns takes long to read
        files = {file: stack.enter_context(_open(file, sorted(texts))) for file in paths[:_OPENED]}
        for field in schema:
            column, notice = column_of(field, None), ""
            if field in used:
                cells = partial(_cells, paths, files if field.name in texts else {}, field.name)
                column, notice = column_of_cells(field, cells, spec)
            many = total + len(column.categories or ()) > MOST_TEXTS_IN_ALL
            column = replace(column, categories=None) if many else column
            total += len(column.categories or ())
            columns.append(column)
            notices += [notice] if notice else []
    dtype = np.result_type(*(column.stored for column in columns))

    def read(chunk: int, picked: Sequence[int] | None = None) -> np.ndarray:
        return _read(paths, groups, columns if picked is None else [columns[place] for place in picked], chunk)

    return Table(path.name, starts, (len(columns),), dtype, read, tuple(columns), notices=tuple(notices))


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
    except (pa.ArrowException, OSError, ValueError, LookupError, RecursionError) as error:
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
    texts = [column.name for column in columns if column.categories is not None and column.dtype != "bool"]
    with _whole(paths[place]), _open(paths[place], texts) as file:
        rows = file.metadata.row_group(group).num_rows
        values = np.empty((rows, len(columns)), np.result_type(*(column.stored for column in columns)))
        read = [at for at, column in enumerate(columns) if column.is_number or column.categories is not None]
        start = 0 if read else rows
        values[:, np.delete(np.arange(len(columns)), read)] = np.nan
        for batch in _batches(file, group, [columns[at].name for at in read]):
            part = values[start : start + len(batch)]
            for at in read if len(part) == len(batch) else ():
                part[:, at] = cells_of(pa.chunked_array([batch[columns[at].name]]), columns[at])
            start += len(batch)
        if start != rows:
            raise ValueError(f"a row group has {start} rows, and {rows} by the footer")
    return values


def _batches(file: pq.ParquetFile, group: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, some at a time, with some of its columns."""
    if names:
        each = max(1, _CELLS // len(names))
        yield from file.iter_batches(each, row_groups=[group], columns=list(names), use_threads=False)


def _check_pages(path: Path, names: Sequence[str], most: int) -> None:
    """Raise DataError where a page of a column, which is unpacked as one, takes more than so many bytes.

    By the headers of pages, which are what is unpacked by, unless what is packed is too little for such a page: what
    the footer says of unpacked sizes may be anything.
    """
    with _open(path) as parquet, _whole(path), path.open("rb") as file:
        facts = parquet.metadata
        used = set(names)
        leaves = [leaf for leaf in range(facts.num_columns) if facts.schema.column(leaf).path in used]
        for group in range(facts.num_row_groups):
            for leaf in leaves:
                chunk = facts.row_group(group).column(leaf)
                at, left = chunk.data_page_offset, chunk.total_compressed_size
                if left * _UNPACKED.get(chunk.compression, math.inf) <= most:
                    continue
                if 0 < (chunk.dictionary_page_offset or 0) < at:
                    at = chunk.dictionary_page_offset
                while left > 0:
                    file.seek(at)
                    unpacked, packed, header = _page_sizes(file.read(min(left, _PAGE_HEADER)))
                    if unpacked > most:
                        raise DataError(
                            f"{path} has a page of {unpacked / 1e9:.3g} GB in the column {chunk.path_in_schema!r}, and "
                            f"pages are unpacked whole: write it anew with row_group_size=100000."
                        )
                    at, left = at + header + packed, left - header - packed


def _page_sizes(content: bytes) -> tuple[int, int, int]:
    """Of a page: its bytes, those that it has packed, and those of its header, which is Thrift's compact protocol."""
    sizes, at = {}, 0

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            byte = content[at]
            found |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return found

    def skip(kind: int, depth: int) -> None:
        nonlocal at
        if kind == 3:  # a byte
            at += 1
        elif kind in (4, 5, 6):  # integers
            number()
        elif kind == 7:  # a float
            at += 8
        elif kind == 8:  # text
            length = number()
            at += length
        elif kind == 12:  # a record
            record(depth + 1)
        elif kind not in (1, 2):  # truth values, which have no bytes
            raise ValueError("a page has a header of unknown form")

    def record(depth: int) -> None:
        nonlocal at
        field = 0
        while (head := content[at]) != 0:
            at += 1
            field = field + (head >> 4) if head >> 4 else number() >> 1
            if depth == 0 and head & 15 == 5:
                value = number()
                sizes[field] = (value >> 1) ^ -(value & 1)
            else:
                skip(head & 15, depth)
        at += 1

    record(0)
    if sizes.get(2, -1) < 0 or sizes.get(3, -1) < 0:
        raise ValueError("a page has no sizes")
    return sizes[2], sizes[3], at


def _cells(paths: Sequence[Path], files: Mapping[Path, pq.ParquetFile], name: str) -> Iterator[pa.Array]:
    """The cells of a column in all files, some at a time; of texts, those that many rows share are kept once.

    Args:
        paths: Of the files.
        files: Those of them that are open for all columns of text.
        name: Of the column.
    """
    for path in paths:
        with _whole(path), nullcontext(files[path]) if path in files else _open(path, [name]) as file:
            for group in range(file.metadata.num_row_groups):
                for batch in _batches(file, group, [name]):
                    cells = batch[name]
                    cells.validate(full=True)  # of a dictionary, every number in it
                    yield cells


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
