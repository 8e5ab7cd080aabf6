"""What is true of the stored values: every known cell finite, and a support that they keep to."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vaekit.data.columns import drop_setting
from vaekit.data.fields import Facts
from vaekit.data.roles import Roles
from vaekit.data.schema import Binary, Count, Field, Levels, Mixed, Real, Support, Unit
from vaekit.data.spec import DataSpec
from vaekit.data.table import Table
from vaekit.errors import DataError, SpecError
from vaekit.words import counted, plural

_PART = 1 << 24  # bytes
_LARGEST = float(np.finfo(np.float32).max)


def check_cells(roles: Roles, x: np.ndarray, start: int, may_miss: bool) -> bool:
    """Whether a cell of some rows is missing.

    Args:
        roles: The table that they are of.
        x: (n, *shape) the rows, of what is modelled.
        start: Number of the first.
        may_miss: Whether cells may be missing.

    Raises:
        DataError: A cell is infinite, too large for 32-bit floats, or missing where none may be; it names the first.
    """
    if x.dtype.kind != "f":
        return False
    bad = ~np.isfinite(x)
    missing = bad.any()
    if missing and may_miss:
        bad = np.isinf(x)
    if bad.any():
        index = first(bad)
        count = f"{bad.sum()}" if len(x) == len(roles.table) else f"at least {bad.sum()}"
        what = "infinite" if may_miss else "missing (NaN) or infinite"
        fix = "" if may_miss else ", or leave missing cells out of the likelihood with DataSpec.missing=mask"
        raise DataError(
            f"{roles.table.name}: {x[index]} in {_place(roles, index, start)} is the first of {count} "
            f"{plural(bad.sum(), 'cell that is', 'cells that are')} {what}; every cell must be a finite number: fill "
            f"it in, or leave out {_culprits(roles, _columns_of(bad))}{fix}."
        )
    if x.dtype.itemsize > 4 and max(np.fmax.reduce(x, axis=None), -np.fmin.reduce(x, axis=None)) > _LARGEST:
        bad = np.abs(x) > _LARGEST
        index = first(bad)
        raise DataError(
            f"{roles.table.name}: {x[index]:.4g} in {_place(roles, index, start)} is beyond the range of 32-bit "
            f"floats, {_LARGEST:.3g}: rescale it, or leave out {_culprits(roles, _columns_of(bad))}."
        )
    return bool(missing)


def refuse_missing(roles: Roles, facts: Sequence[Facts]) -> None:
    """Raise DataError where a cell of a table is missing; it names the first.

    facts: of each column that is modelled.
    """
    holes = [(known.hole, place) for place, known in enumerate(facts) if known.hole is not None]
    if not holes:
        return
    row, place = min(holes)
    cells = sum(known.missing for known in facts)
    raise DataError(
        f"{roles.table.name}: {_place(roles, (row, place), 0)} is the first of "
        f"{counted(cells, 'cell that is', 'cells that are')} missing: fill it in, or leave out "
        f"{_culprits(roles, [place for _, place in holes])}, or leave missing cells out of the likelihood with "
        "DataSpec.missing=mask.",
        field="DataSpec.missing",
        value="refuse",
    )


def check_context(roles: Roles, values: np.ndarray, start: int, may_miss: bool) -> None:
    """Raise DataError where a cell of the context is infinite, or missing where none may be; see `check_cells`."""
    context = values[:, list(roles.context)] if roles.context else values[:0]
    if context.dtype.kind != "f":
        return
    bad = np.isinf(context) if may_miss else ~np.isfinite(context)
    if bad.any():
        row, at = first(bad)
        place = roles.table.place(start + row, (roles.context[at],))
        raise DataError(
            f"{place} is {context[row, at]}: a context must be finite: fill it in, or leave out the row or the column"
        )


def stored_support(roles: Roles, x: np.ndarray, start: int, spec: DataSpec) -> Support:
    """The support of stored values: the declared one, which is then checked, or else the one that they show.

    Args:
        roles: The table that they are of.
        x: (n, *shape) some rows or all, of what is modelled.
        start: Number of the first.
        spec: Which may declare the support.

    Raises:
        DataError: A value breaks the support that is declared.
    """
    table = roles.table
    if spec.support == "auto":
        return table.stored or _infer(x)
    declared = _declared(spec, table, x)
    rule, broken = _rule(declared)
    bad = broken(x) & ~np.isnan(x) if x.dtype.kind == "f" else broken(x)
    if bad.any():
        index = first(bad)
        raise DataError(
            f"{table.name}: {x[index]} in {_place(roles, index, start)} is not allowed by "
            f"DataSpec.support={spec.support}, which means {rule}: correct the data, or use DataSpec.support=auto.",
            field="DataSpec.support",
            value=spec.support,
        )
    return declared


def check_levels(spec: DataSpec) -> None:
    """Raise SpecError where a number of levels is set and levels are not declared."""
    if spec.levels is not None and spec.support != "levels":
        raise SpecError(
            f"DataSpec.levels={spec.levels} needs DataSpec.support=levels, and it is {spec.support}: "
            "set both or neither.",
            field="DataSpec.levels",
            value=spec.levels,
        )


def check_kinds(roles: Roles, x: np.ndarray, fields: tuple[Field, ...]) -> None:
    """Raise DataError where cells of a table, (n, columns), cannot be of the kind that their column is."""
    rules: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
        "count": ("a whole number, 0 or more", lambda cells: (cells < 0) | (cells != np.floor(cells))),
        "positive": ("a number above 0", lambda cells: cells <= 0),
    }
    for place, field in enumerate(fields):
        if field.kind not in rules:
            continue
        rule, broken = rules[field.kind]
        cells = x[:, place]
        bad = broken(cells) & ~np.isnan(cells)
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"{roles.table.name}: {cells[row]:g} in row {row} (counted from 0), column {field.name!r}, is not "
                f"{rule}, as the model was trained on: correct it, or leave it empty."
            )


def first(bad: np.ndarray) -> tuple[int, ...]:
    """Index of the first true cell."""
    return tuple(int(place) for place in np.unravel_index(int(bad.argmax()), bad.shape))


def _place(roles: Roles, index: tuple[int, ...], start: int) -> str:
    row, *cell = index
    if roles.x is not None:
        cell = [roles.x[cell[0]]]
    return roles.table.place(start + row, tuple(cell))


def _columns_of(bad: np.ndarray) -> Sequence[int]:
    return np.flatnonzero(bad.any(axis=0)).tolist() if bad.ndim == 2 else []


def _culprits(roles: Roles, places: Sequence[int]) -> str:
    """What to leave out so that no bad cell is left: the columns of a table, unless that is most of them."""
    if roles.names is not None and len(places) <= min(8, len(roles.names) - 1):
        return f"the rows, or the columns with {drop_setting([roles.names[place] for place in sorted(places)])}"
    return "the rows"


def _infer(values: np.ndarray) -> Support:
    image = values.ndim >= 4  # or a volume
    if values.dtype.kind == "b" or all(np.all((part == 0) | (part == 1) | (part != part)) for part in _parts(values)):
        return Binary()
    low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    if image and values.dtype == np.uint8:
        return Levels(256)
    if image and values.dtype.kind in "iu" and low >= 0 and high <= 255:
        return Levels(int(high) + 1)
    if image and values.dtype.kind == "f" and low >= 0 and high <= 1:
        return Unit()
    return Real()


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """The values in runs of rows, so that what is computed of each takes little memory."""
    rows = max(1, _PART * len(values) // max(1, values.nbytes))
    return (values[start : start + rows] for start in range(0, len(values), rows))


def _declared(spec: DataSpec, table: Table, x: np.ndarray) -> Support:
    if spec.support == "levels":
        return Levels(spec.levels or _count_levels(table, x))
    return {"binary": Binary(), "unit": Unit(), "real": Real(), "count": Count()}[spec.support]


def _count_levels(table: Table, x: np.ndarray) -> int:
    if isinstance(table.stored, Levels):
        return table.stored.count
    if table.kind == "image" and x.dtype == np.uint8:
        return 256
    return max(2, int(np.fmax.reduce(x, axis=None)) + 1)


def _rule(support: Support) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The rule that a support sets, in words, and where an array breaks it."""
    match support:
        case Binary():
            return "0 or 1", lambda x: (x != 0) & (x != 1)
        case Levels(count=count):
            return f"an integer from 0 to {count - 1}", lambda x: (x < 0) | (x >= count) | (x != np.floor(x))
        case Unit():
            return "a number from 0 to 1", lambda x: (x < 0) | (x > 1)
        case Count():
            return "a non-negative integer", lambda x: (x < 0) | (x != np.floor(x))
        case Real() | Mixed():
            return "a finite number", lambda x: np.zeros(x.shape, bool)
