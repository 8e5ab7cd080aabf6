"""From a spec to three splits of rows and the schema that describes them."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
import torch

from vaekit.data.checks import check_kinds, check_levels, refuse_missing
from vaekit.data.columns import LABEL_NAMES, find_name, interacting, listing, unnamed
from vaekit.data.context import Conditioning, context_of_cells, fit_context, one_hot
from vaekit.data.fields import find_fields, notice_of_constants
from vaekit.data.in_memory import table_of_rows
from vaekit.data.open import open_table
from vaekit.data.part import Part
from vaekit.data.per_row import all_sizes, all_weights, fit_weight
from vaekit.data.preprocessing import TEST_SEED, Preprocessor
from vaekit.data.roles import LABEL, Roles, assign_roles, refuse_text, size_column
from vaekit.data.rounding import middle, rounding_of
from vaekit.data.rows import Rows
from vaekit.data.scaling import Moments, Scaling, choose_scale, fit_fields, fit_scaling
from vaekit.data.scan import Scan, scan
from vaekit.data.schema import SIZE, Binary, Constant, Context, Count, Field, Levels, Mixed, Real, Schema, Support
from vaekit.data.sound import Sound
from vaekit.data.spec import NO_LABEL, ColumnSpec, DataSpec, Limit
from vaekit.data.split import Split, check_size, is_streamed, split_rows
from vaekit.data.streaming import StreamedRows
from vaekit.data.table import Column, Kind, Sizes, Table
from vaekit.errors import DataError, SpecError
from vaekit.words import counted

_CELLS = 1 << 25  # of which moments are computed at once
BLACK_AND_WHITE = (
    "all values are 0 or 255, as of masks, and modelled as two of 256 levels: DataSpec.binarise=threshold makes them 0 "
    "and 1, for a Bernoulli"
)
_MOST_COUNTS = 64  # columns of a table of counts that are each modelled by itself

Each = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for a model. Validation and test rows are always in memory."""

    schema: Schema
    train: Rows | StreamedRows
    valid: Rows
    test: Rows


