# pyright: reportAttributeAccessIssue=false
"""Columns of Arrow as columns of a `Table`: numbers, and the numbers of categories."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vaekit.data.bounds import MOST_TEXT_BYTES, MOST_TEXTS
from vaekit.data.columns import check_distinct
from vaekit.data.table import Column, Table
from vaekit.errors import DataError

_BOOLEANS = ("False", "True")


def table_of_arrow(name: str, arrow: pa.Table, **facts: object) -> Table:
    """A table of Arrow in memory."""
    check_distinct(arrow.column_names, name)
    columns = tuple(column_of(field, categories_of(arrow[field.name])) for field in arrow.schema)
    values = np.empty((len(arrow), len(columns)), np.result_type(*(column.stored for column in columns)))
    for place, column in enumerate(columns):
        values[:, place] = cells_of(arrow[column.name], column)
    return Table.of(name, values, columns=columns, **facts)


def table_of_file(path: Path, arrow: pa.Table) -> Table:
    """A table that was read from a file; DataError where it has no rows or no columns."""
    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise DataError(f"{path} has {arrow.num_rows} rows and {arrow.num_columns} columns; some of both are needed.")
    return table_of_arrow(path.name, arrow)


def column_of(field: pa.Field, categories: Sequence[str] | None, stored: np.dtype | None = None) -> Column:
    """What a field of Arrow is; `categories` of text, `stored` the type that its numbers are read in."""
    kind = field.type
    if pa.types.is_boolean(kind):
        categories, dtype = _BOOLEANS, "bool"
    elif is_numeric(kind):
        dtype = (
            "float64" if pa.types.is_null(kind) or pa.types.is_decimal(kind) else str(kind.to_pandas_dtype().__name__)
        )
        dtype = dtype if field.metadata is None else field.metadata.get(b"dtype", dtype.encode()).decode()
    elif pa.types.is_dictionary(kind):
        dtype = "category"
    elif is_text(kind):
        dtype = "string"
    else:
        dtype = "datetime" if pa.types.is_temporal(kind) else "object"
    return Column(field.name, dtype, None if categories is None else tuple(categories), stored or stored_type(kind))


def stored_type(kind: pa.DataType) -> np.dtype:
    """float32 where that holds every number of a type (floats of up to 32 bits, integers of up to 16), else float64."""
    small = (
        pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    )
    if small or (pa.types.is_integer(kind) and kind.bit_width <= 16):
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def cells_of(cells: pa.ChunkedArray, column: Column) -> np.ndarray:
    """The cells of a column as numbers, (rows,) float64: NaN where one is missing, or is no number nor category."""
    kind = cells.type
    if is_numeric(kind):
        return pc.cast(cells, pa.float64(), safe=False).to_numpy()
    if column.categories is None:
        return np.full(len(cells), np.nan)
    if not is_text(kind):  # a number where a text was: of another file
        cells = pc.cast(cells, pa.string())
    return np.concatenate([_numbered(chunk, column.categories) for chunk in cells.chunks] or [np.empty(0)])


def _numbered(cells: pa.Array, categories: Sequence[str]) -> np.ndarray:
    """The numbers of the categories of texts; a text that a dictionary repeats is looked up once."""
    coded = pa.types.is_dictionary(cells.type)
    texts = _without_views(cells.dictionary if coded else cells)
    found = pc.cast(pc.index_in(texts, pa.array(categories, texts.type)), pa.float64()).to_numpy(zero_copy_only=False)
    if not coded:
        return found
    places = pc.cast(cells.indices, pa.float64()).to_numpy(zero_copy_only=False)
    known = ~np.isnan(places)
    numbers = np.full(len(cells), np.nan)
    numbers[known] = found[places[known].astype(np.int64)]
    return numbers


def _without_views(texts: pa.Array) -> pa.Array:
    """Texts that polars has as views, in which Arrow can neither look up nor take, as strings."""
    return pc.cast(texts, pa.large_string()) if pa.types.is_string_view(texts.type) else texts


def categories_of(cells: pa.ChunkedArray) -> tuple[str, ...] | None:
    """The different texts of a column, sorted; None of one that holds no text, or too many different ones."""
    if not is_text(cells.type):
        return None
    found: set[str] = set()
    for chunk in cells.chunks:
        if pa.types.is_dictionary(chunk.type):
            texts = _without_views(chunk.dictionary).take(pc.unique(chunk.indices).drop_null())
        else:
            texts = pc.unique(chunk)
        if len(texts) > MOST_TEXTS or texts.nbytes > MOST_TEXT_BYTES:
            return None
        found.update(texts.drop_null().to_pylist())
    return tuple(sorted(found)) if len(found) <= MOST_TEXTS else None


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return any(
        is_one(kind)
        for is_one in (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_null,
            pa.types.is_decimal,
        )
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
