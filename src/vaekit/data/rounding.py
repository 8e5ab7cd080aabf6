"""By how much stored numbers are off that were rounded to a type, or to some digits after the point."""

import numpy as np

_DECIMALS = 6
_TRIED = 100  # numbers whose digits are counted first


def rounding_of(kind: np.dtype) -> float:
    """By how much of their size numbers may differ that were meant to be equal.

    Some units in the last place of single precision; of double, what a few hundred sums leave; integers none.
    """
    return 0.0 if kind.kind != "f" else 1e-6 if kind.itemsize <= 4 else 1e-13


def middle(cells: np.ndarray) -> float:
    """The middle one of numbers (n,), which is one of them, but for NaN."""
    known = np.sort(cells[~np.isnan(cells)])
    return float(known[len(known) // 2])


def decimals_of(cells: np.ndarray, rounding: float) -> int | None:
    """How many digits after the point all numbers have, but for rounding; None where there are more than a few.

    The first few are tried at once, since columns may be many.

    Args:
        cells: (n,) the numbers.
        rounding: By how much of the largest they may be off, which is at most a hundredth of the last digit.
    """
    cells = cells.astype(np.float64)
    few, off = cells[:_TRIED], rounding * float(np.abs(cells).max(initial=0))
    powers = 10.0 ** np.arange(1, _DECIMALS + 1)
    within = np.minimum(off, 0.01 / powers)
    tried = np.all(np.abs(np.rint(few * powers[:, None]) / powers[:, None] - few) <= within[:, None], axis=1)
    for place in np.flatnonzero(tried).tolist():
        if np.all(np.abs(np.round(cells, place + 1) - cells) <= within[place]):
            return place + 1
    return None
