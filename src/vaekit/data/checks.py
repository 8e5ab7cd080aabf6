"""What is true of the stored values: every cell finite, and a support that they keep to."""

from collections.abc import Callable, Iterator

import numpy as np

from vaekit.data.raw import drop_setting
from vaekit.data.schema import Binary, Count, Levels, Real, Support, Unit
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.errors import ConfigError, DataError

_PART = 1 << 24  # bytes
_LARGEST = float(np.finfo(np.float32).max)


def check_cells(source: Source) -> None:
    """Raise DataError where a cell is NaN, infinite, or too large for 32-bit floats; it names the first."""
    if source.values.dtype.kind != "f":
        return
    bad = ~np.isfinite(source.values)
    if bad.any():
        index = first(bad)
        count = bad.sum() if source.start is None else f"at least {bad.sum()}"
        raise DataError(
            f"{source.name}: {source.values[index]} in {source.place(index)} is the first of {count} cells "
            f"that are NaN or infinite; every cell must be a finite number: fill it in, or leave out "
            f"{_culprits(source, bad)}."
        )
    if source.values.dtype.itemsize > 4 and max(source.values.max(), -source.values.min()) > _LARGEST:
        bad = np.abs(source.values) > _LARGEST
        index = first(bad)
        raise DataError(
            f"{source.name}: {source.values[index]:.4g} in {source.place(index)} is beyond the range of 32-bit "
            f"floats, {_LARGEST:.3g}: rescale it, or leave out {_culprits(source, bad)}."
        )


def stored_support(source: Source, spec: DataSpec) -> Support:
    """The support of the stored values: the declared one, which is then checked, or else the one that they show."""
    if spec.levels is not None and spec.support != "levels":
        raise ConfigError(
            f"DataSpec.levels={spec.levels} needs DataSpec.support=levels, and it is {spec.support}: "
            "set both or neither.",
            field="DataSpec.levels",
            value=spec.levels,
        )
    if spec.support == "auto":
        return source.stored or _infer(source.values)
    declared = _declared(spec, source)
    rule, broken = _rule(declared)
    bad = broken(source.values)
    if bad.any():
        index = first(bad)
        raise DataError(
            f"{source.name}: {source.values[index]} in {source.place(index)} is not allowed by "
            f"DataSpec.support={spec.support}, which means {rule}: mend the data, or use DataSpec.support=auto.",
            field="DataSpec.support",
            value=spec.support,
        )
    return declared


def first(bad: np.ndarray) -> tuple[int, ...]:
    """Index of the first true cell."""
    return tuple(int(place) for place in np.unravel_index(int(bad.argmax()), bad.shape))


def _culprits(source: Source, bad: np.ndarray) -> str:
    """What to leave out so that no bad cell is left: the columns of a table, unless that is most of them."""
    if source.columns is not None:
        places = np.flatnonzero(bad.any(axis=0))
        if len(places) <= min(8, bad.shape[1] - 1):
            return f"the rows, or the columns with {drop_setting([source.columns[place] for place in places])}"
    return "the rows"


def _infer(values: np.ndarray) -> Support:
    image = values.ndim == 4
    if values.dtype.kind == "b" or all(np.all((part == 0) | (part == 1)) for part in _parts(values)):
        return Binary()
    low, high = values.min(), values.max()
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


def _declared(spec: DataSpec, source: Source) -> Support:
    if spec.support == "levels":
        return Levels(spec.levels or _count_levels(source))
    return {"binary": Binary(), "unit": Unit(), "real": Real(), "count": Count()}[spec.support]


def _count_levels(source: Source) -> int:
    if isinstance(source.stored, Levels):
        return source.stored.count
    if source.kind == "image" and source.values.dtype == np.uint8:
        return 256
    return max(2, int(source.values.max()) + 1)


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
        case Real():
            return "a finite number", lambda x: np.zeros(x.shape, bool)
