"""Names of columns, and labels as numbers of classes."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence

import numpy as np

from vaekit.data.table import Column
from vaekit.errors import DataError
from vaekit.words import counted

LABEL_NAMES = ("label", "labels", "target", "class", "y")
_MOST_OF_INTERACTIONS = 8  # columns of a table of interactions of users with items, taken for one by their names
_NUMBERED = "s?([_ ]?(id|name|number|no|code|index))?$"
_USERS = re.compile(f"(?i)^(u|user|customer|client|reviewer|visitor|member|reader|viewer|listener|author){_NUMBERED}")
_ITEMS = re.compile(f"(?i)^(i|item|product|article|movie|film|book|song|track|artist|asin|isbn|sku|recipe){_NUMBERED}")


def are_classes(values: np.ndarray) -> bool:
    """Whether values could be labels: one per row, and text, integers, or floats that are integers."""
    if values.ndim != 1:
        return False
    if values.dtype.kind == "f":
        known = values[~np.isnan(values)]
        return bool(np.all(np.isfinite(known) & (known == np.floor(known))))
    return values.dtype.kind in "biuSU"


def encode_labels(values: np.ndarray, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as (n,) int64 numbers of classes, and the classes' names, sorted.

    Raises:
        DataError: A label is missing, or the values are measurements and not classes.
    """
    if not are_classes(values):
        raise DataError(
            f"{what} holds {values.dtype} of shape {values.shape}, not classes; labels are one integer or text "
            "per row: leave DataSpec.label out.",
            field="DataSpec.label",
        )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    kind = values.dtype.kind
    missing = np.isnan(values) if kind == "f" else values == "" if kind == "U" else np.zeros(1, bool)
    if missing.any():
        raise DataError(
            f"{what} is missing in {counted(missing.sum(), 'row')}, first in row {missing.argmax()} (counted from 0); "
            "labels must be complete or absent: fill them in, or leave the labels out with DataSpec.label=none.",
            field="DataSpec.label",
        )
    classes, codes = np.unique(values, return_inverse=True)
    names = [int(name) for name in classes] if classes.dtype.kind == "f" else classes.tolist()
    return codes.astype(np.int64), tuple(unicode(str(name)) for name in names)


def unicode(text: str) -> str:
    """A text with what is not Unicode in it, as in a file's name in another encoding, written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def find_name(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of `names` that is one of `wanted`, in any case, in the order of `wanted`."""
    by_folded = {name.casefold(): name for name in reversed(list(names))}
    return next((by_folded[name.casefold()] for name in wanted if name.casefold() in by_folded), None)


def is_number(text: str) -> bool:
    """Whether a text is a number as Python writes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def category_name(number: float | np.number) -> str:
    """What a category is called that is a number: its digits, as few as tell it from others of its type."""
    return str(int(number)) if float(number).is_integer() else str(number)


def nearest(name: str, names: Iterable[str]) -> str:
    """A parenthesis that names the likeliest of `names`, or nothing."""
    names = list(names)[:1000]  # a comparison takes long, and longer for long names
    close = difflib.get_close_matches(name, names, n=1) if len(name) <= 200 else []
    return f" (did you mean {close[0]}?)" if close else ""


def listing(names: Sequence[str], most: int = 12) -> str:
    """Names for an error message: all of them, or the first few and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_short, names[:most])) + more


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


def numbered(width: int, stored: np.dtype) -> tuple[Column, ...]:
    """So many columns without names, of an array of this type: they are called by their numbers."""
    return tuple(Column(name, stored.name, stored=stored) for name in unnamed(range(width)))


def unnamed(columns: Sequence[object]) -> tuple[str, ...]:
    """The names that so many columns have if they have none."""
    return tuple(f"column {place}" for place in range(len(columns)))


def interacting(columns: Sequence[Column]) -> tuple[str, str] | None:
    """The columns that hold users and items, by their names, of a table that may have an interaction in each row."""
    names = [column.name for column in columns]
    users, items = ([name for name in names if form.match(name)] for form in (_USERS, _ITEMS))
    return (users[0], items[0]) if users and items and len(names) <= _MOST_OF_INTERACTIONS else None


def check_distinct(names: Sequence[str], what: str) -> None:
    """Raise DataError where two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{what} has two columns named {name!r}; names must differ: rename one of them.")
        seen.add(name)


def check_drop(drop: Sequence[str], columns: Sequence[str], what: str) -> None:
    """Raise DataError where a column that is to be dropped is not there."""
    known = set(columns)
    for name in drop:
        if name not in known:
            raise DataError(
                f"DataSpec.drop names the column {name!r}, which {what} does not have{nearest(name, columns)}; "
                f"its columns are {listing(columns)}.",
                field="DataSpec.drop",
                value=list(drop),
            )


def refuse_odd(column: Column, what: str) -> None:
    """Raise DataError where the cells of a column are numbers but for a few."""
    if column.odd is None:
        return
    text, row = column.odd
    raise DataError(
        f"{what}: the cells of the column {column.name!r} are numbers, but for {text[:60]!r} in row {row} (counted "
        f"from 0): correct it or leave it empty, as DataSpec.missing_values=[{json.dumps(text[:60])}] does in a CSV "
        "file, or declare the column with DataSpec.columns, as categorical or ignore.",
        field="DataSpec.columns",
        value=column.name,
    )


def check_left(columns: Sequence[object], what: str) -> None:
    """Raise DataError where no column of data is left."""
    if not columns:
        raise DataError(f"{what}: no column of data is left; DataSpec.drop and DataSpec.label must leave at least one.")


def drop_setting(columns: Sequence[str]) -> str:
    """The setting that leaves these columns out, as it would be typed."""
    quoted = [json.dumps(name, ensure_ascii=False) for name in columns]
    return f"DataSpec.drop=[{listing(quoted)}]"
