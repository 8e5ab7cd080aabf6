"""From the numbers of a column that was modelled to its cells as the source has them: texts, integers, booleans."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_BOOLEAN = "bool"
_CATEGORY = "category"


def restored(
    cells: np.ndarray, dtype: str, categories: Sequence[str] = (), decimals: int | None = None, ordered: bool = False
) -> pa.Array:
    """A column of Arrow.

    Args:
        cells: (n,) numbers in the units of the source, or of categories; NaN becomes a missing cell.
        dtype: Of the column, as pandas calls it. Of integers, cells are rounded.
        categories: What the numbers stand for, as text; none where they stand for themselves.
        decimals: To which floats are rounded, if at all.
        ordered: Whether the categories of the dtype "category" are in their order.
    """
    cells = cells.astype(np.float64)
    missing = np.isnan(cells)
    if categories:
        codes = np.where(missing, 0, cells).round().clip(0, len(categories) - 1).astype(np.int32)
        if dtype.startswith(f"{_CATEGORY}["):
            values = restored(np.arange(len(categories)), dtype[len(_CATEGORY) + 1 : -1], categories)
            return pa.DictionaryArray.from_arrays(pa.array(codes, mask=missing), values, ordered=ordered)
        if _is_text(dtype):
            numbers, texts = pa.array(codes, mask=missing), pa.array(categories, pa.string())
            coded = pa.DictionaryArray.from_arrays(numbers, texts, ordered=ordered)
            return coded if dtype == _CATEGORY else coded.dictionary_decode()
        cells = np.array([_number(text) for text in categories])[codes]
    kind = _type(dtype)
    if kind.kind == "b":
        return pa.array(cells >= 0.5, mask=missing)
    if kind.kind in "iu":
        # Doubles do not reach the highest 64-bit integers: the next one above it would overflow.
        low, high = np.iinfo(kind).min, np.nextafter(float(np.iinfo(kind).max) + 1, 0)
        return pa.array(np.where(missing, 0, cells).round().clip(low, high).astype(kind), mask=missing)
    return pa.array((cells if decimals is None else cells.round(decimals)).astype(kind), mask=missing)


def constant(value: float | str, dtype: str, rows: int) -> pa.Array:
    """A column with the same value in every row."""
    if isinstance(value, str):
        return restored(np.zeros(rows), dtype, (value,))
    return restored(np.full(rows, value), dtype)


def _is_text(dtype: str) -> bool:
    return dtype == _CATEGORY or (dtype != _BOOLEAN and _type(dtype).kind not in "iuf")


def _type(dtype: str) -> np.dtype:
    """The type of a column's cells; of one that NumPy has not, such as text, that of objects."""
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(object)


def _number(text: str) -> float:
    return float(text == "True") if text in ("False", "True") else float(text)
