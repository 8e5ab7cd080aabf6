"""From a spec to three splits of rows and the schema that describes them."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from vaekit.data.checks import check_cells, stored_support
from vaekit.data.context import LABEL, fit_context, one_hot, take_context
from vaekit.data.open import open_source
from vaekit.data.preprocessor import TEST_SEED, Preprocessor
from vaekit.data.raw import listing, unnamed
from vaekit.data.rows import Rows
from vaekit.data.scaling import Scaling, choose_scale, fit_scaling
from vaekit.data.scan import scan_store
from vaekit.data.schema import Binary, Levels, Schema, Support
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.split import split_rows, split_streamed
from vaekit.data.stores import Sizes, Store
from vaekit.data.streamed import StreamedRows
from vaekit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for a model. Validation and test rows are always in memory."""

    schema: Schema
    train: Rows | StreamedRows
    valid: Rows
    test: Rows


Kind = Literal["image", "table"]


def prepare(spec: DataSpec, limit: Limit, *, discrete: bool | Callable[[Support, Kind], bool] = True) -> Dataset:
    """Read, check, split, scale and binarise a data set, as `spec` says; the same call gives the same rows.

    Args:
        spec: where the data is, and how it is read, split and scaled.
        limit: how many training and validation rows are kept, and how large data may be before it is streamed.
        discrete: whether the likelihood is one of integers, so that levels may stay what they are; for a continuous one
            (discrete=False) they are divided by the highest level, unless `spec.scale` says otherwise. Where that
            depends on the data, a function of the stored support and the kind.

    Raises:
        ConfigError: settings contradict each other or the data.
        DataError: the data is at fault.
    """
    if spec.missing == "mask":
        raise ConfigError(
            "DataSpec.missing=mask is not available in this version, which cannot yet leave missing cells out of the "
            "likelihood: use DataSpec.missing=refuse, and drop or fill what is missing.",
            field="DataSpec.missing",
            value=spec.missing,
        )
    source = open_source(spec, limit)
    if isinstance(source, Store):
        return _prepare_streamed(source, spec, limit, discrete)
    fingerprint, source = source.fingerprint(), take_context(source, spec.context)
    check_cells(source)
    stored = stored_support(source, spec)
    how = choose_scale(spec, stored, discrete if isinstance(discrete, bool) else discrete(stored, source.kind))
    split = split_rows(source, spec, limit)
    scaling = Scaling(None, None, Binary())
    if spec.binarise == "none":
        scaling = fit_scaling(how, stored, source.values[split.train], source)
    preprocessor = Preprocessor(source, spec, stored, scaling, fit_context(source, split.train))
    schema = _schema(source, preprocessor, fingerprint, split.protocol)
    return Dataset(
        schema, preprocessor.train(split.train), preprocessor.valid(split.valid), preprocessor.test(split.test)
    )


def _prepare_streamed(
    store: Store, spec: DataSpec, limit: Limit, discrete: bool | Callable[[Support, Kind], bool]
) -> Dataset:
    """As `prepare`, of data on disk: a scaling is fitted on all training rows, or on those read into memory."""
    if spec.context not in ((), (LABEL,)):
        raise ConfigError(
            f"DataSpec.context={list(spec.context)} needs data in memory: raise Limit.data_gb, or use label",
            field="DataSpec.context",
            value=spec.context,
        )
    split = split_streamed(store.name, len(store), store.row_bytes, spec, limit)
    train = np.arange(0) if split.train is None else split.train
    wanted = np.concatenate([train, split.valid, split.test])
    levels = store.dtype == np.uint8 and len(store.shape) == 3
    fitted = spec.binarise == "none" and (spec.scale == "standard" or (spec.scale == "auto" and not levels))
    found = scan_store(store, spec, wanted, split.out, moments=fitted and split.train is None)
    kept = discrete if isinstance(discrete, bool) else discrete(found.stored, store.kind)
    how = choose_scale(spec, found.stored, kept)
    # Of rows in memory, in the order of `wanted`.
    labels = None if store.labels is None else store.labels[wanted]
    source = replace(store.part(found.rows, None), labels=labels, classes=store.classes)
    indices = np.split(np.arange(len(wanted)), [len(train), len(train) + len(split.valid)])
    scaling = Scaling(None, None, Binary())
    if spec.binarise == "none":
        scaling = fit_scaling(how, found.stored, found.moments or source.values[indices[0]], source)
    source = take_context(source, spec.context)
    preprocessor = Preprocessor(source, spec, found.stored, scaling, fit_context(source, indices[0]))
    schema = _schema(store, preprocessor, found.fingerprint, split.protocol)
    rows = preprocessor.train(indices[0])
    if split.train is None:
        rows = StreamedRows.of(store, split.out, _maker(store, preprocessor, "train"), Sizes.of(limit))
        rows = replace(rows, classes=len(store.classes or ()) if spec.context else 0)
        rows = rows if limit.train is None else rows.take(limit.train)
    return Dataset(schema, rows, preprocessor.valid(indices[1]), preprocessor.test(indices[2]))


