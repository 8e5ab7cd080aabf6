"""Which columns of a table are modelled, which are context, and which is the label."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from vaekit.data.bounds import check_labels
from vaekit.data.columns import (
    LABEL_NAMES,
    are_classes,
    check_drop,
    check_left,
    drop_setting,
    encode_labels,
    find_name,
    interacting,
    is_number,
    listing,
    nearest,
)
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Table
from vaekit.errors import DataError, SpecError
from vaekit.words import counted

LABEL = "label"
_MOST_CLASSES = 100  # among numbers of a column that nothing but its name says to be labels
_HIDDEN = re.compile(r"^__index_level_\d+__$")  # as pandas writes an index to Parquet


@dataclass(frozen=True, eq=False)
class Roles:
    """A table whose columns have been assigned to roles.

    Attributes:
        table: With the label among its labels, and no longer a column; dropped columns are gone.
        x: The columns that are modelled, by number; None for all, and for arrays.
        context: Those that are context, by number.
        size: The one that is the size of each row, by number; None where there is none, or it is the total.
        total: Whether the size of a row is the total of what is modelled.
        weight: The one that says how much each row counts, by number.
    """

    table: Table
    x: tuple[int, ...] | None = None
    context: tuple[int, ...] = ()
    size: int | None = None
    total: bool = False
    weight: int | None = None

    @property
    def sized(self) -> bool:
        """Whether rows have sizes."""
        return self.total or self.size is not None

    def modelled(self, values: np.ndarray) -> np.ndarray:
        """The cells that are modelled, of rows of the table."""
        return values if self.x is None else values.take(self.x, axis=1)

    def without(self, names: frozenset[str]) -> "Roles":
        """The same, with some columns of the table in no role."""
        columns = self.table.columns
        if columns is None or not names:
            return self
        x = range(len(columns)) if self.x is None else self.x
        return replace(self, x=tuple(place for place in x if columns[place].name not in names))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the columns that are modelled; None of arrays."""
        names = self.table.names
        return names if names is None or self.x is None else tuple(names[place] for place in self.x)


def assign_roles(table: Table, spec: DataSpec) -> Roles:
    """Tell the columns of a table apart, as `spec` says.

    Raises:
        SpecError: A setting for tables is given for arrays, DataSpec.layout says something else than the format, or
            what is named for context cannot be.
        DataError: A column that is named is not there, or none is left to model.
    """
    if spec.layout not in ("auto", table.kind):
        raise SpecError(
            f"DataSpec.layout={spec.layout} is for arrays, and {table.name} holds {table.kind}s: leave it out, or save "
            "the rows as a .npy array.",
            field="DataSpec.layout",
            value=spec.layout,
        )
    if table.columns is None:
        for setting, value in {"drop": list(spec.drop), "columns": dict(spec.columns)}.items():
            if value:
                raise SpecError(
                    f"DataSpec.{setting}={value} is for tables, and {table.name} holds {table.kind}s: leave it out.",
                    field=f"DataSpec.{setting}",
                    value=value,
                )
        for setting, name in (("size_factor", size_column(spec)), ("weight", spec.weight)):
            if name is not None:
                raise SpecError(
                    f"DataSpec.{setting}={name} is a column of a table, and {table.name} holds {table.kind}s: leave it "
                    "out.",
                    field=f"DataSpec.{setting}",
                    value=name,
                )
        return Roles(table, context=_context(table, spec), total=spec.size_factor == "total")
    elsewhere = {
        "label": {spec.label},
        "drop": {*spec.drop},
        "size_factor": {size_column(spec)},
        "weight": {spec.weight},
    }
    for setting, taken in elsewhere.items():
        if twice := [name for name in spec.columns if name in taken and spec.columns[name].kind != "ignore"]:
            raise SpecError(
                f"DataSpec.columns says of what kind {twice[0]!r} is, and by DataSpec.{setting} it is not modelled: "
                "leave one of them out",
                field="DataSpec.columns",
                value=twice[0],
            )
    table = _with_label(table, spec)
    columns = table.columns
    assert columns is not None
    names = [column.name for column in columns]
    check_drop(spec.drop, names, table.name)
    for name in spec.columns:
        if name not in names:
            raise DataError(
                f"DataSpec.columns names {name!r}, which {table.name} does not have{nearest(name, names)}; its columns "
                f"are {listing(names)}.",
                field="DataSpec.columns",
                value=name,
            )
    hidden = [name for name in names if _HIDDEN.match(name) and name not in {*spec.columns, *spec.context, *spec.drop}]
    if hidden:
        said = f"left out: {listing([repr(name) for name in hidden])} (the index of a data frame)"
        table = replace(table, notices=(*table.notices, said))
    dropped = {*spec.drop, *hidden, *(name for name, column in spec.columns.items() if column.kind == "ignore")}
    table = table.pick([place for place, name in enumerate(names) if name not in dropped])
    check_left(table.columns or (), table.name)
    context = _context(table, spec)
    size, weight = (
        None if name is None else _number(table, setting, name)
        for setting, name in (("size_factor", size_column(spec)), ("weight", spec.weight))
    )
    taken = {*context, *(place for place in (size, weight) if place is not None)}
    if len(taken) < len(context) + (size is not None) + (weight is not None):
        raise SpecError(
            "one column has two of the roles that DataSpec.context, DataSpec.size_factor and DataSpec.weight name: "
            "name it once",
            field="DataSpec.context",
        )
    x = tuple(place for place in range(len(table.columns or ())) if place not in taken) if taken else None
    if x == ():
        raise DataError(
            f"{table.name}: every column is context, size or weight: leave some for x", field="DataSpec.context"
        )
    return Roles(table, x, context, size, spec.size_factor == "total", weight)


