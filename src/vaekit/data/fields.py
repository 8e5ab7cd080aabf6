"""What the columns of a table are: their kinds, and those that are left out of the model."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vaekit.data.columns import category_name, is_number, listing, refuse_odd, unnamed
from vaekit.data.rounding import decimals_of, middle, rounding_of
from vaekit.data.schema import Constant, Field, FieldKind
from vaekit.data.spec import ColumnSpec, DataSpec
from vaekit.data.table import Column
from vaekit.errors import DataError

MOST_CATEGORIES = 10_000
MOST_ORDINAL = 20  # different whole numbers that are taken for steps of a scale
_MOST_SAID = 5  # columns in an error
_ROWS_OF_EACH = 10  # that a scale has on average
_SKEWED = 2.0
_VERY_FEW, _FEW = 200, 10_000  # numbers, of which the different ones are counted first
_IDENTIFIER = re.compile(
    r"(?i)^(id|.*[_ ]id|(?-i:.*[a-z]I[dD])|index|level_0|row|row[_ ]?(number|id)|uuid|guid|uid|user|item|unnamed: \d+)$"
)
_TIME = re.compile(r"(?i)(^|.*[_ ])(time|timestamp|date|datetime|unix|epoch|ts|at)([_ ].*)?$|.*(timestamp|datetime)$")
_DATE = re.compile(r"^\d{4}-\d\d(-\d\d|$)")  # of which the order of the alphabet is that of time
# From 1980 to 2100, in seconds, milliseconds, microseconds and nanoseconds since 1970.
_EPOCHS = tuple((3.1e8 * unit, 4.1e9 * unit) for unit in (1.0, 1e3, 1e6, 1e9))


@dataclass
class Facts:
    """What all rows of a column show, found a chunk at a time.

    Attributes:
        rows, missing: how many there are, and how many cells are missing.
        hole: The first row whose cell is missing; None where none is.
        whole: Whether every number is an integer.
        low, high: of the numbers.
        counts: Of each number, where there are few different ones, or of each category.
        runs: Whether the numbers count the rows.
    """

    rows: int = 0
    missing: int = 0
    hole: int | None = None
    whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    counts: dict[float, int] | None = field(default_factory=dict)
    runs: bool = True

    def add(self, cells: np.ndarray, most: int) -> None:
        """Take the next cells, (n,), of a column that may have so many different values."""
        known = cells[~np.isnan(cells)] if cells.dtype.kind == "f" else cells
        start, self.rows = self.rows, self.rows + len(cells)
        self.missing += len(cells) - len(known)
        if self.hole is None and len(known) < len(cells):
            self.hole = start + int(np.isnan(cells).argmax())
        if len(known) == 0:
            self.runs = False
            return
        first = self.low if start else float(cells[0])
        self.runs = (
            self.runs and len(known) == len(cells) and bool((cells == first + np.arange(start, self.rows)).all())
        )
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        self.whole = self.whole and bool((known == np.floor(known)).all())
        if self.counts is None:
            return
        if any(len(known) > few and len(np.unique(known[:few])) > most for few in (_VERY_FEW, _FEW)):
            self.counts = None
            return
        for value, count in zip(*(part.tolist() for part in _counted(known, self.whole)), strict=True):
            self.counts[value] = self.counts.get(value, 0) + count
        if len(self.counts) > most:
            self.counts = None


def _counted(known: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """The different values of numbers (n,), and how often each occurs; whole: whether they are integers."""
    low, high = known.min(), known.max()
    if not whole or known.dtype.kind == "b" or float(high) - float(low) >= _FEW:
        return np.unique(known, return_counts=True)
    counts = np.bincount((known - low).astype(np.int64))
    there = np.flatnonzero(counts)
    return (there + low).astype(known.dtype), counts[there]


def most_values(column: Column, spec: DataSpec) -> int:
    """How many different values of a column are counted."""
    declared = spec.columns.get(column.name)
    if column.categories is not None:
        return len(column.categories)
    return MOST_CATEGORIES if declared is not None and declared.has_categories else 64


@dataclass(frozen=True)
class Found:
    """What the columns are.

    Attributes:
        fields: Those to be modelled, in their order.
        constants: Those of one value.
        ignored: The names of the others, each with why it is left out.
        of_levels: What to say of the levels of those that are declared to be ordinal.
    """

    fields: tuple[Field, ...]
    constants: tuple[Constant, ...]
    ignored: dict[str, str]
    of_levels: tuple[str, ...] = ()

    @property
    def left_out(self) -> frozenset[str]:
        """The names of all that are not modelled."""
        return frozenset({*self.ignored, *(constant.name for constant in self.constants)})

    @property
    def notices(self) -> tuple[str, ...]:
        """What to say of the columns that are left out."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.ignored.items():
            by_reason.setdefault(why, []).append(name)
        said = [f"left out: {listing([repr(name) for name in names])} ({why})" for why, names in by_reason.items()]
        return (*said, *self.of_levels, *notice_of_constants(self.constants))


