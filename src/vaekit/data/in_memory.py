"""Data that a program has in memory already: arrays, tensors, data frames and torch data sets, as a `Dataset`."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vaekit.data.checks import check_cells, stored_support
from vaekit.data.context import LABEL, one_hot
from vaekit.data.dataset import Dataset
from vaekit.data.preprocessor import Preprocessor
from vaekit.data.scaling import Scaling
from vaekit.data.schema import Context, Schema
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.errors import DataError
from vaekit.randomness import split_generator

NAME = "the rows given"


def dataset_of(data: Any, spec: DataSpec, *, valid: Any = None, context: Any = None) -> Dataset:
    """Rows in memory as a data set, not scaled. The validation rows are its test rows, too.

    Args:
        data: (n, *shape) as an array, a tensor or a data frame; or a torch `Dataset`, whose items are rows x or pairs
            (x, label).
        spec: its support, the share of rows for validation, and the seed by which these are drawn.
        valid: rows for validation, of the same kind, or the share of `data` that is drawn for it, as 0.2; by default
            the share that `spec` says.
        context: what the model is conditioned on: (n,) labels, which become one-hot, or (n, width) numbers; of a torch
            `Dataset`, `"label"` takes the labels of its items. With `valid` given as an array, a pair of these.

    Raises:
        TypeError: data is a `DataLoader`, or a torch `Dataset` whose items are neither rows nor pairs.
        DataError: the rows are no numbers of one shape, or not finite, or too few.
    """
    if isinstance(valid, float):
        if not 0 < valid < 1:
            raise DataError(f"valid is {valid}: a share of the rows lies between 0 and 1, as 0.1")
        spec, valid = replace(spec, valid_fraction=valid), None
    by_label = isinstance(context, str) and context == LABEL
    of_train, of_valid = context if isinstance(context, tuple) and valid is not None else (context, None)
    x, labels, columns = _read(data)
    contexts = [labels if by_label else of_train]
    train, held = np.arange(len(x)), np.arange(0)
    if valid is not None:
        other, other_labels, _ = _read(valid)
        if other.shape[1:] != x.shape[1:] or len(other) == 0:
            raise DataError(f"the validation rows have shape {other.shape}, and the training rows {x.shape}")
        held = len(x) + np.arange(len(other))
        contexts += [other_labels if by_label else of_valid]
        x = np.concatenate([x, other])
    elif len(x) > 1:
        order = split_generator(spec.seed, 0).permutation(len(x))
        held, train = np.split(order, [max(1, round(spec.valid_fraction * len(x)))])
    if min(len(train), len(held)) == 0:
        raise DataError(f"there are {len(x)} rows; training and validation need at least one row each: add rows")
    given = None if context is None else _context(contexts, len(x))
    source = Source(NAME, np.ascontiguousarray(x), columns=columns, context=None if given is None else given[0])
    check_cells(source)
    stored = stored_support(source, spec)
    made = Preprocessor(source, spec, stored, Scaling(None, None, stored), None if given is None else given[1])
    schema = Schema(
        name=NAME,
        kind=source.kind,
        shape=x.shape[1:],
        support=stored,
        stored=stored,
        loc=None,
        scale=None,
        columns=columns,
        classes=None,
        fingerprint=source.fingerprint(),
        protocol=_protocol(len(train), len(held), spec.seed if valid is None else None),
        context=made.context,
    )
    kept = made.valid(held)
    return Dataset(schema, made.train(train), kept, kept)


def _protocol(train: int, valid: int, seed: int | None) -> str:
    how = "given" if seed is None else f"drawn without replacement, split seed {seed}"
    return f"rows in memory, not scaled: {train} for training; {valid} for validation and test, {how}"


def _read(data: Any) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """Rows (n, *shape), their labels (n,) if items are pairs, and the names of columns if there are some."""
    labels = columns = None
    if isinstance(data, DataLoader):
        raise TypeError("data is a DataLoader, whose rows come in batches: give the Dataset behind it, loader.dataset")
    if isinstance(data, TorchDataset):
        data, labels = _items(data)
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        columns, data = tuple(map(str, data.columns)), data.to_numpy()
    elif hasattr(data, "toarray"):
        data = data.toarray()
    x = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) == 0:
        raise DataError(f"the rows given are {x.dtype} of shape {x.shape}: give numbers of shape (n, ...), n > 0")
    return x, labels, columns


def array_of(data: Any) -> np.ndarray:
    """The rows of an array, a tensor, a data frame or a torch `Dataset`, (n, *shape), as `dataset_of` reads them.

    Args:
        data: rows x; of a torch `Dataset`, also pairs (x, label).

    Raises:
        TypeError, DataError: see `dataset_of`.
    """
    return _read(data)[0]


def _items(data: TorchDataset) -> tuple[np.ndarray, np.ndarray | None]:
    """All items of a torch data set: rows, and their labels where an item is a pair.

    Args:
        data: its items are rows x or pairs (x, label).

    Raises:
        TypeError: an item is neither.
        DataError: there is no item, or rows differ in shape.
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
        raise DataError(f"the {name} given has no items: give at least one row for training and one for validation")
    shapes = sorted({row.shape for row in rows})
    if len(shapes) != 1:
        raise DataError(f"the items of {name} have the shapes {shapes[:3]}: they should all have one")
    return np.stack(rows), np.stack(labels) if len(labels) == len(rows) else None


def _context(parts: list[Any], rows: int) -> tuple[np.ndarray, Context]:
    """The context of all rows, (n, width), and what it is."""
    if any(part is None for part in parts):
        raise DataError(
            "a context is missing: give one for the validation rows, too, as context=(of data, of valid), or data "
            "whose items are pairs (x, label)"
        )
    arrays = [part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts]
    values = np.concatenate(arrays)
    if len(values) != rows or values.ndim > 2:
        raise DataError(
            f"the context has shape {values.shape}: it should be (n,) labels or (n, width), with n = {rows}"
        )
    if values.ndim == 1:
        names, numbers = np.unique(values, return_inverse=True)
        width = len(names)
        return one_hot(numbers, width), Context("label", tuple(map(str, names)), (0.0,) * width, (1.0,) * width)
    width = values.shape[1]
    if values.dtype.kind not in "biuf" or not np.isfinite(values.astype(np.float64)).all():
        raise DataError("the context holds values that are no finite numbers: a context must be finite")
    names = tuple(f"context {i}" for i in range(width))
    return values.astype(np.float64), Context("columns", names, (0.0,) * width, (1.0,) * width)