def size_column(spec: DataSpec) -> str | None:
    """The column that `spec.size_factor` names, if it names one."""
    return None if spec.size_factor in ("auto", "none", "total") else spec.size_factor


def _number(table: Table, setting: str, name: str) -> int:
    """The place of a column that a setting names, and that has to hold numbers."""
    columns = table.columns or ()
    names = [column.name for column in columns]
    why = ""
    if name not in names:
        why = f"which {table.name} does not have{nearest(name, names)}; its columns are {listing(names)}"
    elif not columns[names.index(name)].is_number:
        why = "which holds no numbers: name a column that does"
    if why:
        raise DataError(f"DataSpec.{setting} names {name!r}, {why}.", field=f"DataSpec.{setting}", value=name)
    return names.index(name)


def _with_label(table: Table, spec: DataSpec) -> Table:
    """The table with a column of labels, where there is one, among its labels."""
    if table.labels is not None or spec.label == NO_LABEL:
        return table
    columns = table.columns or ()
    names = [column.name for column in columns]
    if spec.label is not None and spec.label not in names:
        raise DataError(
            f"DataSpec.label names the column {spec.label!r}, which {table.name} does not have"
            f"{nearest(spec.label, names)}; its columns are {listing(names)}.",
            field="DataSpec.label",
            value=spec.label,
        )
    elsewhere = {*spec.drop, *spec.columns, *(spec.context if spec.context != (LABEL,) else ())}
    elsewhere |= {size_column(spec), spec.weight}
    kept = (name for name in names if name not in elsewhere)
    label = spec.label or find_name(kept, LABEL_NAMES)
    if label is None:
        return table
    place = names.index(label)
    cells, categories = table.column(place), columns[place].categories
    if spec.label is None and not are_classes(cells):
        return table
    if spec.label is None and categories is None and len(np.unique(cells)) > _MOST_CLASSES:
        return table  # numbers of so many values are measurements
    if spec.label is None and (holes := int(np.isnan(cells).sum())):
        lacking = counted(holes, "row lacks", "rows lack")
        notice = f"the column {label!r} is modelled, and not taken for the label, which {lacking}"
        return replace(table, notices=(*table.notices, notice))
    what = f"{table.name}: the label"
    if categories is not None:
        check_labels(what, len(cells), max(map(len, categories), default=0))
        cells = np.array([*categories, ""], dtype=str)[np.where(np.isnan(cells), len(categories), cells).astype(int)]
    elif columns[place].dtype == "string":
        raise DataError(
            f"{what} has too many different texts, which are no names of classes: leave it out of the data."
        )
    labels, classes = encode_labels(cells, what)
    table = replace(table.pick([other for other in range(len(columns)) if other != place]), order=tuple(names))
    notice = () if spec.label else (f"the column {label!r} is taken for the label: DataSpec.label=none models it",)
    return replace(table, labels=labels, classes=classes, label=columns[place], notices=(*table.notices, *notice))


