"""How stored values become x: x = (stored - loc) / scale."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaekit.data.checks import first
from vaekit.data.raw import drop_setting
from vaekit.data.schema import Binary, Levels, Real, Support, Unit
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Scaling:
    """loc, scale: one number, or one per column. support: of x."""

    loc: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    support: Support

    def apply(self, values: np.ndarray, source: Source) -> np.ndarray:
        """values (n, *shape) as float32, scaled. Raises DataError where the result leaves the range of float32."""
        if self.loc is None or self.scale is None:
            return values.astype(np.float32)
        with np.errstate(over="ignore"):
            x = ((values - np.asarray(self.loc)) / np.asarray(self.scale)).astype(np.float32)
        if not np.isfinite(x).all():
            place = source.place(first(~np.isfinite(x))).split(", ", 1)[1]
            raise DataError(
                f"{source.name}: {place} has values so far from those of the training rows that they overflow when "
                "standardised: mend the outlier, or use data.scale=none."
            )
        return x


def choose_scale(spec: DataSpec, stored: Support, discrete: bool) -> Literal["none", "unit", "standard"]:
    """The scale that `spec` asks for, or that the stored support and the kind of likelihood call for.

    Raises ConfigError where the scale makes no sense for the support.
    """
    if spec.binarise != "none":
        if not isinstance(stored, Levels | Unit):
            raise ConfigError(
                f"data.binarise={spec.binarise} needs grey values (levels, or the unit interval), and the data is "
                f"{stored}: leave it out, or declare data.support."
            )
        if spec.scale == "standard":
            raise ConfigError(
                "data.scale=standard cannot be combined with data.binarise, after which values are 0 or 1: "
                "leave one of them out."
            )
        return "none"
    if spec.scale == "unit" and not isinstance(stored, Levels | Unit | Binary):
        raise ConfigError(
            f"data.scale=unit divides levels by the highest one, and the data is {stored}, which has none: "
            "use data.scale=standard or none."
        )
    if spec.scale == "standard" and isinstance(stored, Binary):
        raise ConfigError(
            "data.scale=standard makes no sense for binary data: use data.scale=none, or declare data.support=real."
        )
    if spec.scale != "auto":
        return spec.scale
    if isinstance(stored, Levels):
        return "none" if discrete else "unit"
    return "none" if isinstance(stored, Binary | Unit) else "standard"


def fit_scaling(how: str, stored: Support, train: np.ndarray, source: Source) -> Scaling:
    """The scaling `how` for data of the support `stored`, fitted on the training rows (n, *shape)."""
    if how == "unit" and isinstance(stored, Levels):
        return Scaling((0.0,), (float(stored.count - 1),), Unit())
    if how != "standard":
        return Scaling(None, None, stored)
    axes = 0 if source.columns is not None else None
    # The mean of equal numbers may be rounded away from them, so equality is asked of the extremes.
    constant = np.atleast_1d(train.min(axis=axes) == train.max(axis=axes))
    scale = np.atleast_1d(train.std(axis=axes, dtype=np.float64))
    if (constant := constant | (scale == 0)).any():
        raise _constant(source, constant, len(train))
    loc = np.atleast_1d(train.mean(axis=axes, dtype=np.float64))
    return Scaling(tuple(loc.tolist()), tuple(scale.tolist()), Real())


def _constant(source: Source, constant: np.ndarray, rows: int) -> DataError:
    if rows == 1:
        return DataError(
            f"{source.name} has one training row, and standardising needs at least two that differ: "
            "add rows, or use data.scale=none."
        )
    if source.columns is None:
        return DataError(
            f"{source.name}: every pixel of the {rows} training rows has the same value, which cannot be "
            "standardised: use data.scale=none."
        )
    columns = [source.columns[place] for place in np.flatnonzero(constant)]
    if len(columns) == len(source.columns):
        return DataError(
            f"{source.name}: every column is constant in the {rows} training rows, so nothing can be standardised: "
            "use data.scale=none."
        )
    which = f"the column {columns[0]!r} is" if len(columns) == 1 else f"{len(columns)} columns are"
    return DataError(
        f"{source.name}: {which} constant in the {rows} training rows and cannot be standardised: leave out what "
        f"is constant with {drop_setting(columns)}, or use data.scale=none."
    )
