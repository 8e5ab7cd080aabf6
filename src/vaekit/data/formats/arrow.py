# pyright: reportAttributeAccessIssue=false
"""Columns of Arrow as columns of a `Table`: numbers, and the numbers of categories."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vaekit.data.bounds import MOST_TEXT_BYTES, MOST_TEXTS
from vaekit.data.columns import category_name, check_distinct
from vaekit.data.formats.odd_texts import OddTexts, may_have_odd
from vaekit.data.formats.texts import PLAIN
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column, Table
from vaekit.errors import DataError
from vaekit.words import counted

_BOOLEANS = ("False", "True")
_MIDNIGHT = " 00:00:00"
MIXED = {b"vaekit": b"mixed"}  # metadata of a field of texts of which some were numbers

Parts = Callable[[], Iterable[pa.Array]]  # the cells of a column, as often as they are wanted


def table_of_arrow(name: str, arrow: pa.Table, spec: DataSpec, notices: tuple[str, ...] = (), **facts: object) -> Table:
    """A table of Arrow in memory."""
    check_distinct(arrow.column_names, name)
    found = [column_of_cells(field, partial(iter, arrow[field.name].chunks), spec) for field in arrow.schema]
    columns = tuple(column for column, _ in found)
    values = np.empty((len(arrow), len(columns)), np.result_type(*(column.stored for column in columns)))
    for place, column in enumerate(columns):
        values[:, place] = cells_of(arrow[column.name], column)
    notices += tuple(notice for _, notice in found if notice)
    return Table.of(name, values, columns=columns, notices=notices, **facts)


def table_of_file(path: Path, arrow: pa.Table, spec: DataSpec) -> Table:
    """A table that was read from a file; DataError where it has no rows or no columns."""
    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise DataError(
            f"{path} has {counted(arrow.num_rows, 'row')} and {counted(arrow.num_columns, 'column')}; some of both are "
            "needed."
        )
    return table_of_arrow(path.name, arrow, spec)


def column_of_cells(field: pa.Field, parts: Parts, spec: DataSpec) -> tuple[Column, str]:
    """What a field of Arrow is, by its type and, where it has categories, by its cells; and what to say of it.

    Texts that are numbers, but for a few that are usual for missing cells, are numbers where there are many different
    ones, where some were numbers in the source, or where they are declared to be. Times are categories where they are
    declared to be.
    """
    declared = spec.columns.get(field.name)
    as_texts = _is_time(field.type) and declared is not None and declared.has_categories
    if not (is_named(field.type) or as_texts):
        return column_of(field, None), ""
    coded = pa.types.is_dictionary(field.type)
    odd = OddTexts(field.name, spec) if is_text(field.type) and not coded and may_have_odd(field.name, spec) else None
    categories, ordered = _categories(parts, coded and field.type.ordered, odd)
    column = replace(column_of(field, categories), ordered=ordered)
    if odd is None or not odd.few:
        return column, ""
    different = odd.different(None if categories is None else set(categories))
    if different <= 1:
        return column, ""
    start = 0
    for cells in parts():
        odd.count(pc.utf8_trim_whitespace(as_text(cells)), start)
        start += len(cells)
    if odd.of_codes:
        return column, ""
    mixed = (field.metadata or {}).items() >= MIXED.items()
    if odd.usual and (mixed or odd.among_numbers(different)):
        numbers = pa.field(field.name, pa.int64() if odd.whole else pa.float64())
        return column_of(numbers, None), odd.notice
    return replace(column, odd=odd.first(different)), ""


def column_of(field: pa.Field, categories: Sequence[str] | None, stored: np.dtype | None = None) -> Column:
    """What a field of Arrow is; `categories` where it has some, `stored` the type that its numbers are read in."""
    kind, dtype = field.type, "object"
    of_numbers = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_boolean(kind):
        categories, dtype = _BOOLEANS, "bool"
    elif is_numeric(of_numbers):
        whole = not (pa.types.is_null(of_numbers) or pa.types.is_decimal(of_numbers))
        dtype = str(of_numbers.to_pandas_dtype().__name__).rstrip("_") if whole else "float64"
        dtype = f"category[{dtype}]" if pa.types.is_dictionary(kind) else dtype
    elif pa.types.is_dictionary(kind) and is_named(kind):
        dtype = "category"
    elif is_text(kind):
        dtype = "string"
    elif _is_time(kind):
        dtype = "datetime" if categories is None else "string"
    elif pa.types.is_temporal(kind):
        dtype = "timedelta"
    return Column(field.name, dtype, None if categories is None else tuple(categories), stored or stored_type(kind))


def stored_type(kind: pa.DataType) -> np.dtype:
    """float32 where that holds every number of a type (floats of up to 32 bits, integers of up to 16), else float64."""
    small = (
        pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    )
    if small or (pa.types.is_integer(kind) and kind.bit_width <= 16):
        return np.dtype(np.float32)
    return np.dtype(np.float64)


def cells_of(cells: pa.ChunkedArray, column: Column) -> np.ndarray:
    """The cells of a column as numbers, (rows,) float64: NaN where one is missing, or is no number nor category."""
    kind = cells.type
    if is_numeric(kind):
        return pc.cast(cells, pa.float64(), safe=False).to_numpy()
    if column.categories is None and not (column.is_number and is_text(kind)):
        return np.full(len(cells), np.nan)
    each = [_numbered(chunk, column.categories) for chunk in cells.chunks]
    return np.concatenate(each or [np.empty(0)])


def _numbered(cells: pa.Array, categories: Sequence[str] | None) -> np.ndarray:
    """The numbers of the categories of texts, or the numbers that texts are; of a dictionary, each is read once."""
    coded = pa.types.is_dictionary(cells.type)
    texts = as_text(cells.dictionary if coded else cells)
    if categories is None:
        trimmed = pc.utf8_trim_whitespace(texts)
        known = pc.if_else(pc.match_substring_regex(trimmed, PLAIN), trimmed, pa.scalar(None, texts.type))
        found = pc.cast(known, pa.float64())
    else:
        found = pc.cast(pc.index_in(texts, pa.array(categories, texts.type)), pa.float64())
    numbers = found.to_numpy(zero_copy_only=False)
    if not coded:
        return numbers
    places = pc.cast(cells.indices, pa.float64()).to_numpy(zero_copy_only=False)
    known = ~np.isnan(places)
    found = np.full(len(cells), np.nan)
    found[known] = numbers[places[known].astype(np.int64)]
    return found


def as_text(cells: pa.Array) -> pa.Array:
    """Cells of any type that is a number, a text or a time as texts; a time at midnight is its date.

    Texts that polars has as views, in which Arrow can neither look up nor take, become strings.
    """
    if pa.types.is_dictionary(cells.type):
        return as_text(cells.dictionary).take(cells.indices)
    if pa.types.is_string_view(cells.type):
        return pc.cast(cells, pa.large_string())
    if is_text(cells.type):
        return cells
    if pa.types.is_boolean(cells.type):
        return pc.utf8_capitalize(pc.cast(cells, pa.string()))
    if pa.types.is_floating(cells.type):
        return pa.array([None if cell is None else category_name(cell) for cell in cells.to_pylist()], pa.string())
    if not pa.types.is_temporal(cells.type):
        return pc.cast(cells, pa.string())
    whole = pc.replace_substring_regex(pc.cast(cells, pa.string()), r"\.0+(Z?)$", r"\1")
    return pc.replace_substring_regex(whole, f"{_MIDNIGHT}$", "")


def _categories(parts: Parts, ordered: bool, odd: OddTexts | None) -> tuple[tuple[str, ...] | None, bool]:
    """The different texts of a column, and whether they have an order; None where there are too many.

    They are sorted, but for those of a type with an order, which is that of the longest of its dictionaries, if all
    others follow it. `odd` looks at them.
    """
    found: set[str] | None = set()
    orders: set[tuple[str, ...]] = set()
    size = 0
    for cells in parts():
        if pa.types.is_dictionary(cells.type):
            dictionary = as_text(cells.dictionary)
            texts = dictionary.take(pc.unique(cells.indices).drop_null()).drop_null()
            orders |= {tuple(dictionary.to_pylist())} if ordered and len(dictionary) <= MOST_TEXTS else set()
        else:
            texts = as_text(pc.unique(cells)).drop_null()
        if odd is not None and odd.few:
            odd.look([text.strip() for text in texts.to_pylist()])
        if len(texts) > MOST_TEXTS or texts.nbytes > MOST_TEXT_BYTES:
            found = None
        elif found is not None:
            new = set(texts.to_pylist()) - found
            found |= new
            size += sum(map(len, new))
            found = found if len(found) <= MOST_TEXTS and size <= MOST_TEXT_BYTES else None
        if found is None and (odd is None or not odd.few):
            return None, False
    if found is None:
        return None, False
    longest = max(orders, key=len, default=())
    ordered = ordered and all(_follows(order, longest) for order in orders)
    in_order = [text for text in longest if text in found] if ordered else sorted(found)
    return tuple(in_order), ordered


def _follows(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether some texts are among others, in their order."""
    rest = iter(whole)
    return all(text in rest for text in part)


def is_named(kind: pa.DataType) -> bool:
    """Whether cells of this type are categories: texts, or those of a dictionary of numbers, texts or times."""
    if not pa.types.is_dictionary(kind):
        return is_text(kind)
    return is_text(kind) or is_numeric(kind.value_type) or _is_time(kind.value_type)


def _is_time(kind: pa.DataType) -> bool:
    """Whether a column of this type holds dates, times of day or both."""
    duration = pa.types.is_duration(kind) or pa.types.is_interval(kind)
    return pa.types.is_temporal(kind) and not duration


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return any(
        is_one(kind)
        for is_one in (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_null,
            pa.types.is_decimal,
        )
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
