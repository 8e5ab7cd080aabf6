"""What is known of each row besides its values: the size of a row of counts, and how much a row counts."""

import math

import numpy as np

from vaekit.data.roles import Roles
from vaekit.data.schema import Weight
from vaekit.errors import DataError


def sizes_of(roles: Roles, values: np.ndarray) -> np.ndarray:
    """The sizes of rows of counts, (n,): a column, or the total of the cells that are modelled and known, at least 1.

    Args:
        roles: Say which column is the size, or that it is the total.
        values: (n, ...) rows of the table as they are stored.
    """
    if roles.size is not None:
        return values[:, roles.size].astype(np.float64)
    x = roles.modelled(values)
    return np.maximum(np.nansum(x, axis=tuple(range(1, x.ndim)), dtype=np.float64), 1.0)


def all_sizes(roles: Roles) -> np.ndarray:
    """The sizes of all rows of the table, (n,), read a chunk at a time.

    Raises:
        DataError: A size is missing, infinite, or not above 0.
    """
    table = roles.table
    if roles.size is not None:
        return _checked(roles, roles.size, "DataSpec.size_factor", above=True)
    return np.concatenate([sizes_of(roles, table.chunk(number)) for number in range(table.chunks)])


def all_weights(roles: Roles) -> np.ndarray:
    """The weights of all rows of the table, (n,), as they are stored.

    Raises:
        DataError: A weight is missing, infinite, or below 0.
    """
    assert roles.weight is not None
    return _checked(roles, roles.weight, "DataSpec.weight", above=False)


def fit_weight(name: str, weights: np.ndarray) -> Weight:
    """What the weights of training rows are divided by, so that their mean is 1.

    Args:
        name: Of their column.
        weights: (n,) of the training rows, as they are stored.

    Raises:
        DataError: All are 0.
    """
    mean = math.fsum(weights.tolist()) / max(1, len(weights))
    if mean <= 0:
        raise DataError(
            f"the column {name!r} holds the weights of rows, and all of the training rows have weight 0: give some a "
            "weight above 0, or leave out DataSpec.weight.",
            field="DataSpec.weight",
            value=name,
        )
    return Weight(name, mean)


def _checked(roles: Roles, place: int, setting: str, above: bool) -> np.ndarray:
    """A column of numbers, (n,), or DataError where one is not finite or too low."""
    table = roles.table
    cells = table.column(place).astype(np.float64)
    bad = ~np.isfinite(cells) | ((cells <= 0) if above else (cells < 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{table.name}: {cells[row]:g} in {table.place(row, (place,))}, is the first of {bad.sum()} that "
            f"{setting} cannot be: it takes finite numbers {'above 0' if above else 'that are not below 0'}. Correct "
            "them, or leave out the rows.",
            field=setting,
            value=(table.names or ())[place],
        )
    return cells