def prepare(
    spec: DataSpec,
    limit: Limit,
    *,
    discrete: bool | Callable[[Support, Kind], bool] = True,
    by_column: Each = "auto",
    sized: bool = False,
    shares: bool = False,
    data: Any = None,
) -> Dataset:
    """Open, split, fit and transform a data set, as `spec` says; the same call gives the same rows.

    Args:
        spec: Where the data is, and how it is read, split and scaled.
        limit: How many training and validation rows are kept, and how large data may be before it is streamed.
        discrete: Whether the likelihood is one of integers, so that levels may stay what they are; for a continuous one
            (discrete=False) they are divided by the highest level, unless `spec.scale` says otherwise. Where that
            depends on the data, a function of the stored support and the kind.
        by_column: Whether the columns of a table have a likelihood each: "never" where the likelihood is one of all,
            and "auto" where they are of several kinds.
        sized: Whether the likelihood's rates are shares of a size, which is then the total where nothing else is set.
        shares: Whether the likelihood divides the total of a row among its columns, as of ratings: a table with an
            interaction in each row is refused then.
        data: Rows in memory in place of `spec.source`: an array, a tensor, a data frame, a sparse matrix, a torch
            `Dataset`, or an iterable of chunks of rows.

    Raises:
        SpecError: Settings contradict each other or the data.
        ConfigError: The format needs a package that is not installed.
        DataError: The data is at fault.
    """
    check_levels(spec)
    if spec.size_factor == "auto":
        spec = replace(spec, size_factor="total" if sized else "none")
    table = open_table(spec, limit) if data is None else table_of_rows(data, spec)
    roles = assign_roles(table, spec)
    each = _by_column(roles, spec, by_column)
    if not each:
        refuse_text(roles, shares=shares)
        _refuse_categories(spec)
    if shares and (pair := interacting(table.columns or ())) is not None:
        raise DataError(
            f"{table.name} has an interaction in each row, by its columns {pair[0]!r} and {pair[1]!r}, and the "
            f"likelihood is of rows of counts: make them with DataSpec.rows={pair[0]} DataSpec.items={pair[1]}.",
            field="DataSpec.rows",
            value=spec.rows,
        )
    check_size(roles.table, spec, limit)
    split = split_rows(roles.table, spec, limit)
    wanted, parts = _wanted(roles.table, spec, split.train, split.valid, split.test)
    found = scan(roles, spec, wanted, split.out, moments=split.train is None, by_column=each)
    stored = replace(
        found.kept,
        labels=None if roles.table.labels is None else roles.table.labels[wanted],
        factors=None if roles.table.factors is None else roles.table.factors[wanted],
    )
    of_train = stored if split.train is None else stored[parts.train]
    if found.missing and found.facts is None and _is_missing(roles, of_train):
        raise DataError(f"{table.name}: every cell of the training rows is missing (NaN): give rows with some numbers.")
    roles, preprocessor, schema = _fit(roles, spec, limit, found, of_train, discrete, by_column, split)
    rows: Rows | StreamedRows = preprocessor.train(of_train)
    if split.train is None:
        rows = StreamedRows.of(roles.table, split.out, preprocessor.train, Sizes.of(limit))
        rows = rows if limit.train is None else rows.take(limit.train)
    valid, test = preprocessor.valid(stored[parts.valid]), preprocessor.test(stored[parts.test], parts.chosen)
    if (names := roles.table.row_names) is not None:
        names = names[wanted]
        rows = replace(rows, names=names[parts.train]) if isinstance(rows, Rows) else rows
        valid, test = (replace(some, names=names[place]) for some, place in ((valid, parts.valid), (test, parts.test)))
    scales = valid.log_scale_of(slice(None))
    if isinstance(scales, torch.Tensor):
        weight = valid.weight if valid.weight is not None and valid.weight.any() else torch.ones(len(valid))
        schema = replace(schema, observed_log_scale=float((weight * scales).sum() / weight.double().sum()))
    return Dataset(schema, rows, valid, test)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the rows of each split are among those that are kept in memory; chosen: those of `test` that test."""

    train: slice
    valid: slice
    test: slice
    chosen: np.ndarray | None


def _wanted(
    table: Table, spec: DataSpec, train: np.ndarray | None, valid: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, _Places]:
    """The rows to keep in memory, by number, and which of them each split has."""
    train, chosen = np.arange(0) if train is None else train, None
    if spec.binarise == "dynamic" and table.test_rows:  # it is drawn whole, however it is then divided
        whole = np.arange(table.train_rows, len(table))
        test, chosen = whole, np.flatnonzero(np.isin(whole, test))
    ends = np.cumsum([len(train), len(valid), len(test)]).tolist()
    places = _Places(slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2]), chosen)
    return np.concatenate([train, valid, test]), places


def _by_column(roles: Roles, spec: DataSpec, wanted: Each) -> bool:
    """Whether every column of a table is looked at by itself."""
    table = roles.table
    if table.columns is None or table.stored is not None or wanted == "never":
        return False
    if spec.columns or wanted == "always":
        return True
    if table.axes is not None:  # the columns of an array are of one kind
        return False
    return spec.support == "auto" and spec.scale == "auto" and spec.binarise == "none"


def _refuse_categories(spec: DataSpec) -> None:
    """Raise SpecError where a column is declared to have categories, and all columns are modelled as one."""
    for name, declared in spec.columns.items():
        if declared.kind in ("categorical", "ordinal"):
            raise SpecError(
                f"DataSpec.columns says that {name!r} is {declared.kind}, and the likelihood is one of all columns: "
                "use likelihood=columns, or leave the declaration out.",
                field="DataSpec.columns",
                value=name,
            )


def _fit(
    roles: Roles,
    spec: DataSpec,
    limit: Limit,
    found: Scan,
    train: Part,
    discrete: bool | Callable[[Support, Kind], bool],
    by_column: Each,
    split: Split,
) -> tuple[Roles, Preprocessor, Schema]:
    """Fit the schema on training rows, and what makes rows by it.

    Args:
        roles: Which columns are what.
        spec: Settings.
        limit: Settings.
        found: By the scan.
        train: Training rows in memory, or, where these are streamed, those that validate and test.
        discrete: See `prepare`.
        by_column: See `prepare`.
        split: How the rows were divided.
    """
    table = roles.table
    constants: tuple[Constant, ...] = ()
    fields, notices = None, table.notices
    known = {*(roles.names or ()), *((table.names or ())[at] for at in roles.context)}
    known |= {table.label.name} if table.label is not None and spec.context == (LABEL,) else set()
    order = tuple(name for name in table.order or table.names or () if name in known)
    scaling = Scaling(None, None, Binary())
    moments = found.moments
    if found.facts is not None:
        columns = table.columns or ()
        x = range(len(columns)) if roles.x is None else roles.x
        kinds = find_fields([columns[at] for at in x], found.facts, lambda at: train.column(x[at]), spec, table.name)
        kept = [place for place, at in enumerate(x) if columns[at].name not in kinds.left_out]
        facts = [found.facts[place] for place in kept]
        roles = roles.without(kinds.left_out)
        if spec.missing == "refuse":
            refuse_missing(roles, facts)
        moments = _moments(roles, train, True) if moments is None else moments[kept]
        fields, constants = kinds.fields, kinds.constants
        notices += kinds.notices
        order = tuple(name for name in order if name not in kinds.ignored)
        stored = _support_of(fields, by_column)
        if isinstance(stored, Mixed):
            fields = fit_fields(fields, moments, facts)
            scaling = Scaling(tuple(one.loc for one in fields), tuple(one.scale for one in fields), stored)
    else:
        assert found.support is not None
        stored = found.support
        if found.black_and_white and spec.binarise == "none":
            notices += (BLACK_AND_WHITE,)
    if not isinstance(stored, Mixed):
        how = choose_scale(spec, stored, discrete if isinstance(discrete, bool) else discrete(stored, table.kind))
        if spec.binarise == "none":
            if how == "standard" and moments is None:
                moments = _moments(roles, train, table.kind != "image")
            seen = _with_kept(moments, roles, found.kept) if how == "standard" and moments is not None else None
            if spec.scale == "auto" and moments is not None and seen is not None and table.columns is not None:
                names = roles.names or ()
                nearly = _constants(roles, seen, found.kept)
                constants, notices = (*constants, *nearly), (*notices, *notice_of_constants(nearly))
                roles = roles.without(frozenset(one.name for one in constants))
                fields = None if fields is None else tuple(one for one in fields if one.name in (roles.names or ()))
                left = {name: place for place, name in enumerate(names)}
                kept = [left[name] for name in roles.names or ()]
                moments, seen = moments[kept], seen[kept]
            scaling = fit_scaling(how, stored, moments, seen, roles)
    if roles.total and not isinstance(stored, Count):
        raise SpecError(
            f"DataSpec.size_factor is the total of a row of counts, and the values of {table.name} are {stored}: "
            "declare them with DataSpec.support=count, or use DataSpec.size_factor=none.",
            field="DataSpec.size_factor",
            value="total",
        )

    def of_training(every: np.ndarray) -> np.ndarray:
        return np.delete(every, split.out)[: limit.train] if split.train is None else every[split.train]

    sizes = of_training(all_sizes(roles)) if roles.sized else None
    conditioning = fit_context(roles, spec, found.context, train, sizes)
    weight = fit_weight(spec.weight, of_training(all_weights(roles))) if spec.weight is not None else None
    of_mixed = fields if isinstance(stored, Mixed) else None
    preprocessor = Preprocessor(roles, spec, stored, scaling, of_mixed, found.missing, conditioning, weight)
    protocol = preprocessor.protocol(split.protocol)
    schema = Schema(
        name=table.name,
        kind=table.kind,
        shape=(len(roles.names),) if roles.names is not None else table.shape,
        support=scaling.support,
        stored=stored,
        loc=scaling.loc,
        scale=scaling.scale,
        columns=roles.names,
        classes=table.classes,
        fingerprint=found.fingerprint,
        protocol=f"{table.note}; {protocol}" if table.note else protocol,
        context=None if conditioning is None else conditioning.context,
        factor_names=table.factor_names,
        factor_sizes=table.factor_sizes,
        fields=fields,
        constants=constants,
        order=order,
        missing=found.missing,
        weight=weight,
        axes=table.axes,
        dtype="float32" if np.can_cast(table.dtype, np.float32) else "float64",
        dialect=table.dialect,
        sound=table.sound,
        notices=notices,
    )
    return roles, preprocessor, schema


def _is_missing(roles: Roles, part: Part) -> bool:
    """Whether every cell of some rows is missing."""
    return all(np.isnan(roles.modelled(block.values)).all() for block in part.blocks())


def _moments(roles: Roles, part: Part, each: bool) -> Moments:
    """The moments of some rows, of which large ones are joined from blocks; see `Moments.of`."""
    cells = max(1, part.stored.nbytes // part.stored.itemsize)
    blocks = part.blocks(_CELLS * part.stored.nbytes // cells)
    return reduce(Moments.join, (Moments.of(roles.modelled(block.values), each) for block in blocks))


def _with_kept(moments: Moments, roles: Roles, kept: Part) -> Moments:
    """The moments of the training rows, joined with those of all rows that are kept in memory where a column needs it.

    Only one that is constant in the training rows does.
    """
    if not len(kept) or not moments.constant.any():
        return moments
    return moments.join(_moments(roles, kept, roles.table.kind != "image"))


def _constants(roles: Roles, seen: Moments, kept: Part) -> tuple[Constant, ...]:
    """The columns that have one value, up to rounding, in training rows and in those that are kept in memory.

    Where every column has, they are left for an error.
    """
    if seen.constant.all():
        return ()
    columns = roles.table.columns or ()
    places = range(len(columns)) if roles.x is None else roles.x
    found = []
    for at in np.flatnonzero(seen.constant).tolist():
        alike = seen.low[at] == seen.high[at] or not len(kept)
        value = float(seen.low[at]) if alike else middle(kept.column(places[at]))
        found.append(Constant(columns[places[at]].name, value, columns[places[at]].dtype))
    return tuple(found)


def _support_of(fields: tuple[Field, ...], by_column: Each) -> Support:
    """What columns of one kind are together; of several kinds, or where each is to have a likelihood, mixed."""
    kinds = {field.kind for field in fields}
    if by_column == "always" or len(kinds) > 1:
        return Mixed()
    if kinds == {"real"}:
        return Real()
    if kinds == {"binary"} and not any(field.categories for field in fields):
        return Binary()
    return Count() if kinds == {"count"} and len(fields) > _MOST_COUNTS else Mixed()


def read_like(source: Any, spec: DataSpec, schema: Schema, limit: Limit) -> Rows | StreamedRows:
    """The rows of another source (its own test rows, where it has any), as a model trained on `schema` sees them.

    Nothing is fitted: the support, the kinds, the scaling and the classes are those of `schema`, the binarisation is
    `spec`'s. Of a table, only the columns that the model knows are read.

    Args:
        source: Its name or path, or rows in memory as `prepare` takes them.
        spec: Of the run's own data.
        schema: Of the run's own data.
        limit: How large the source may be before it is streamed.

    Raises:
        DataError: The rows are of another shape, lack a column, or break the support.
    """
    plain = spec_like(source, spec, schema)
    if not isinstance(source, str):
        return _like(table_of_rows(source, plain), replace(plain, columns={}), schema, limit)
    items = schema.columns if spec.rows is not None else None
    try:
        other = open_table(plain, limit, items)
    except DataError as error:
        if error.field != "DataSpec.label" or plain.context == (LABEL,):
            raise
        other = open_table(replace(plain, label=None), limit, items)
    return _like(other, replace(plain, columns={}), schema, limit)


def spec_like(source: Any, spec: DataSpec, schema: Schema) -> DataSpec:
    """By which other data than a run's own is read: what is set for that need not be possible for this.

    Args:
        source: Its name or path, or rows in memory.
        spec: Of the run's own data.
        schema: Of the run's own data.
    """
    plain = replace(spec, stream="never" if spec.stream == "never" else "auto", columns=_columns_like(schema), drop=())
    if not isinstance(source, str):
        return plain
    plain = replace(plain, source=source)
    if not os.path.isdir(os.path.expanduser(source)):
        plain = replace(plain, image_size=None, image_fit="crop", image_mode="auto", bad_files="refuse", name_fields=())
    if schema.sound is not None:
        plain = replace(plain, **_like_sound(source, schema.sound, schema.kind))
    if schema.dialect is None:
        plain = replace(plain, missing_values=DataSpec().missing_values, delimiter=None, decimal=None, encoding=None)
    return plain


def _columns_like(schema: Schema) -> dict[str, ColumnSpec]:
    """What columns of other data are to be read as: those that the model knows as numbers, and those of texts."""
    number, text = ColumnSpec("real"), ColumnSpec("categorical")
    known = (*(schema.fields or ()), *(schema.context.fields if schema.context is not None else ()))
    of_texts = {field.name: field.dtype in ("string", "category") for field in known if field.dtype != "bool"}
    return {name: text if is_text else number for name, is_text in of_texts.items()}


def _like_sound(source: str, sound: Sound, kind: Kind) -> dict[str, Any]:
    """The settings by which other recordings have the same features; those of no format where it is a file."""
    if not os.path.isdir(os.path.expanduser(source)):
        return {"sound_rate": None, "sound_seconds": None, "sound_bands": DataSpec().sound_bands}
    rate = sound.features.rate
    return {
        "sound_rate": rate,
        "sound_seconds": sound.length / rate,
        "sound_bands": sound.features.bands,
        "layout": kind,
    }


def rows_like(values: Any, spec: DataSpec, schema: Schema, context: Any = None) -> Rows:
    """Rows as they are stored, in memory, as a model trained on `schema` sees them.

    Args:
        values: (n, *shape), in the units of the source; of a data frame, the columns that the model knows, by name.
            Where the model's data was binarised, rows of zeros and ones are taken as binarised already.
        spec: Of the run's own data.
        schema: Of the run's own data.
        context: (n,) labels, by name or number, or (n, columns) cells as they are stored, or a mapping from names of
            columns to these, where the model takes a context; a data frame may bring it among its columns.

    Raises:
        DataError: They are of another shape or break the support.
    """
    plain = replace(spec, source=None, drop=(), columns=_columns_like(schema))
    table = table_of_rows(values, plain, schema.axes)
    plain = replace(plain, columns={})
    there = {*(table.names or ()), *([LABEL] if spec.label in (table.names or ()) else [])}
    if spec.context and context is None and there.issuperset(spec.context):
        rows = _like(table, plain, replace(schema, weight=None), Limit())
        assert isinstance(rows, Rows)
        return rows
    plain = replace(plain, context=())
    wanted, schema = schema.context, replace(schema, context=None, weight=None)
    if spec.binarise != "none":
        array = table.whole()
        if np.isin(array, (0, 1)).all():
            plain, schema = replace(plain, binarise="none"), replace(schema, stored=Binary(), loc=None, scale=None)
    rows = _like(table, plain, schema, Limit())
    assert isinstance(rows, Rows)
    sizes = None if wanted is None or wanted.size is None else _sizes_like(table, rows, wanted, context)
    return replace(rows, context=context_like(context, replace(schema, context=wanted), len(rows), sizes))


def _sizes_like(table: Table, rows: Rows, wanted: Context, context: Any) -> np.ndarray | None:
    """The sizes of rows in memory: the total, or a column of theirs; None where the context says them."""
    if wanted.size == "total":
        return rows.values.flatten(1).sum(1, dtype=torch.float64).clamp_min(1).numpy()
    if wanted.size in (table.names or ()):
        return table.column((table.names or ()).index(wanted.size)).astype(np.float64)
    if wanted.kind == "label" or np.ndim(context) != 2 or np.shape(context)[1] != len(wanted.names):
        raise DataError(
            f"the size of each row is the column {wanted.size!r}, and the rows given have none of that name: give it "
            "in a data frame, or as the last column of context=",
            field="context",
        )
    return None


def context_like(context: Any, schema: Schema, rows: int, sizes: np.ndarray | None = None) -> torch.Tensor | None:
    """A context (rows, width) as the model takes it, from one as it is stored; see `rows_like`.

    Args:
        context: (rows,) labels; or (rows, columns) cells, of which the last may be the sizes where the model has some,
            or a mapping from names of columns to their cells, those left out being missing.
        schema: Says what the model takes.
        rows: How many.
        sizes: (rows,) where they are known otherwise. Where nothing says them, they are the median of training rows.

    Raises:
        DataError: It is no such context, or a column cannot have one of its cells.
    """
    wanted = schema.context
    if wanted is None and context is None:
        return None
    if wanted is not None and wanted.size is not None and context is None and not wanted.given:
        context = np.empty((rows, 0))
    names = () if wanted is None or wanted.kind == "label" else tuple(wanted.places)
    if isinstance(context, Mapping) and names:
        context = _cells_by_name(context, names, rows)
    given = None if context is None else np.asarray(context, None if hasattr(context, "dtype") else object)
    if wanted is not None and given is not None and given.shape == (rows, len(names) + 1) and wanted.size:
        given, sizes = given[:, :-1], given[:, -1] if sizes is None else sizes
    shape = (rows,) if wanted is None or wanted.kind == "label" else (rows, len(names))
    if wanted is None or given is None or given.shape != shape:
        raise DataError(
            f"the context given has shape {None if given is None else given.shape}, and the model takes "
            + ("none" if wanted is None else f"{wanted.kind} of shape {shape}: {listing(names or wanted.given)}"),
            field="context",
        )
    if wanted.kind == "label":
        numbers = one_hot(_labels_given(given, wanted.given), len(wanted.given))
        if wanted.size is None:
            return torch.from_numpy(numbers)
    else:
        with _naming_context():
            numbers = context_of_cells(wanted, given)
    if wanted.size is None:
        return torch.from_numpy(wanted.scaled(numbers))
    sizes = np.full(rows, np.nan) if sizes is None else np.asarray(sizes, np.float64)
    if (bad := ~np.isnan(sizes) & ~((sizes > 0) & (sizes < np.inf))).any():
        raise DataError(
            f"{SIZE} of row {int(bad.argmax())} is {sizes[bad][0]:g}: sizes are finite and above 0", field="context"
        )
    return torch.from_numpy(wanted.scaled(np.column_stack([numbers, np.log(sizes)])))


def _cells_by_name(given: Mapping[str, Any], names: Sequence[str], rows: int) -> np.ndarray:
    """The cells (rows, columns) of a context that is given by the names of columns."""
    if unknown := [name for name in given if name not in names]:
        raise DataError(
            f"context has {unknown[0]!r}, which is no column of the context: these are {listing(names)}",
            field="context",
            value=unknown[0],
        )
    cells = np.full((rows, len(names)), None, object)
    for name, column in given.items():
        if np.shape(column) != (rows,):
            raise DataError(
                f"context[{name!r}] has shape {np.shape(column)}: give one value for each of {counted(rows, 'row')}",
                field="context",
                value=name,
            )
        cells[:, names.index(name)] = list(column)
    return cells


def _labels_given(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The numbers of labels, (n,), that are given by name or number."""
    numbers = {name: number for number, name in enumerate(classes)}
    whole = all(isinstance(label, int) and not isinstance(label, bool) for label in labels.tolist())
    found = labels.astype(np.int64) if whole else np.array([numbers.get(str(label), -1) for label in labels], np.int64)
    if (bad := (found < 0) | (found >= len(classes))).any():
        row = int(bad.argmax())
        raise DataError(
            f"context has the label {labels[row]} in row {row}: it should be one of {listing(classes)}, or a number "
            f"from 0 to {len(classes) - 1}",
            field="context",
            value=labels[row],
        )
    return found


