# pyright: reportAttributeAccessIssue=false
"""Rows as they were given, with values in their missing cells: the other cells are the same objects and bits."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit.data import Mixed, Rows, Schema, StreamedRows
from vaekit.data.in_memory import arrow_of, is_frame
from vaekit.data.layout import stored_order
from vaekit.uses.cells import CellFacts

_AT_A_TIME = 4096  # rows
# From values (m,) in stored units, NaN where there is none, to rows like those given.
Fill = Callable[[np.ndarray], Any]


def filling(data: Any, model_rows: Rows | StreamedRows, schema: Schema, rows: np.ndarray, cells: np.ndarray) -> Fill:
    """How values become part of rows as they were given.

    Args:
        data: The rows as they were given: an array or a tensor, a data frame or a table of Arrow, or the path of a
            .npy, .parquet or .feather file, whose other cells stay what they are; anything else is made from what the
            model sees, as reconstructions are.
        model_rows: The same rows, as the model takes them.
        schema: Of the rows that the model was trained on.
        rows: (m,) the row of each value.
        cells: (m,) its number in the row of x, which is flat.
    """
    if isinstance(data, str | Path):
        data = in_file(Path(data).expanduser())
    if data is not None and is_frame(data):
        return _of_table(arrow_of(data), schema, rows, cells)
    if isinstance(data, torch.Tensor | np.ndarray | list):
        array = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
        if array.dtype.kind == "f" and array.size == len(array) * int(np.prod(schema.shape)):
            return _of_array(array, schema, rows, cells)
    return _of_model(model_rows, schema, rows, cells)


def in_file(path: Path) -> Any:
    """The array in a .npy file, or the table in a .parquet or .feather file; None of other files."""
    ending = path.suffix.lower()
    if ending == ".npy":
        return np.load(path, allow_pickle=False)
    if ending in (".feather", ".arrow", ".ipc"):
        from pyarrow import feather

        return feather.read_table(path)
    if ending == ".parquet" and path.is_file():
        from pyarrow import parquet

        return parquet.read_table(path)
    return None


def _of_array(array: np.ndarray, schema: Schema, rows: np.ndarray, cells: np.ndarray) -> Fill:
    def fill(values: np.ndarray) -> np.ndarray:
        flat = np.full((len(array), int(np.prod(schema.shape))), np.nan)
        flat[rows, cells] = values
        filled = flat.reshape(len(array), *schema.shape)
        filled = filled if schema.axes is None else stored_order(filled, schema.axes)
        return np.where(np.isnan(array), filled.reshape(array.shape), array).astype(array.dtype)

    return fill


def _of_table(table: Any, schema: Schema, rows: np.ndarray, cells: np.ndarray) -> Fill:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = columns_in(table.column_names, schema)

    def fill(values: np.ndarray) -> Any:
        found = table
        for cell, name in enumerate(names):
            mine = cells == cell
            column = table[name]
            empty = pc.is_null(column, nan_is_null=True)
            if not mine.any() or not pc.any(empty).as_py():
                continue
            dense = np.full(len(table), np.nan)
            dense[rows[mine]] = values[mine]
            made, plain = as_arrow(schema, cell, dense), column.type
            if pa.types.is_dictionary(plain):
                plain = plain.value_type
            made, there = made.cast(plain, safe=False), column.cast(plain)
            joined = pc.if_else(empty, pa.chunked_array([made]), there)
            if pa.types.is_dictionary(column.type):
                joined = _coded(joined.combine_chunks(), column)
            found = found.set_column(table.column_names.index(name), table.schema.field(name), joined)
        return found

    return fill


def _coded(texts: Any, like: Any) -> Any:
    """Texts as a dictionary of a column's type: its own categories in their order, and then those that it lacks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = [chunk.dictionary for chunk in like.chunks]
    every = pc.unique(pa.concat_arrays([*known, pc.unique(texts)])).drop_null()
    return pa.DictionaryArray.from_arrays(pc.index_in(texts, every), every, ordered=like.type.ordered).cast(like.type)


def _of_model(model_rows: Rows | StreamedRows, schema: Schema, rows: np.ndarray, cells: np.ndarray) -> Fill:
    def fill(values: np.ndarray) -> Any:
        x = np.concatenate(list(x_filled(model_rows, schema, rows, cells, values)))
        return schema.to_table(x) if isinstance(schema.support, Mixed) else schema.to_array(x)

    return fill


def x_filled(
    model_rows: Rows | StreamedRows, schema: Schema, rows: np.ndarray, cells: np.ndarray, values: np.ndarray
) -> Iterator[np.ndarray]:
    """Rows as the model sees them, (n, *shape), with values in their missing cells, a block at a time.

    Args:
        model_rows: The rows.
        schema: Of the data that the model was trained on.
        rows: (m,) the row of each value, in rising order.
        cells: (m,) its number in the row of x, which is flat.
        values: (m,) in stored units.
    """
    facts = CellFacts(schema)
    for start in range(0, len(model_rows), _AT_A_TIME):
        block = slice(start, min(start + _AT_A_TIME, len(model_rows)))
        x = model_rows.batch(block).cpu().numpy().reshape(block.stop - start, -1).astype(np.float64)
        mine = slice(*np.searchsorted(rows, (start, block.stop)).tolist())
        x[rows[mine] - start, cells[mine]] = (values[mine] - facts.loc[cells[mine]]) / facts.scale[cells[mine]]
        yield x.reshape(len(x), *schema.shape)


def as_arrow(schema: Schema, cell: int, values: np.ndarray) -> Any:
    """Values of a column in stored units, NaN where there is none, as the source of the training data has them."""
    from vaekit.data.restoring import restored

    if schema.fields is None:
        return restored(values, "float64")
    field = schema.fields[cell]
    is_float = field.dtype.startswith("float")
    whole = is_float and (
        all(float(text).is_integer() for text in field.categories) if field.categories else field.decimals == 0
    )
    dtype = "int64" if whole else field.dtype  # integers with holes are stored as floats
    return restored(values, dtype, field.categories, field.decimals)


def columns_in(names: list[str], schema: Schema, label: str | None = None) -> list[str]:
    """Which columns of a table are those of x, by name, or, where they have other names, in their order.

    Args:
        names: Of the columns of the table.
        schema: Of the data that the model was trained on.
        label: The column that holds the labels, if there is one.
    """
    wanted = schema.columns or ()
    if set(wanted) <= set(names):
        return list(wanted)
    return [name for name in names if name != label][: len(wanted)]
