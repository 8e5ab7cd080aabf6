"""Context: what a model is conditioned on besides x: the label of a row or columns of a table, and a row's size."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vaekit.data.columns import category_name, is_number, listing, refuse_odd
from vaekit.data.fields import Facts, categories_of, check_kind
from vaekit.data.part import Part
from vaekit.data.per_row import sizes_of
from vaekit.data.roles import LABEL, Roles
from vaekit.data.rounding import decimals_of, rounding_of
from vaekit.data.schema import SIZE, Constant, Context, Field, FieldKind, Schema
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column
from vaekit.errors import DataError


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Makes the context of the rows of a table.

    Attributes:
        roles: Which columns are context.
        context: What its numbers are.
    """

    roles: Roles
    context: Context

    def of(self, values: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """The context of rows, (n, width); one-hot labels are bytes.

        Args:
            values: (n, columns) as they are stored.
            labels: (n,) numbers of their classes.
        """
        given = self._given(values, labels)
        if self.context.size is None:
            return given if self.context.kind == "label" else self.context.scaled(given)
        return self.context.scaled(np.column_stack([given, np.log(sizes_of(self.roles, values))]))

    def _given(self, values: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """The numbers of the context that are no sizes, before they are scaled."""
        if self.context.kind == "label":
            assert labels is not None
            return one_hot(labels, len(self.context.given))
        if not self.roles.context:
            return np.empty((len(values), 0))
        columns = self.roles.table.columns or ()
        chosen = [columns[place] for place in self.roles.context]
        stored = values[:, list(self.roles.context)].astype(np.float64)
        return _numbers(stored, chosen, self.context.fields) if self.context.coded else stored

    def unseen(self, values: np.ndarray) -> dict[str, int]:
        """How many cells of rows, (n, columns), have categories that the model does not know, by column."""
        found = {}
        for field, place in zip(self.context.fields, self.roles.context, strict=False):
            column = (self.roles.table.columns or ())[place]
            if field.categories:
                known = _numbers(values[:, [place]].astype(np.float64), [column], [field])
                if count := int((known.sum(1) == 0).sum()):
                    found[field.name] = count
        return found


def fit_context(
    roles: Roles, spec: DataSpec, facts: Sequence[Facts], train: Part, sizes: np.ndarray | None = None
) -> Conditioning | None:
    """How the context is made: numbers are standardised by training rows, labels and categories are one-hot.

    Args:
        roles: Which columns are context.
        spec: Whether the label is, and what columns are declared to be.
        facts: Of each column of the context, over all rows.
        train: Training rows of columns as they are stored, or some of them.
        sizes: (n,) of all training rows, where they have sizes.

    Raises:
        DataError: A column is neither numbers nor categories.
    """
    found = _fit_given(roles, spec, facts, train)
    if sizes is None:
        return found
    given = Context("columns", (), (), ()) if found is None else found.context
    if SIZE in given.names:
        raise DataError(
            f"the context has a number that is called {SIZE}, as the size factor is: rename the column",
            field="DataSpec.context",
        )
    # Sorted, so that the order in which rows train changes no bit.
    log_size = np.sort(np.log(sizes))
    scale = float(log_size.std()) if log_size[0] < log_size[-1] else 1.0
    return Conditioning(
        roles,
        replace(
            given,
            names=(*given.names, SIZE),
            loc=(*given.loc, float(np.median(log_size))),
            scale=(*given.scale, scale),
            size=spec.size_factor,
        ),
    )


def _fit_given(roles: Roles, spec: DataSpec, facts: Sequence[Facts], train: Part) -> Conditioning | None:
    """The same without sizes.

    Args:
        roles: Which columns are context.
        spec: Whether the label is, and what columns are declared to be.
        facts: Of each column of the context, over all rows.
        train: Training rows of columns as they are stored, or some of them.

    Raises:
        DataError: A column is neither numbers nor categories.
    """
    table = roles.table
    if not roles.context:
        if spec.context != (LABEL,):
            return None
        classes, width = table.classes or (), len(table.classes or ())
        column = table.label
        label = () if column is None else (Field(column.name, "categorical", classes, dtype=column.dtype),)
        return Conditioning(roles, Context("label", classes, (0.0,) * width, (1.0,) * width, label))
    columns = [(table.columns or ())[place] for place in roles.context]
    values = np.stack([train.column(place) for place in roles.context], 1).astype(np.float64)
    every = zip(columns, facts, values.T, strict=True)
    fields = tuple(_field(column, known, cells[~np.isnan(cells)], spec, table.name) for column, known, cells in every)
    plain = all(field.is_number for field in fields) and not any(known.missing for known in facts)
    if plain:
        scale = np.where(np.ptp(values, 0) > 0, values.std(0), 1.0)
        names = tuple(column.name for column in columns)
        loc = tuple(values.mean(0).tolist())
        return Conditioning(roles, Context("columns", names, loc, tuple(scale.tolist()), fields))
    numbers = _numbers(values, columns, fields)
    loc, scale, names = np.zeros(numbers.shape[1]), np.ones(numbers.shape[1]), _names(fields)
    for place, name in enumerate(names):
        cells = numbers[:, place][~np.isnan(numbers[:, place])]
        if any(field.name == name and field.is_number for field in fields) and len(cells) and np.ptp(cells) > 0:
            loc[place], scale[place] = cells.mean(), cells.std()
    return Conditioning(roles, Context("columns", names, tuple(loc.tolist()), tuple(scale.tolist()), fields))


def given_context(context: Context, given: dict[str, str]) -> np.ndarray:
    """A context (1, width), as a model takes it, of values by the names of columns; what is not given is missing.

    Raises:
        DataError: A name is no column of the context, or a value is none that it can have.
    """
    size = [_log_size(given.get(SIZE))] if context.size is not None else []
    if context.kind == "label":
        if set(given) - ({SIZE} if size else set()) != {LABEL} or given[LABEL] not in context.given:
            raise DataError(
                f"the context is the label: give label=VALUE, one of {listing(context.given)}",
                field=LABEL,
                value=given.get(LABEL),
            )
        label = one_hot(np.array([context.given.index(given[LABEL])]), len(context.given))
        return context.scaled(np.array([[*label[0], *size]], np.float64))
    fields = _fields_of(context)
    known = [*(field.name for field in fields), *([SIZE] if size else [])]
    if unknown := [name for name in given if name not in known]:
        raise DataError(
            f"{unknown[0]!r} is no column of the context: these are {listing(known)}",
            field=unknown[0],
            value=given[unknown[0]],
        )
    cells = np.array([[given.get(field.name) for field in fields]], object)
    return context.scaled(np.column_stack([context_of_cells(context, cells), *([size] if size else [])]))


def context_of_cells(context: Context, cells: np.ndarray) -> np.ndarray:
    """The numbers of a context of columns, (n, width) without sizes and before they are scaled.

    Args:
        context: Of columns.
        cells: (n, columns) as the source has them, as texts or numbers; None or NaN where one is missing.

    Raises:
        DataError: A cell is none that its column can have.
    """
    parts = []
    for field, column in zip(_fields_of(context), cells.T, strict=True):
        texts = [_text_of(field, cell) for cell in column.tolist()]
        missing = np.array([text is None for text in texts], bool)
        known = [text for text in texts if text is not None]
        if field.categories:
            if unknown := [text for text in known if text not in field.categories]:
                raise _no_category(field, unknown[0])
            names = np.array(texts, object)
            parts += [names == category for category in field.categories]
        else:
            numbers = np.full(len(texts), np.nan)
            numbers[~missing] = _numbers_given(field, known)
            parts.append(numbers)
        if context.coded:
            parts.append(missing)
    return np.stack(parts, 1).astype(np.float64) if parts else np.empty((len(cells), 0))


def _fields_of(context: Context) -> tuple[Field, ...]:
    return context.fields or tuple(Field(name, "real") for name in context.given)


def _text_of(field: Field, cell: object) -> str | None:
    """A cell that is given as a text or a number, as its column is written; None where it is missing."""
    if cell is None or cell != cell:
        return None
    if isinstance(cell, float | int) and not isinstance(cell, bool) and field.categories:
        return category_name(cell) if np.isfinite(cell) else str(cell)
    return _as_written(field, str(cell))


def given_cells(schema: Schema, given: Mapping[str, str]) -> dict[int, float]:
    """Values of modelled columns that are given as text, as x has them, by the number of the column.

    Raises:
        DataError: There is no such column, or it cannot have that value.
    """
    columns = schema.columns or ()
    fields = schema.fields or tuple(Field(name, "real") for name in columns)
    found = {}
    for name, text in given.items():
        if name not in columns:
            raise DataError(
                f"{name!r} is no column that is modelled: these are {listing(columns)}", field=name, value=text
            )
        place = columns.index(name)
        value = _value_given(fields[place], text)
        if schema.loc is not None and schema.scale is not None:
            at = place if len(schema.scale) > 1 else 0
            value = (value - schema.loc[at]) / schema.scale[at]
        found[place] = value
    return found


def _value_given(field: Field, text: str) -> float:
    """The number of a category, or a number, that is given as text."""
    if not field.categories:
        return float(_numbers_given(field, [text])[0])
    text = _as_written(field, text)
    if text not in field.categories:
        raise _no_category(field, text)
    return float(field.categories.index(text))


def _no_category(field: Field, text: str) -> DataError:
    return DataError(
        f"{field.name}={text} is none of its categories: they are {listing(field.categories)}",
        field=field.name,
        value=text,
    )


def given_columns(context: Context, given: dict[str, str]) -> tuple[Constant, ...]:
    """The columns of rows with a context that `given_context` takes, as the source has them."""
    fields = {LABEL if context.kind == "label" else field.name: field for field in context.fields}
    found = []
    for name, value in given.items():
        field = fields.get(name, Field(name, "real", dtype="float64" if "." in value else "int64"))
        if name != SIZE and (name in fields or context.kind != "label"):
            cell = _as_written(field, value) if field.categories else float(value)
            found.append(Constant(field.name, cell, field.dtype))
    return tuple(found)


def _as_written(field: Field, value: str) -> str:
    """A value that is given as text; of a column of truth values, in any case."""
    return value.capitalize() if field.dtype == "bool" and value.casefold() in ("true", "false") else value


def _numbers_given(field: Field, values: Sequence[str]) -> np.ndarray:
    """Numbers that are given as texts, (n,), with a warning where one lies outside the range of the data."""
    whole = field.decimals == 0 or field.dtype.startswith(("int", "uint"))
    numbers = np.array([float(value) if is_number(value) and "_" not in value else np.nan for value in values])
    rules = {
        "no finite number": ~np.isfinite(numbers),
        "no whole number, as all of its column are": whole & (numbers != np.floor(numbers)),
        "below 0, and its column is of counts": (field.kind == "count") & (numbers < 0),
        "not above 0, as all of its column are": (field.kind == "positive") & (numbers <= 0),
    }
    for what, wrong in rules.items():
        if wrong.any():
            value = values[int(wrong.argmax())]
            example = f"{field.name}={1 if whole else 1.5}"
            raise DataError(
                f"{field.name}={value} is {what}: give one, as {example}, or leave it out, and it is missing",
                field=field.name,
                value=value,
            )
    low, high = field.range or (-np.inf, np.inf)
    if (outside := (numbers < low) | (numbers > high)).any():
        value = values[int(outside.argmax())]
        warnings.warn(f"{field.name}={value} is outside the range of the data, {low:.6g} to {high:.6g}", stacklevel=5)
    return numbers


def _log_size(given: str | None) -> float:
    """ln of a size that is given as text; NaN of none."""
    try:
        size = np.nan if given is None else float(given)
    except ValueError:
        size = 0.0
    if size <= 0 or size == np.inf:
        raise DataError(f"{SIZE}={given} is no size: give a number above 0, as {SIZE}=1000", field=SIZE, value=given)
    return float(np.log(size))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes) of bytes; a label that is none of the classes is all zeros."""
    return (labels[:, None] == np.arange(classes)).astype(np.uint8)


def number_of(category: str, column: Column) -> float:
    """What stands for a category in a column of numbers; infinity, which no cell is, where nothing can."""
    if category in ("False", "True"):
        return float(category == "True")
    number = float(category) if is_number(category) else np.inf
    return float(column.stored.type(number)) if column.stored.kind == "f" else number


def _field(column: Column, known: Facts, cells: np.ndarray, spec: DataSpec, name: str) -> Field:
    """What a column of the context is; cells: (n,) some of its numbers."""
    declared = spec.columns.get(column.name)
    if declared is None or declared.is_number:
        refuse_odd(column, name)
    if declared is not None:
        check_kind(column, known, declared.kind, name, varies=False)
    if column.is_number and (declared is None or declared.is_number):
        kind: FieldKind = "count" if known.whole and known.low >= 0 else "real"
        if declared is not None and declared.kind != "ignore":
            kind = declared.kind
        decimals = 0 if known.whole else decimals_of(cells, rounding_of(column.stored))
        ends = None if known.missing == known.rows else (float(known.low), float(known.high))
        return Field(column.name, kind, dtype=column.dtype, decimals=decimals, range=ends)
    if known.counts is None or not (column.is_number or column.categories is not None):
        raise DataError(
            f"{name}: the column {column.name!r} is neither numbers nor categories, and cannot be context: leave "
            "it out of DataSpec.context.",
            field="DataSpec.context",
            value=column.name,
        )
    names = categories_of(column, known, "categorical" if declared is None else declared.kind, declared, name)
    ordered = column.ordered or (declared is not None and declared.kind == "ordinal")
    return Field(column.name, "ordinal" if ordered else "categorical", names or ("0", "1"), dtype=column.dtype)


def _names(fields: Sequence[Field]) -> tuple[str, ...]:
    names: list[str] = []
    for field in fields:
        names += [f"{field.name}={category}" for category in field.categories] or [field.name]
        names.append(f"{field.name} is missing")
    return tuple(names)


def _numbers(stored: np.ndarray, columns: Sequence[Column], fields: Sequence[Field]) -> np.ndarray:
    """The numbers of a context before they are scaled: one-hot categories, and whether each column is missing."""
    parts = []
    for place, (column, field) in enumerate(zip(columns, fields, strict=True)):
        cells = stored[:, place]
        if not field.categories:
            parts.append(cells)
        elif column.categories is not None:
            texts = {name: number for number, name in enumerate(column.categories)}
            parts += [cells == texts.get(name, -1) for name in field.categories]
        else:
            parts += [cells == number_of(name, column) for name in field.categories]
        parts.append(np.isnan(cells))
    return np.stack(parts, 1).astype(np.float64)
