"""Interactions of users with items, one in each row of a table, as a row for each user and a column for each item."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data.bounds import MOST_SPARSE_COLUMNS
from vaekit.data.columns import listing, nearest
from vaekit.data.in_memory import sparse_table
from vaekit.data.spec import DataSpec
from vaekit.data.table import Table
from vaekit.errors import DataError, SpecError
from vaekit.words import counted

_LARGEST = 1 << 53  # whole number up to which double precision holds every one


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who had to do with what.

    Attributes:
        users, items: names of the rows and the columns of the matrix.
        matrix: (users, items), a sparse matrix in compressed rows: 1 for each interaction, or its value.
        unknown: How many interactions were left out, since their user or item is not among those wanted.
        repeated: How many came more than once.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    matrix: Any
    unknown: int
    repeated: int


def interactions_of(
    table: Table,
    spec: DataSpec,
    users: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    other_items: bool = False,
) -> Interactions:
    """The interactions in a table, by the columns that `spec.rows`, `spec.items` and `spec.values` name.

    Without values, an interaction that comes more than once is one; with them, its values are added.

    Args:
        table: An interaction in each row.
        spec: Which names the columns.
        users: Those that are wanted, in this order, such as those of the training rows; by default those that occur,
            in rising order.
        items: As users.
        other_items: Whether the items that occur and are not among `items` come after these; else they are left out.

    Raises:
        SpecError: One of the columns for users and items is named, and the other is not.
        DataError: A column is not there, or a cell is missing or no name.
    """
    from scipy import sparse

    if spec.rows is None or spec.items is None:
        raise SpecError(
            f"DataSpec.rows={spec.rows} and DataSpec.items={spec.items}: name both, the columns of users and of items.",
            field="DataSpec.rows" if spec.rows is None else "DataSpec.items",
            value=None,
        )
    row, users, no_user = _numbered(table, spec.rows, "rows", users)
    column, items, no_item = _numbered(table, spec.items, "items", items, other_items)
    if spec.values is None:
        values = np.ones(len(table), np.uint8)
    else:
        values = table.column(_place(table, spec.values, "values"))
        if not np.isfinite(values).all():
            raise _bad(table, spec.values, int((~np.isfinite(values)).argmax()), "no finite number")
    known = ~(no_user | no_item)
    shape = (len(users), len(items))
    matrix = sparse.coo_array((values[known], (row[known], column[known])), shape)
    places = row[known] * shape[1] + column[known]
    repeated = len(places) - len(np.unique(places))
    if spec.values is None:
        matrix = sparse.coo_array((np.ones(len(places), np.int64), (row[known], column[known])), shape).tocsr()
        matrix.data = np.ones(len(matrix.data), np.uint8)
    else:
        matrix = matrix.tocsr()
    return Interactions(tuple(users), tuple(items), matrix, int((~known).sum()), repeated)


def by_user(table: Table, spec: DataSpec, items: Sequence[str] | None = None) -> Table:
    """A table of interactions as a row for each user and a column for each item; see `interactions_of`."""
    found = interactions_of(table, spec, items=items)
    if len(found.items) > MOST_SPARSE_COLUMNS:
        raise DataError(
            f"{table.name} has {len(found.items):,} items, and at most {MOST_SPARSE_COLUMNS:,} are read: leave out "
            "those that hardly any user had to do with."
        )
    notices = []
    if found.unknown:
        unknown = counted(found.unknown, "interaction")
        notices.append(f"{unknown} with items that the model does not know left out")
    if found.repeated:
        how = "counted once" if spec.values is None else "their values added"
        repeated = counted(found.repeated, "interaction repeats", "interactions repeat")
        notices.append(f"{repeated} another of the same user and item: {how}")
    matrix = found.matrix if spec.values is None else found.matrix.astype(np.float32)
    return sparse_table(
        table.name,
        matrix,
        found.items,
        note=f"{counted(len(found.users), 'user')} ({spec.rows}) and "
        f"{counted(len(found.items), 'item')} ({spec.items})",
        notices=tuple(notices),
    )


def _place(table: Table, name: str, setting: str) -> int:
    names = table.names or ()
    if name not in names:
        raise DataError(
            f"DataSpec.{setting} names the column {name!r}, which {table.name} does not have{nearest(name, names)}; "
            f"its columns are {listing(names)}.",
            field=f"DataSpec.{setting}",
            value=name,
        )
    return names.index(name)


def _numbered(
    table: Table, name: str, setting: str, wanted: Sequence[str] | None, others: bool = False
) -> tuple[np.ndarray, Sequence[str], np.ndarray]:
    """For each row the number of the name in a column, the names, and in which rows it is none of those wanted."""
    place = _place(table, name, setting)
    column, cells = (table.columns or ())[place], table.column(place)
    if not column.is_number and column.categories is None:
        raise DataError(f"{table.name}: the column {name!r} holds dates, or too many different texts: number them.")
    missing = np.isnan(cells)
    if missing.any():
        raise _bad(table, name, int(missing.argmax()), "missing")
    if column.categories is None and len(cells) and np.abs(cells).max() >= _LARGEST:
        raise _bad(table, name, int(np.abs(cells).argmax()), "a number too long to be a name: save it as text")
    different, numbers = np.unique(cells, return_inverse=True)
    if column.categories is None:
        names = [str(int(value)) if value == np.floor(value) else str(value) for value in different.tolist()]
    else:
        names = [column.categories[int(value)] for value in different]
    if wanted is None:
        return numbers, names, np.zeros(len(cells), bool)
    known = {one: number for number, one in enumerate(wanted)}
    if others:
        wanted = [*wanted, *(one for one in names if one not in known)]
        known = {one: number for number, one in enumerate(wanted)}
    found = np.array([known.get(one, -1) for one in names], np.int64)[numbers]
    return found, wanted, found < 0


def _bad(table: Table, name: str, row: int, why: str) -> DataError:
    return DataError(f"{table.name}: the cell in row {row} (counted from 0), column {name!r}, is {why}.")