def read_like(source: str, spec: DataSpec, schema: Schema, limit: Limit) -> Rows | StreamedRows:
    """The rows of another source (its own test rows, where it has any), as a model trained on `schema` sees them.

    Nothing is fitted: the support, the scaling and the classes are those of `schema`, the binarisation is `spec`'s.

    Args:
        source: its name or path.
        spec: of the run's own data.
        schema: of the run's own data.
        limit: how large the source may be before it is streamed.

    Raises:
        DataError: the rows are of another shape, have other columns, or break the support.
    """
    # What is set for the run's own data need not be possible for this.
    spec = replace(spec, source=source, stream="never" if spec.stream == "never" else "auto")
    if not os.path.isdir(os.path.expanduser(source)):
        spec = replace(spec, image_size=None, bad_files="refuse")
    other, by_label = open_source(spec, limit), spec.context == (LABEL,)
    if not by_label and spec.context:
        if isinstance(other, Store):
            raise DataError(
                f"{other.name} is too large to be read whole, as DataSpec.context={list(spec.context)} needs: raise "
                "Limit.data_gb, or give fewer rows."
            )
        try:
            other = take_context(other, spec.context)
        except ConfigError as error:
            raise DataError(str(error), field=error.field, value=error.value) from None
    return _like(other, spec, schema, limit)


def rows_like(values: Any, spec: DataSpec, schema: Schema, context: Any = None) -> Rows:
    """Rows as they are stored, in an array, a tensor or a data frame, as a model trained on `schema` sees them.

    Args:
        values: (n, *shape), in the units of the source; of a data frame, the columns that the model knows, by name.
            Where the model's data was binarised, rows of zeros and ones are taken as binarised already.
        spec: of the run's own data.
        schema: of the run's own data.
        context: (n,) labels, by name or number, or (n, width) columns as they are stored, where the model takes a
            context.

    Raises:
        DataError: they are of another shape or break the support.
    """
    array = _as_array(values, schema.columns)
    if array.ndim == 3 and schema.shape[:1] == (1,) and len(schema.shape) == 3:
        array = array[:, None]
    source = Source("the rows given", array, columns=schema.columns)
    plain = replace(spec, context=(), source=None)
    if spec.binarise != "none" and np.isin(array, (0, 1)).all():
        plain, schema = replace(plain, binarise="none"), replace(schema, stored=Binary(), loc=None, scale=None)
    rows = _like(source, plain, schema, Limit())
    assert isinstance(rows, Rows)
    return replace(rows, context=context_like(context, schema, len(rows)))


def _as_array(values: Any, columns: tuple[str, ...] | None) -> np.ndarray:
    """What was given as an array of numbers."""
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        missing = [name for name in columns or () if name not in list(values.columns)]
        if missing:
            raise DataError(f"the rows given lack the columns {listing(missing)}, which the model was trained on")
        values = (values[list(columns)] if columns else values).to_numpy()
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or len(array) == 0:
        raise DataError(
            f"the rows given are {array.dtype} of shape {array.shape}: numbers of shape (n, ...) are needed, n > 0"
        )
    return array


def context_like(context: Any, schema: Schema, rows: int) -> torch.Tensor | None:
    """A context (rows, width) as the model takes it, from one as it is stored; see `rows_like`."""
    wanted = schema.context
    if wanted is None and context is None:
        return None
    given = None if context is None else np.asarray(context)
    shape = (rows,) if wanted is None or wanted.kind == "label" else (rows, len(wanted.names))
    if wanted is None or given is None or given.shape != shape:
        raise DataError(
            f"the context given has shape {None if given is None else given.shape}, and the model takes "
            + ("none" if wanted is None else f"{wanted.kind} of shape {shape}: {listing(wanted.names)}")
        )
    if wanted.kind == "columns":
        return torch.from_numpy(wanted.scaled(given))
    if given.dtype.kind in "iu":
        return torch.from_numpy(one_hot(given, len(wanted.names)))
    numbers = {name: number for number, name in enumerate(wanted.names)}
    return torch.from_numpy(one_hot(np.array([numbers.get(str(name), -1) for name in given]), len(numbers)))