def _context(table: Table, spec: DataSpec) -> tuple[int, ...]:
    """The columns that are context, by number; none where it is the label, or nothing."""
    wanted, columns = spec.context, table.names
    if not wanted:
        return ()

    def refused(why: str) -> SpecError:
        return SpecError(f"DataSpec.context{why}", field="DataSpec.context", value=list(wanted))

    if wanted == (LABEL,) and (table.labels is not None or LABEL not in (columns or ())):
        if table.labels is None:
            raise refused(f"=label, but {table.name} has no labels: set DataSpec.label, or leave it out")
        return ()
    if columns is None:
        raise refused(f"={list(wanted)} names columns, and {table.name} is no table: use label")
    twice = next((name for place, name in enumerate(wanted) if name in wanted[:place]), None)
    if twice is not None:
        raise refused(f" names {twice!r} twice: name it once")
    for name in wanted:
        if name == LABEL and name not in columns:
            raise refused(f" is {list(wanted)}: it should be label alone, or columns")
        if name not in columns:
            raise refused(f" names {name!r}, which {table.name} does not have{nearest(name, columns)}")
    if len(wanted) == len(columns):
        raise refused(" names every column: leave some for x")
    return tuple(columns.index(name) for name in wanted)


def refuse_text(roles: Roles, categorical: Collection[str] | None = None, shares: bool = False) -> None:
    """Raise DataError where columns that are to be modelled as numbers hold something else.

    Args:
        roles: Which columns are modelled.
        categorical: For a model that is trained, the names of the columns that may.
        shares: Whether the likelihood divides a row's total among its columns, as of ratings.
    """
    columns = roles.table.columns or ()
    places = range(len(columns)) if roles.x is None else roles.x
    text = [place for place in places if not columns[place].is_number and columns[place].dtype != "bool"]
    if categorical is not None:
        text = [place for place in text if columns[place].name not in categorical]
        if text:
            raise DataError(
                f"{roles.table.name}: the column {columns[text[0]].name!r} holds {_what_is_in(roles.table, text[0])}, "
                "and the model was trained on numbers there: correct it, or leave it empty."
            )
        return
    if text:
        names = [columns[place].name for place in text]
        fix = f"make it the labels with DataSpec.label={names[0]}, " if len(names) == 1 else ""
        fix = f"leave out what is text with {drop_setting(names)}, {fix}or give every column a likelihood of its own "
        fix += "with likelihood=columns"
        if (pair := interacting(columns)) is not None or (shares and len(columns) > 1):
            first, second = pair or tuple(column.name for column in columns[:2])
            fix = (
                "where each row is an interaction, say which columns hold the users and the items, as in "
                f"DataSpec.rows={first} DataSpec.items={second}"
            )
        raise DataError(
            f"{roles.table.name}: the column {names[0]!r} holds {_what_is_in(roles.table, text[0])}, and columns of "
            f"one kind must be numbers: {fix}."
        )


def _what_is_in(table: Table, place: int) -> str:
    """The first cell of a column that is no number, and its row; what it is in general where that is not known."""
    column = (table.columns or ())[place]
    if column.odd is not None:
        return f"{column.odd[0][:60]!r} in row {column.odd[1]} (counted from 0)"
    if column.categories is None:
        return {"datetime": "dates", "string": "text"}.get(column.dtype, "neither numbers nor text")
    cells = table.column(place)
    words = np.array([not is_number(name) for name in column.categories])
    known = np.where(np.isnan(cells), 0, cells).astype(np.int64)
    found = ~np.isnan(cells) & (words[known] if words.any() else True)
    row = int(found.argmax())
    return f"{column.categories[known[row]][:60]!r} in row {row} (counted from 0)"