@contextmanager
def _naming_context() -> Iterator[None]:
    """Within, an error of a value names the argument that it was given by."""
    try:
        yield
    except DataError as error:
        raise DataError(f"context: {error}", field="context", value=error.value) from None


def _like(other: Table, spec: DataSpec, schema: Schema, limit: Limit) -> Rows | StreamedRows:
    """The rows of a table that is open, as a model trained on `schema` sees them."""
    weighted = schema.weight is not None and schema.weight.name in (other.names or ())
    spec = replace(
        spec,
        size_factor=(schema.context.size if schema.context is not None else None) or "none",
        weight=schema.weight.name if schema.weight is not None and weighted else None,
    )
    _warn_of_other_constants(other, schema)
    roles = _roles_like(other, spec, schema)
    shape = roles.table.shape if roles.names is None else (len(roles.names),)
    refuse_text(roles, {field.name for field in schema.fields or () if field.categories})
    if shape != schema.shape:
        raise DataError(
            f"{other.name}: rows of shape {shape}, and the model was trained on {schema.name} with rows of shape "
            f"{schema.shape}: give data of that shape."
        )
    other = _relabelled(roles.table, schema)
    roles = replace(roles, table=other)
    check_size(other, spec, limit)
    streamed = is_streamed(other, spec, limit)
    if streamed and spec.binarise == "dynamic":
        raise DataError(
            f"{other.name} is too large to be binarised once and for all, as DataSpec.binarise=dynamic needs for "
            "rows that are not trained on: raise Limit.data_gb, or give fewer rows.",
            field="DataSpec.binarise",
            value=spec.binarise,
        )
    levels = schema.stored.count if isinstance(schema.stored, Levels) else None
    mixed = isinstance(schema.stored, Mixed)
    declared = replace(spec, support="real" if mixed else schema.stored.kind, levels=levels)
    whole = np.arange(0 if streamed else other.train_rows if other.test_rows else 0, 0 if streamed else len(other))
    found = scan(roles, declared, whole, np.arange(0))
    fields = schema.fields if mixed else None
    conditioning = None if schema.context is None else Conditioning(roles, schema.context)
    scaling = Scaling(schema.loc, schema.scale, schema.support)
    stored = schema.stored if mixed else found.support or schema.stored
    preprocessor = Preprocessor(
        roles, spec, stored, scaling, fields, found.missing or schema.missing, conditioning, schema.weight
    )
    if streamed:
        rows: Rows | StreamedRows = StreamedRows.of(other, np.arange(0), preprocessor.test, Sizes.of(limit))
    else:
        if found.missing and _is_missing(roles, found.kept):
            raise DataError(f"{other.name}: every cell of the rows given is missing (NaN): give rows with some numbers")
        if fields is not None:
            check_kinds(roles, roles.modelled(found.kept.values), fields)
        unseen: Counter[str] = Counter()
        for block in found.kept.blocks():
            unseen.update(preprocessor.unseen(block.values))
            unseen.update(conditioning.unseen(block.values) if conditioning is not None else {})
        if unseen:
            said = [f"{count} in {name!r}" for name, count in unseen.items()]
            warnings.warn(
                f"{other.name}: cells have categories that the model was not trained with, and count as missing: "
                f"{listing(said)}",
                stacklevel=5,
            )
        labels, factors = (None if one is None else one[whole] for one in (other.labels, other.factors))
        rows = preprocessor.test(replace(found.kept, labels=labels, factors=factors))
        rows = replace(rows, names=None if other.row_names is None else other.row_names[whole])
    return replace(rows, protocol=_protocol_of_other(other, spec, schema, len(rows)))