def notice_of_constants(constants: Sequence[Constant]) -> tuple[str, ...]:
    """What to say of columns of one value; nothing where there is none."""
    names = [repr(constant.name) for constant in constants]
    return (f"not modelled, and put back into samples: {listing(names)} (constant)",) if names else ()


def find_fields(
    columns: list[Column], facts: list[Facts], some: Callable[[int], np.ndarray], spec: DataSpec, name: str
) -> Found:
    """The kinds of columns, by what all rows show and, for their shape, some rows.

    Args:
        columns: As the file has them.
        facts: Of each.
        some: The cells of a column by its number, (n,), of the training rows or a sample of rows.
        spec: Whose `columns` declare kinds.
        name: Of the table, for errors.

    Raises:
        DataError: A declared kind does not fit the column, or none is left.
    """
    fields, constants, ignored, of_levels = [], [], {}, []
    headed = {column.name for column in columns} != set(unnamed(columns))
    for place, (column, known) in enumerate(zip(columns, facts, strict=True)):
        declared = spec.columns.get(column.name)
        if declared is None or declared.is_number:
            refuse_odd(column, name)
        if declared is None and (why := _why_ignored(column, known, headed and column.name == "column 0")):
            ignored[column.name] = why
        elif declared is None and _is_constant(column, known):
            value = known.low if known.low == known.high else middle(some(place))
            value = value if column.categories is None else column.categories[int(value)]
            constants.append(Constant(column.name, value, column.dtype))
        else:
            cells = some(place)
            fields.append(_field(column, known, cells[~np.isnan(cells)], declared, name))
            if declared is not None and declared.kind == "ordinal":
                of_levels += _notices_of_levels(column, known, declared)
    if not fields:
        why = [f"{column!r} is left out ({reason})" for column, reason in list(ignored.items())[:_MOST_SAID]]
        why += ["all others are constant" if ignored else "all are constant"] if constants else []
        raise DataError(
            f"{name}: no column is left to model: {'; '.join(why)}: give columns that vary, or declare kinds with "
            "DataSpec.columns."
        )
    return Found(tuple(fields), tuple(constants), ignored, tuple(of_levels))


def _is_constant(column: Column, known: Facts) -> bool:
    """Whether numbers do not vary but by rounding, or all texts are one."""
    rounding = 0.0 if known.whole else rounding_of(column.stored)
    return known.high - known.low <= rounding * max(abs(known.low), abs(known.high))


def _why_ignored(column: Column, known: Facts, nameless: bool) -> str:
    """Why a column is left out unless it is declared; empty where it is modelled.

    nameless: whether it is the first of a table, and the only one without a name, as the index of a data frame is.
    """
    if column.holds and column.categories is None:
        return column.holds
    if known.missing == known.rows and column.is_number:
        return "empty"
    if not column.is_number:
        if column.categories is None:
            return "free text"
        used = len(known.counts or ())
        if used > 2 and used >= known.rows - known.missing:
            return "identifier: every row has another text"
        if used > MOST_CATEGORIES or (used > 100 and used > (known.rows - known.missing) / 2):
            return "free text"
        return ""
    if known.rows > 2 and known.runs and known.low in (0, 1):
        return "identifier: it counts the rows"
    values = math.inf if known.counts is None else len(known.counts)
    many = known.whole and (values > MOST_ORDINAL or values == known.rows > 2)
    if many and nameless:
        return "identifier: it has no name, as the index of a data frame"
    if many and _IDENTIFIER.match(column.name):
        return "identifier, by its name"
    if many and _TIME.match(column.name) and any(low <= known.low <= known.high <= high for low, high in _EPOCHS):
        return "timestamps"
    return ""


def _field(column: Column, known: Facts, cells: np.ndarray, declared: ColumnSpec | None, name: str) -> Field:
    kind = _kind(column, known, cells) if declared is None else declared.kind
    if declared is not None:
        check_kind(column, known, declared.kind, name)
    assert kind != "ignore"
    if kind in ("binary", "categorical", "ordinal"):
        return Field(column.name, kind, categories_of(column, known, kind, declared, name), dtype=column.dtype)
    decimals = 0 if known.whole else decimals_of(cells, rounding_of(column.stored))
    return Field(column.name, kind, dtype=column.dtype, decimals=decimals)


def _kind(column: Column, known: Facts, cells: np.ndarray) -> FieldKind:
    values = len(known.counts) if known.counts is not None else math.inf
    if column.ordered and values > 1:
        return "ordinal"
    if column.categories is not None or values == 2:
        return "binary" if values <= 2 else "categorical"
    if values <= MOST_ORDINAL and known.rows >= _ROWS_OF_EACH * values and (known.whole or _recur(known)):
        return "ordinal"
    if known.whole:
        return "count" if known.low >= 0 else "real"
    return "positive" if known.low > 0 and _is_skewed(cells) else "real"


