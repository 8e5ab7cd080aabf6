"""Data that a program has in memory already: arrays, tensors, data frames, sparse matrices and torch data sets."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vaekit.data.columns import check_distinct, encode_labels, listing, numbered
from vaekit.data.layout import Axes, Reading, how_to_read
from vaekit.data.schema import Binary, Count, Real, Support
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Column, Table, even_starts
from vaekit.errors import DataError
from vaekit.words import counted

NAME = "the rows given"
_CHUNK = 4_000_000  # bytes of a sparse matrix that are made dense at once
_SIMPLE = (str, bool, int, float, np.bool_, np.integer, np.floating)  # cells of a data frame that a file could have


def table_of_rows(data: Any, spec: DataSpec, axes: Axes | None = None) -> Table:
    """Rows in memory as a `Table`.

    Args:
        data: (n, *shape) as an array, a tensor, a data frame of pandas or polars, a table of Arrow, or a sparse matrix
            of scipy or torch, whose rows are made dense a chunk at a time; a torch `Dataset`, whose items are rows x or
            pairs (x, label); or an iterator of chunks of rows, each any of these, which is read once.
        spec: Its layout and label.
        axes: Of an array, where they are known.

    Raises:
        TypeError: Data is a `DataLoader`, or a torch `Dataset` whose items are neither rows nor pairs.
        DataError: The rows are no numbers of one shape.
    """
    if isinstance(data, DataLoader):
        raise TypeError("data is a DataLoader, whose rows come in batches: give the Dataset behind it, loader.dataset")
    if isinstance(data, str | Path):
        raise DataError(
            f"the rows given are a text or a path, {str(data)!r}: a file is named by DataSpec.source",
            field="data",
            value=data,
        )
    if hasattr(data, "to_frame"):
        raise DataError(
            f"the rows given are a {type(data).__name__}, which is one column: give data.to_frame()", field="data"
        )
    if isinstance(data, Iterator):
        data = _joined(list(data))
    if is_frame(data):
        return _of_frame(data, spec)
    if isinstance(data, torch.Tensor) and data.layout != torch.strided:
        data = _as_scipy(data)
    if hasattr(data, "tocsr"):
        return _of_sparse(data)
    labels = None
    if isinstance(data, TorchDataset):
        data, labels = _items(data)
    values = _array(data)
    if values.dtype.kind not in "biuf" or values.ndim < 2 or len(values) == 0:
        raise DataError(
            f"the rows given are {values.dtype} of shape {values.shape}: numbers of shape (n, ...) are needed, n > 0",
            field="data",
        )
    if axes is not None and values.ndim != len(axes):
        axes = None
    reading = how_to_read(values, spec.layout, NAME) if axes is None else Reading(axes)
    rows = reading.rows(values)
    columns = numbered(rows.shape[1], rows.dtype) if rows.ndim == 2 else None
    classes = None
    if labels is not None and spec.label != NO_LABEL:
        labels, classes = encode_labels(labels, f"{NAME}: the label")
    return Table.of(NAME, rows, columns=columns, labels=labels, classes=classes, axes=reading.axes)


def array_of(data: Any) -> np.ndarray:
    """The rows of an array, a tensor, a data frame or a torch `Dataset`, (n, *shape), as they are.

    Args:
        data: Rows x; of a torch `Dataset`, also pairs (x, label).

    Raises:
        TypeError, DataError: see `table_of_rows`.
    """
    return read_rows(data)[0]


def read_rows(data: Any) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """Rows (n, *shape) as they are, their labels (n,) if items are pairs, and the names of columns, if any."""
    labels = columns = None
    if isinstance(data, DataLoader):
        raise TypeError("data is a DataLoader, whose rows come in batches: give the Dataset behind it, loader.dataset")
    if isinstance(data, TorchDataset):
        data, labels = _items(data)
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        columns, data = tuple(map(str, data.columns)), data.to_numpy()
    elif hasattr(data, "toarray"):
        data = data.toarray()
    x = _array(data)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) == 0:
        raise DataError(
            f"the rows given are {x.dtype} of shape {x.shape}: give numbers of shape (n, ...), n > 0", field="data"
        )
    return x, labels, columns


def _array(data: Any) -> np.ndarray:
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu().to_dense()
        return (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    if isinstance(data, np.ma.MaskedArray):
        return np.ma.filled(data.astype(np.float64), np.nan)
    try:
        return np.asarray(data)
    except ValueError:  # rows of several shapes
        raise DataError(
            f"the {type(data).__name__} given is no array of rows: they should all have one shape; chunks of rows are "
            "given by an iterator, iter(chunks)",
            field="data",
        ) from None


def _of_frame(frame: Any, spec: DataSpec) -> Table:
    """A data frame of pandas or polars, or a table of Arrow."""
    from vaekit.data.formats.arrow import table_of_arrow

    arrow = arrow_of(frame)
    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise DataError(
            f"the data frame has {counted(arrow.num_rows, 'row')} and {counted(arrow.num_columns, 'column')}"
            ": give some of both",
            field="data",
        )
    return table_of_arrow(NAME, arrow, spec)


def arrow_of(frame: Any) -> Any:
    """A data frame as a table of Arrow."""
    import pyarrow as pa

    try:
        if hasattr(frame, "iloc"):
            return _of_pandas(frame)
        as_arrow = isinstance(frame, pa.Table) or hasattr(frame, "__arrow_c_stream__")
        given = frame if as_arrow else dict(zip(map(str, frame.columns), frame.to_numpy().T, strict=True))
        return frame if isinstance(frame, pa.Table) else pa.table(given)
    except DataError:
        raise
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the data frame cannot be read: {str(error).splitlines()[0][:200]}", field="data") from None


def _of_pandas(frame: Any) -> Any:
    """A data frame of pandas as a table of Arrow, columns one by one where it cannot be read at once."""
    import pyarrow as pa

    levels = getattr(frame.columns, "nlevels", 1)
    if levels > 1:
        raise DataError(
            f"the names of the columns of the data frame have {levels} levels: make one of them, as "
            "frame.columns = ['_'.join(map(str, names)) for names in frame.columns]",
            field="data",
        )
    frame = frame.rename(columns=str)
    check_distinct(list(frame.columns), NAME)
    intervals = [name for name, kind in frame.dtypes.items() if hasattr(getattr(kind, "categories", None), "closed")]
    frame = frame.assign(**{name: frame[name].cat.rename_categories(str) for name in intervals})
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        found = [_of_series(name, frame[name]) for name in frame.columns]
        return pa.Table.from_arrays([cells for _, cells in found], schema=pa.schema([field for field, _ in found]))


def _of_series(name: str, column: Any) -> tuple[Any, Any]:
    """A column of a data frame of pandas as a field of Arrow and its cells; one of texts and numbers has texts.

    Raises:
        DataError: Its cells are something else.
    """
    import pyarrow as pa

    from vaekit.data.formats.arrow import MIXED

    column = column.sparse.to_dense() if str(column.dtype).startswith("Sparse") else column
    try:
        cells = pa.Array.from_pandas(column)
        return pa.field(name, cells.type), cells
    except (pa.ArrowException, TypeError, ValueError):
        pass
    missing = column.isna().to_numpy()
    cells = column.tolist()
    bad = (cell for cell, lacks in zip(cells, missing, strict=True) if not (lacks or isinstance(cell, _SIMPLE)))
    if (odd := next(bad, None)) is not None:
        raise DataError(
            f"the column {name!r} of the data frame holds a {type(odd).__name__}, {str(odd)[:60]!r}: give numbers, "
            "texts or truth values, or leave the column out",
            field="data",
            value=name,
        )
    texts = [None if lacks else str(cell) for cell, lacks in zip(cells, missing, strict=True)]
    return pa.field(name, pa.string(), metadata=MIXED), pa.array(texts, pa.string())


def _as_scipy(data: torch.Tensor) -> Any:
    """A sparse tensor (n, columns) as a sparse matrix of scipy; where that has none of its kind, as a dense one."""
    from scipy import sparse

    if data.dim() != 2 or data.dtype == torch.float16:
        return data.to_dense()
    entries = data.detach().cpu().to_sparse_coo().coalesce()
    (row, column), values = entries.indices().numpy(), entries.values()
    values = values.float() if values.dtype == torch.bfloat16 else values
    return sparse.csr_array((values.numpy(), (row, column)), tuple(data.shape))


def _of_sparse(matrix: Any) -> Table:
    """A sparse matrix of scipy, made dense a chunk at a time."""
    rows = matrix.tocsr()
    if rows.dtype.kind not in "biuf" or min(rows.shape) == 0:
        raise DataError(
            f"the sparse matrix is {rows.dtype} of shape {rows.shape}: give numbers, and some of them", field="data"
        )
    return sparse_table(NAME, rows)


def sparse_table(name: str, rows: Any, names: Sequence[str] | None = None, **facts: Any) -> Table:
    """A sparse matrix in compressed rows as a `Table`, whose chunks are made dense as they are read."""
    stored = np.dtype(np.uint8 if rows.dtype.kind == "b" else rows.dtype)
    width = rows.shape[1]
    starts = even_starts(rows.shape[0], width * stored.itemsize, _CHUNK)
    columns = numbered(width, stored)
    if names is not None:
        check_distinct(list(names), name)
        columns = tuple(Column(name, stored.name, stored=stored) for name in names)

    def read(chunk: int, picked: Sequence[int] | None = None) -> np.ndarray:
        part = rows[int(starts[chunk]) : int(starts[chunk + 1])]
        part = part if picked is None else part[:, list(picked)]
        return part.toarray().astype(stored, copy=False)

    facts = {"stored": _support(rows.data), **facts}
    return Table(name, starts, (width,), stored, read, columns, **facts)


def _support(numbers: np.ndarray) -> Support:
    """What the numbers of a sparse matrix are, besides its zeros: few matrices of so many columns are of many kinds."""
    if (numbers == 1).all():
        return Binary()
    return Count() if (numbers >= 0).all() and (numbers == np.floor(numbers)).all() else Real()


def is_frame(data: Any) -> bool:
    """Whether data is a data frame of pandas or polars, or a table of Arrow."""
    of_torch = isinstance(data, TorchDataset)
    return (hasattr(data, "columns") and not of_torch) or hasattr(data, "__arrow_c_stream__")


def _joined(chunks: list[Any]) -> Any:
    """Chunks of rows, one after another: frames as a table of Arrow, sparse matrices as one, all else as an array."""
    if not chunks:
        raise DataError("the iterator of chunks given has none: give at least one array (n, ...)", field="data")
    if all(map(is_frame, chunks)):
        import pyarrow as pa

        tables = [arrow_of(chunk) for chunk in chunks]
        for place, table in enumerate(tables):
            if odd := sorted(set(table.column_names) ^ set(tables[0].column_names)):
                raise DataError(
                    f"chunk {place} of those given has other columns than the first ({listing(odd)}): they should all "
                    "have the same",
                    field="data",
                )
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(
                f"the chunks given are no one table: {str(error).splitlines()[0][:200]}", field="data"
            ) from None
    if all(hasattr(chunk, "tocsr") for chunk in chunks):
        from scipy.sparse import vstack

        widths = sorted({chunk.shape[1] for chunk in chunks})
        if len(widths) != 1:
            raise DataError(
                f"the chunks given have {widths[0]} and {widths[1]} columns: they should all have as many", field="data"
            )
        return vstack(chunks, format="csr")
    parts = [_array(chunk) for chunk in chunks]
    if any(part.ndim == 0 for part in parts):
        raise DataError(
            "the iterator given yields single values, and not chunks of rows: give arrays (n, ...)", field="data"
        )
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) != 1:
        raise DataError(
            f"the chunks given have rows of the shapes {shapes[:3]}: they should all have one", field="data"
        )
    return np.concatenate(parts)


def _items(data: TorchDataset) -> tuple[np.ndarray, np.ndarray | None]:
    """All items of a torch data set: rows, and their labels where an item is a pair.

    Args:
        data: Its items are rows x or pairs (x, label).

    Raises:
        TypeError: An item is neither.
        DataError: There is no item, or rows differ in shape.
    """
    name = type(data).__name__
    items: Iterable[Any] = data if not hasattr(data, "__len__") else (data[i] for i in range(len(data)))  # pyright: ignore
    rows, labels = [], []
    for item in items:
        parts = item if isinstance(item, tuple | list) else (item,)
        if isinstance(item, dict) or not 1 <= len(parts) <= 2:
            what = "dicts" if isinstance(item, dict) else f"of {len(parts)} parts"
            raise TypeError(f"the items of {name} are {what}: they should be rows x or pairs (x, label)")
        row, *rest = parts
        rows += [np.asarray(row)]
        labels += [np.asarray(rest[0])] if rest else []
    if not rows:
        raise DataError(
            f"the {name} given has no items: give at least one row for training and one for validation", field="data"
        )
    shapes = sorted({row.shape for row in rows})
    if len(shapes) != 1:
        raise DataError(f"the items of {name} have the shapes {shapes[:3]}: they should all have one", field="data")
    return np.stack(rows), np.stack(labels) if len(labels) == len(rows) else None