def _warn_of_other_constants(other: Table, schema: Schema) -> None:
    """Say which columns had one value in all rows of the model's data, and have another one here."""
    places = {name: place for place, name in enumerate(other.names or ())}
    if not places.keys() >= set(schema.columns or ()):
        return
    there = [one for one in schema.constants if one.name in places]
    table = other.pick([places[one.name] for one in there]) if there else other
    found: dict[str, str] = {}
    for chunk in range(table.chunks if there else 0):
        values = table.chunk(chunk)
        for one, column, cells in zip(there, table.columns or (), values.T, strict=True):
            known = cells[~np.isnan(cells)] if cells.dtype.kind == "f" else cells
            changed = known[_differs(known, one.value, column)]
            if len(changed) and one.name not in found:
                value = float(changed[0])
                now = f"{value:g}" if column.categories is None else repr(column.categories[int(value)])
                was = repr(one.value) if isinstance(one.value, str) else f"{one.value:g}"
                found[one.name] = f"{one.name!r} ({was} then, {now} here)"
    if found:
        warnings.warn(
            f"{other.name}: columns that had one value when the model was trained, which knows nothing of them, have "
            f"another: {listing(list(found.values()))}",
            stacklevel=5,
        )


def _differs(known: np.ndarray, value: float | str, column: Column) -> np.ndarray:
    """Which cells (n,) of a column are not a value, but for what single precision rounds away."""
    if isinstance(value, str):
        names = column.categories or ()
        return known != names.index(value) if value in names else np.ones(len(known), bool)
    if column.categories is not None:
        return np.ones(len(known), bool)
    return np.abs(known - value) > rounding_of(np.dtype(np.float32)) * np.maximum(np.abs(known), abs(value))