def _recur(known: Facts) -> bool:
    """Whether at least half of the different numbers of a column occur more than once."""
    counts = (known.counts or {}).values()
    return 2 * sum(count == 1 for count in counts) <= len(counts)


def _notices_of_levels(column: Column, known: Facts, declared: ColumnSpec) -> list[str]:
    """What to say of a column that is declared to be ordinal: that the alphabet orders it, or levels do not occur."""
    found = _names_of(column, known)
    if unused := [level for level in _levels_of(column, declared) if level not in found]:
        return [
            f"no row has {listing([repr(level) for level in unused])}, which is among the levels of {column.name!r}"
        ]
    ordered = column.ordered or declared.levels or column.categories is None
    if ordered or all(is_number(text) or _DATE.match(text) for text in found):
        return []
    return [f"{column.name!r} is ordinal in the order of the alphabet: DataSpec.columns says another one by levels"]


def _is_skewed(cells: np.ndarray) -> bool:
    """Whether the logarithms of positive numbers are nearer to symmetric than the numbers, which are far from it."""
    return len(cells) >= 20 and _skew(cells) > _SKEWED and abs(_skew(np.log(cells))) < _skew(cells) / 2


def _skew(cells: np.ndarray) -> float:
    centred = cells.astype(np.float64) - cells.mean(dtype=np.float64)
    spread = np.sqrt((centred**2).mean())
    return float(((centred / spread) ** 3).mean()) if spread > 0 else 0.0


def check_kind(column: Column, known: Facts, kind: str, name: str, varies: bool = True) -> None:
    """Raise DataError where cells of a column cannot be of the kind that is declared; varies: whether they have to."""
    values = len(known.counts) if known.counts is not None else math.inf
    wrong = ""
    if column.categories is None and not column.is_number:
        wrong = f"it holds {column.holds or 'too many different texts'}: use ignore"
        if column.dtype == "datetime" and kind in ("real", "positive", "count"):
            wrong = f"it holds {column.holds}: use categorical, ordinal or ignore"
    elif known.missing == known.rows:
        wrong = "every cell is missing: use ignore"
    elif not column.is_number and kind in ("real", "positive", "count"):
        wrong = "it holds text: use categorical, ordinal or ignore"
    elif varies and kind in ("real", "positive") and _is_constant(column, known):
        wrong = "it has one value in every row, which no density can be fitted to: leave the declaration out"
    elif kind == "positive" and known.low <= 0:
        wrong = f"its lowest number is {known.low:g}: use real"
    elif kind == "count" and (not known.whole or known.low < 0):
        wrong = f"its numbers are {'negative' if known.whole else 'not all whole'}: use real"
    elif kind == "binary" and values > 2:
        wrong = "it has more than two values: use categorical"
    elif kind in ("categorical", "ordinal") and values > MOST_CATEGORIES:
        wrong = f"it has more than {MOST_CATEGORIES:,} values: use real, count or ignore"
    if wrong:
        raise DataError(
            f"{name}: the column {column.name!r} cannot be {kind}, as DataSpec.columns says: {wrong}.",
            field="DataSpec.columns",
            value=column.name,
        )


def categories_of(column: Column, known: Facts, kind: str, declared: ColumnSpec | None, name: str) -> tuple[str, ...]:
    """The names of the categories, in their order: those that occur, or the levels that are declared.

    None of a binary column that holds 0 and 1 itself.

    Raises:
        DataError: A level is missing among those declared.
    """
    found = _names_of(column, known)
    if kind == "ordinal" and not column.ordered and all(map(is_number, found)):
        found = tuple(sorted(found, key=float))
    if declared is not None and declared.levels:
        given = _levels_of(column, declared)
        if lacking := [text for text in found if text not in given]:
            raise DataError(
                f"{name}: the column {column.name!r} has cells that are none of the levels {listing(declared.levels)} "
                f"in DataSpec.columns: {listing([repr(text) for text in lacking])}: name every level that occurs.",
                field="DataSpec.columns",
                value=column.name,
            )
        return given
    return () if kind == "binary" and column.categories is None and {"0", "1"}.issuperset(found) else found


def _names_of(column: Column, known: Facts) -> tuple[str, ...]:
    """The names of the categories that occur, in the order of their numbers."""
    used = sorted(known.counts or {})
    if column.categories is not None:
        return tuple(column.categories[int(number)] for number in used)
    return tuple(category_name(column.stored.type(value)) for value in used)


def _levels_of(column: Column, declared: ColumnSpec) -> tuple[str, ...]:
    """The levels that are declared, by the names that the categories of the column have."""
    of_numbers = column.categories is None
    return tuple(category_name(float(text)) if of_numbers and is_number(text) else text for text in declared.levels)