def _like(other: Source | Store, spec: DataSpec, schema: Schema, limit: Limit) -> Rows | StreamedRows:
    """The rows of a source that is open, as a model trained on `schema` sees them."""
    by_label = spec.context == (LABEL,)
    shape = other.shape if isinstance(other, Store) else other.values.shape[1:]
    if shape != schema.shape:
        raise DataError(
            f"{other.name}: rows of shape {shape}, and the model was trained on {schema.name} with rows of shape "
            f"{schema.shape}: give data of that shape."
        )
    other = _in_order(other, schema)
    levels = schema.stored.count if isinstance(schema.stored, Levels) else None
    declared = replace(spec, support=schema.stored.kind, levels=levels)
    scaling = Scaling(schema.loc, schema.scale, schema.support)
    if isinstance(other, Store):
        nothing = np.arange(0)
        stored = scan_store(other, declared, nothing, nothing, moments=False).stored
        preprocessor = Preprocessor(other.part(np.empty((0, *shape), other.dtype)), spec, stored, scaling)
        if spec.binarise == "dynamic":
            raise DataError(
                f"{other.name} is too large to be binarised once and for all, as DataSpec.binarise=dynamic needs for "
                "rows that are not trained on: raise Limit.data_gb, or give fewer rows."
            )
        rows = StreamedRows.of(other, nothing, _maker(other, preprocessor, "test"), Sizes.of(limit))
    else:
        check_cells(other)
        preprocessor = Preprocessor(
            other, spec, stored_support(other, declared), scaling, None if by_label else schema.context
        )
        rows = preprocessor.test(np.arange(other.train_rows if other.test_rows else 0, len(other.values)))
    rows = replace(
        rows,
        labels=_relabelled(rows.labels, other.classes, schema.classes),
        protocol=_protocol_of_other(other, spec, schema, len(rows)),
    )
    return _with_labels(rows, other, schema.context.names) if by_label and schema.context else rows


def _protocol_of_other(other: Source | Store, spec: DataSpec, schema: Schema, rows: int) -> str:
    """Which rows of another source were read, and what was done to them."""
    which = "the test set" if isinstance(other, Source) and other.test_rows else "all rows"
    parts = [f"{which} of {other.name}, {rows} rows, none of them split off"]
    if spec.binarise == "dynamic":
        parts += [f"binarised once, RandomState({TEST_SEED})"]
    elif spec.binarise == "threshold":
        parts += ["binarised by a threshold at one half"]
    elif schema.scale is not None:
        parts += [f"scaled as the training rows of {schema.name} were"]
    return "; ".join([other.note, *parts] if other.note else parts)


def _in_order(other: Source | Store, schema: Schema) -> Source | Store:
    """A table with its columns in the model's order; columns without names of their own are taken as they come."""
    ours, theirs = schema.columns, other.columns
    if (
        ours is None
        or theirs is None
        or ours == theirs
        or any(columns == unnamed(columns) for columns in (ours, theirs))
    ):
        return other
    if set(ours) != set(theirs) or isinstance(other, Store):
        raise DataError(
            f"{other.name} has the columns {listing(theirs)}, and the model was trained on {schema.name} with "
            f"{listing(ours)}: give them those names{', in that order' if isinstance(other, Store) else ''}."
        )
    return replace(other, values=other.values[:, [theirs.index(name) for name in ours]], columns=ours)


def _with_labels(rows: Rows | StreamedRows, other: Source | Store, known: tuple[str, ...]) -> Rows | StreamedRows:
    """The rows with their labels as context, by the classes that are known."""
    classes = len(known)
    if rows.labels is None:
        raise DataError(f"{other.name} has no labels, and the model is conditioned on the label: give data with labels")
    unknown = [name for name in other.classes or () if name not in known]
    if unknown:
        warnings.warn(
            f"{other.name} has labels that the model was not trained with ({listing(unknown)}): for "
            "those rows the context is zero",
            stacklevel=3,
        )
    if isinstance(rows, StreamedRows):
        return replace(rows, classes=classes)
    return replace(rows, context=torch.from_numpy(one_hot(rows.labels.numpy(), classes)))


def _maker(store: Store, preprocessor: Preprocessor, split: Literal["train", "test"]) -> Callable[[np.ndarray], Rows]:
    """What turns stored values, (n, *shape), into rows of a split."""

    def make(values: np.ndarray) -> Rows:
        part = replace(preprocessor, source=store.part(values))
        return part.train(slice(None)) if split == "train" else part.test(slice(None))

    return make


def _schema(data: Source | Store, preprocessor: Preprocessor, fingerprint: str, split: str) -> Schema:
    shape, scaling, protocol = preprocessor.source.values.shape[1:], preprocessor.scaling, preprocessor.protocol(split)
    return Schema(
        name=data.name,
        kind=data.kind,
        shape=shape,
        support=scaling.support,
        stored=preprocessor.stored,
        loc=scaling.loc,
        scale=scaling.scale,
        columns=preprocessor.source.columns,
        classes=data.classes,
        fingerprint=fingerprint,
        protocol=f"{data.note}; {protocol}" if data.note else protocol,
        context=preprocessor.context,
        factor_names=data.factor_names if isinstance(data, Source) else None,
        factor_sizes=data.factor_sizes if isinstance(data, Source) else None,
    )


def _relabelled(
    labels: torch.Tensor | None, classes: tuple[str, ...] | None, known: tuple[str, ...] | None
) -> torch.Tensor | None:
    """Labels by the numbers that the known classes have; new classes follow after them."""
    if labels is None or classes is None or known is None:
        return labels
    numbers = {name: number for number, name in enumerate(dict.fromkeys((*known, *classes)))}
    return torch.tensor([numbers[name] for name in classes])[labels]