def _roles_like(other: Table, spec: DataSpec, schema: Schema) -> Roles:
    """The columns that the model knows, in its order; columns without names of their own are taken as they come."""
    if other.columns is None or schema.columns is None:
        return assign_roles(other, replace(spec, context=() if spec.context != (LABEL,) else spec.context))
    theirs = other.names or ()
    with_constants = len(schema.constants) > 0 and theirs == schema.order  # which the model does not know
    by_number = not with_constants and (theirs == unnamed(theirs) or schema.columns == unnamed(schema.columns))
    context = () if schema.context is None or schema.context.kind == "label" else spec.context
    if by_number and not context:
        by_label = spec.context == (LABEL,)
        label = spec.label if by_label or other.labels is not None or spec.label in theirs else NO_LABEL
        return assign_roles(other, replace(spec, context=spec.context if by_label else (), label=label))
    other = _labelled(other, spec, (*schema.columns, *context))
    theirs = other.names or ()
    places = {name: place for place, name in enumerate(theirs)}
    beside = [name for name in (size_column(spec), spec.weight) if name is not None]
    wanted = (*schema.columns, *context, *beside)
    if lacking := [name for name in wanted if name not in places]:
        raise DataError(
            f"{other.name} lacks the columns {listing(lacking)}, which the model was trained on; it has "
            f"{listing(theirs)}."
        )
    table = other.pick([places[name] for name in wanted])
    width, known = len(schema.columns), len(schema.columns) + len(context)
    return Roles(
        table,
        tuple(range(width)) if len(wanted) > width else None,
        tuple(range(width, known)),
        None if size_column(spec) is None else known,
        spec.size_factor == "total",
        None if spec.weight is None else len(wanted) - 1,
    )


