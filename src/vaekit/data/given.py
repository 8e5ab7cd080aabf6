"""Rows in memory as a data set that reaches a model as it is given, for modules of one's own."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vaekit.data.columns import unnamed
from vaekit.data.context import one_hot
from vaekit.data.dataset import Dataset
from vaekit.data.in_memory import NAME, read_rows
from vaekit.data.part import Part
from vaekit.data.preprocessing import Preprocessor
from vaekit.data.roles import LABEL, Roles
from vaekit.data.rows import Rows
from vaekit.data.scaling import Scaling
from vaekit.data.scan import scan
from vaekit.data.schema import Context, Schema
from vaekit.data.spec import DataSpec
from vaekit.data.table import KINDS, Column, Table
from vaekit.errors import DataError
from vaekit.randomness import split_generator
from vaekit.words import counted, plural


def dataset_of(data: Any, spec: DataSpec, *, valid: Any = None, context: Any = None) -> Dataset:
    """Rows in memory as a data set, not scaled. The validation rows are its test rows, too.

    Args:
        data: (n, *shape) as an array, a tensor or a data frame; or a torch `Dataset`, whose items are rows x or pairs
            (x, label).
        spec: Its support, the share of rows for validation, and the seed by which these are drawn.
        valid: Rows for validation, of the same kind, or the share of `data` that is drawn for it, as 0.2; by default
            the share that `spec` says.
        context: What the model is conditioned on: (n,) labels, which become one-hot, or (n, width) numbers; of a torch
            `Dataset`, `"label"` takes the labels of its items. With `valid` given as an array, a pair of these.

    Raises:
        TypeError: Data is a `DataLoader`, or a torch `Dataset` whose items are neither rows nor pairs.
        DataError: The rows are no numbers of one shape, or not finite, or too few.
    """
    if isinstance(valid, float):
        if not 0 < valid < 1:
            raise DataError(
                f"valid is {valid}: a share of the rows lies between 0 and 1, as 0.1", field="valid", value=valid
            )
        spec, valid = replace(spec, valid_fraction=valid), None
    by_label = isinstance(context, str) and context == LABEL
    of_train, of_valid = context if isinstance(context, tuple) and valid is not None else (context, None)
    x, labels, columns = read_rows(data)
    contexts = [labels if by_label else of_train]
    train, held = np.arange(len(x)), np.arange(0)
    if valid is not None:
        other, other_labels, _ = read_rows(valid)
        if other.shape[1:] != x.shape[1:] or len(other) == 0:
            raise DataError(
                f"the validation rows have shape {other.shape}, and the training rows {x.shape}", field="valid"
            )
        held = len(x) + np.arange(len(other))
        contexts += [other_labels if by_label else of_valid]
        x = np.concatenate([x, other])
    elif len(x) > 1:
        order = split_generator(spec.seed, 0).permutation(len(x))
        held, train = np.split(order, [max(1, round(spec.valid_fraction * len(x)))])
    if min(len(train), len(held)) == 0:
        raise DataError(
            f"there {plural(len(x), 'is', 'are')} {counted(len(x), 'row')}; training and validation need at "
            "least one row each: add rows",
            field="data",
        )
    given = None if context is None else _context(contexts, len(x))
    x = np.ascontiguousarray(x)
    stored_columns = None
    if x.ndim == 2:
        stored_columns = tuple(
            Column(name, x.dtype.name, stored=x.dtype) for name in columns or unnamed(range(x.shape[1]))
        )
    table = Table.of(NAME, x, columns=stored_columns)
    roles = Roles(table)
    found = scan(roles, replace(spec, missing="refuse"), np.arange(0), np.arange(0))
    assert found.support is not None
    made = Preprocessor(roles, spec, found.support, Scaling(None, None, found.support))
    schema = Schema(
        name=NAME,
        kind=KINDS.get(x.ndim - 1, "image"),
        shape=x.shape[1:],
        support=found.support,
        stored=found.support,
        loc=None,
        scale=None,
        columns=columns,
        classes=None,
        fingerprint=found.fingerprint,
        protocol=_protocol(len(train), len(held), spec.seed if valid is None else None),
        context=None if given is None else given[1],
    )

    def rows(index: np.ndarray) -> Rows:
        context = None if given is None else given[1].scaled(given[0][index])
        return replace(made.valid(Part(x[index])), context=None if context is None else torch.from_numpy(context))

    return Dataset(schema, rows(train), (kept := rows(held)), kept)


def _protocol(train: int, valid: int, seed: int | None) -> str:
    how = "given" if seed is None else f"drawn without replacement, split seed {seed}"
    return f"rows in memory, not scaled: {train} for training; {valid} for validation and test, {how}"


def _context(parts: list[Any], rows: int) -> tuple[np.ndarray, Context]:
    """The context of all rows, (n, width), and what it is."""
    if any(part is None for part in parts):
        raise DataError(
            "a context is missing: give one for the validation rows, too, as context=(of data, of valid), or data "
            "whose items are pairs (x, label)",
            field="context",
        )
    arrays = [part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts]
    values = np.concatenate(arrays)
    if len(values) != rows or values.ndim > 2:
        raise DataError(
            f"the context has shape {values.shape}: it should be (n,) labels or (n, width), with n = {rows}",
            field="context",
        )
    if values.ndim == 1:
        names, numbers = np.unique(values, return_inverse=True)
        width = len(names)
        return one_hot(numbers, width), Context("label", tuple(map(str, names)), (0.0,) * width, (1.0,) * width)
    width = values.shape[1]
    if values.dtype.kind not in "biuf" or not np.isfinite(values.astype(np.float64)).all():
        raise DataError(
            "the context holds values that are no finite numbers: a context must be finite", field="context"
        )
    names = tuple(f"context {i}" for i in range(width))
    return values.astype(np.float64), Context("columns", names, (0.0,) * width, (1.0,) * width)
