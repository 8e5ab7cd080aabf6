"""One pass over a table: cells are checked, support, kinds and fingerprint found, and some rows kept in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from vaekit.data.checks import check_cells, check_context, stored_support
from vaekit.data.fields import Facts, most_values
from vaekit.data.part import Part
from vaekit.data.roles import Roles
from vaekit.data.scaling import Moments
from vaekit.data.schema import Binary, Levels, Real, Support
from vaekit.data.spec import DataSpec
from vaekit.data.table import Fingerprint, Table


@dataclass(frozen=True, eq=False)
class Scan:
    """What the pass found.

    Attributes:
        fingerprint: SHA-256, in hexadecimal, over dtype, shape and bytes of values, labels and factors.
        kept: The rows that are kept, in memory, with all columns of the table.
        missing: Whether a cell that is modelled is missing.
        support: Of all values that are modelled, as one; None where columns are looked at one by one.
        facts: Of each column that is modelled; None for arrays, and where a support is declared.
        context: The facts of each column of the context.
        moments: Of the training rows, where they are wanted.
        black_and_white: Whether they are pictures of 256 levels, and each value is the lowest or the highest one.
    """

    fingerprint: str
    kept: Part
    missing: bool
    support: Support | None
    facts: list[Facts] | None
    context: list[Facts]
    moments: Moments | None
    black_and_white: bool = False


def scan(
    roles: Roles, spec: DataSpec, keep: np.ndarray, out: np.ndarray, moments: bool = False, by_column: bool = False
) -> Scan:
    """Read a table once, a chunk at a time.

    Args:
        roles: The table, and which of its columns are modelled.
        spec: The support that is declared, and what becomes of missing cells.
        keep: (n,) rows to keep in memory, by number, in the order in which they are returned.
        out: (m,) rows in rising order that training leaves out.
        moments: Whether to compute those of the training rows.
        by_column: Whether to look at every column by itself, and not for one support of all.

    Raises:
        DataError: A cell is infinite, or is missing and may not be, unless columns are looked at by themselves; or it
            breaks the support that `spec` declares; it names the first.
    """
    table = roles.table
    digest = Fingerprint(table.test_rows)
    digest.begin(table.dtype, (len(table), *table.shape))
    places = range(len(table.columns or ())) if roles.x is None else roles.x
    columns = [] if table.columns is None else [table.columns[place] for place in places]
    facts = [Facts() for _ in columns] if by_column else None
    of_context = [Facts() for _ in roles.context]
    supports: list[Support] = []
    found: Moments | None = None
    missing = False
    two_levels = facts is None and table.kind == "image" and table.dtype == np.uint8
    kept = _Kept(table, keep)
    for start, values in _blocks(table, kept):
        stop = start + len(values)
        digest.add(values)
        x = roles.modelled(values)
        # Which columns are left out, and may miss cells, is known once all rows were seen.
        missing = check_cells(roles, x, start, spec.missing != "refuse" or by_column) or missing
        two_levels = two_levels and bool(((x == 0) | (x == 255)).all())
        if facts is None:
            supports = [_join([*supports, stored_support(roles, x, start, spec)])]
        else:
            for column, known, place in zip(columns, facts, range(len(columns)), strict=True):
                known.add(x[:, place], most_values(column, spec))
        check_context(roles, values, start, spec.missing != "refuse")
        for known, place in zip(of_context, roles.context, strict=True):
            known.add(values[:, place], most_values((table.columns or ())[place], spec))
        if moments:
            first, last = np.searchsorted(out, (start, stop))
            train = np.delete(x, out[first:last] - start, axis=0)
            if len(train):
                here = Moments.of(train, table.kind != "image")
                found = here if found is None else found.join(here)
    for array in (table.labels, table.factors):
        if array is not None:
            digest.begin(array.dtype, array.shape)
            digest.add(array)
    for column in columns:
        if column.categories is not None and column.dtype != "bool":
            digest.texts((column.name, *column.categories))
    support = supports[0] if supports else None
    black_and_white = two_levels and isinstance(support, Levels)
    return Scan(digest.value(), kept.part(), missing, support, facts, of_context, found, black_and_white)


class _Kept:
    """The rows of a table that are kept in memory: copied, or, of a table that is whole in memory, by their numbers.

    Args:
        table: That they are of.
        keep: (n,) their numbers, in the order that they are to have.
    """

    def __init__(self, table: Table, keep: np.ndarray) -> None:
        self._keep, self._whole = keep, table.chunks == 1 and 2 * len(keep) > len(table)
        if self._whole:
            return
        self._values = np.empty((len(keep), *table.shape), table.dtype)
        self._by_row = np.argsort(keep, kind="stable")
        self._rising = keep[self._by_row]

    def add(self, start: int, values: np.ndarray) -> None:
        """Take those among some rows; start: number of the first."""
        if self._whole:
            self._values = values
            return
        first, last = np.searchsorted(self._rising, (start, start + len(values)))
        self._values[self._by_row[first:last]] = values[self._rising[first:last] - start]

    def part(self) -> Part:
        """They, once all rows were seen."""
        if not self._whole:
            return Part(self._values)
        whole = len(self._keep) == len(self._values) and bool((np.diff(self._keep) == 1).all())
        return Part(self._values, index=None if whole else self._keep)


def _blocks(table: Table, kept: _Kept) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a table in blocks, each with the number of its first row; the chunks are given to `kept`."""
    for chunk in range(table.chunks):
        start, values = int(table.starts[chunk]), table.chunk(chunk)
        kept.add(start, values)
        for block in Part(values).blocks():
            yield start, block.stored
            start += len(block)


def _join(supports: list[Support]) -> Support:
    """The support of parts together."""
    return reduce(_either, supports)


def _either(one: Support, other: Support) -> Support:
    """Every part has one or more of: binary, which is within all others; levels; real, which contains all others."""
    if isinstance(one, Levels) and isinstance(other, Levels):
        return one if one.count >= other.count else other
    if isinstance(one, Binary) or isinstance(other, Real):
        return other
    return one