def _labelled(other: Table, spec: DataSpec, used: tuple[str, ...]) -> Table:
    """The table with its labels, which it needs where they are the context; `used` are columns that are no label."""
    names = other.names or ()
    label = spec.label
    if label is None:
        label = find_name((name for name in names if name not in used), LABEL_NAMES)
    if label not in names and spec.context != (LABEL,):
        label = NO_LABEL
    alone = replace(spec, context=(), size_factor="none", weight=None)  # of the label
    try:
        return assign_roles(other, replace(alone, label=label)).table
    except DataError as error:
        if spec.context == (LABEL,):
            raise
        warnings.warn(f"labels are left out: {error}", stacklevel=6)
        return assign_roles(other, replace(alone, label=NO_LABEL)).table


def _protocol_of_other(other: Table, spec: DataSpec, schema: Schema, rows: int) -> str:
    """Which rows of another source were read, and what was done to them."""
    which = "the test set" if other.test_rows else "all rows"
    parts = [f"{which} of {other.name}, {counted(rows, 'row')}, none split off"]
    if spec.binarise == "dynamic":
        parts += [f"binarised once, RandomState({TEST_SEED})"]
    elif spec.binarise == "threshold":
        parts += ["binarised by a threshold at one half"]
    elif schema.scale is not None:
        parts += [f"scaled as the training rows of {schema.name} were"]
    return "; ".join([other.note, *parts] if other.note else parts)


def _relabelled(other: Table, schema: Schema) -> Table:
    """The table with its labels by the numbers that the model's classes have; new classes follow after them."""
    by_label = schema.context is not None and schema.context.kind == "label"
    if other.labels is None and by_label:
        raise DataError(f"{other.name} has no labels, and the model is conditioned on the label: give data with labels")
    if other.labels is None or other.classes is None or schema.classes is None:
        return other
    unknown = [name for name in other.classes if name not in schema.classes]
    if unknown and by_label:
        warnings.warn(
            f"{other.name} has labels that the model was not trained with ({listing(unknown)}): for "
            "those rows the context is zero",
            stacklevel=5,
        )
    classes = tuple(dict.fromkeys((*schema.classes, *other.classes)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in other.classes], dtype=np.int64)[other.labels]
    return replace(other, labels=labels, classes=classes)
