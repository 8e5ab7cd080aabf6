"""How stored values become x: x = (stored - loc) / scale."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaekit.data.checks import first
from vaekit.data.raw import drop_setting
from vaekit.data.schema import Binary, Count, Levels, Real, Support, Unit
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Scaling:
    """How values are scaled: x = (stored - loc) / scale.

    Attributes:
        loc, scale: one number, or one per column; None where there is no scaling.
        support: of x.
    """

    loc: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    support: Support

    def apply(self, values: np.ndarray, source: Source) -> np.ndarray:
        """Scaled values (n, *shape) as float32.

        Raises:
            DataError: the result leaves the range of float32.
        """
        if self.loc is None or self.scale is None:
            return values.astype(np.float32)
        with np.errstate(over="ignore"):
            x = ((values - np.asarray(self.loc)) / np.asarray(self.scale)).astype(np.float32)
        if not np.isfinite(x).all():
            place = source.place(first(~np.isfinite(x))).split(", ", 1)[1]
            raise DataError(
                f"{source.name}: {place} has values so far from those of the training rows that they overflow when "
                "standardised: correct the outlier, or leave the row out."
            )
        return x


def choose_scale(spec: DataSpec, stored: Support, discrete: bool) -> Literal["none", "unit", "standard"]:
    """The scale that `spec` names, or that the stored support and the kind of likelihood call for.

    Raises:
        ConfigError: the scale makes no sense for the support.
    """
    if spec.binarise != "none":
        if not isinstance(stored, Levels | Unit):
            raise ConfigError(
                f"DataSpec.binarise={spec.binarise} needs grey values (levels, or the unit interval), and the data is "
                f"{stored}: leave it out, or declare DataSpec.support.",
                field="DataSpec.binarise",
                value=spec.binarise,
            )
        if spec.scale == "standard":
            raise ConfigError(
                "DataSpec.scale=standard cannot be combined with DataSpec.binarise, after which values are 0 or 1: "
                "leave one of them out.",
                field="DataSpec.scale",
                value=spec.scale,
            )
        return "none"
    if spec.scale == "unit" and not isinstance(stored, Levels | Unit | Binary):
        raise ConfigError(
            f"DataSpec.scale=unit divides levels by the highest one, and the data is {stored}, which has none: "
            "use DataSpec.scale=standard or none.",
            field="DataSpec.scale",
            value=spec.scale,
        )
    if spec.scale == "standard" and isinstance(stored, Binary):
        raise ConfigError(
            "DataSpec.scale=standard makes no sense for binary data: use DataSpec.scale=none, or declare "
            "DataSpec.support=real.",
            field="DataSpec.scale",
            value=spec.scale,
        )
    if spec.scale != "auto":
        return spec.scale
    if discrete and isinstance(stored, Levels | Count):
        return "none"
    if isinstance(stored, Levels):
        return "unit"
    return "none" if isinstance(stored, Binary | Unit) else "standard"


@dataclass(frozen=True, eq=False)
class Moments:
    """What standardising needs to know of `rows` rows: for each column of a table, or once for images, (columns,)."""

    rows: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, by_column: bool) -> "Moments":
        """The moments of values (n, *shape), in float64."""
        axes = 0 if by_column else None
        return cls(
            rows=len(values),
            low=np.atleast_1d(values.min(axis=axes)),
            high=np.atleast_1d(values.max(axis=axes)),
            mean=np.atleast_1d(values.mean(axis=axes, dtype=np.float64)),
            std=np.atleast_1d(values.std(axis=axes, dtype=np.float64)),
        )

    def join(self, other: "Moments") -> "Moments":
        """The moments of these rows and others together (Chan, Golub and LeVeque 1979)."""
        rows = self.rows + other.rows
        share, gap = other.rows / rows, other.mean - self.mean
        variance = (1 - share) * self.std**2 + share * other.std**2 + share * (1 - share) * gap**2
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Moments(rows, low, high, self.mean + share * gap, np.sqrt(variance))


def fit_scaling(how: str, stored: Support, train: np.ndarray | Moments, source: Source) -> Scaling:
    """The scaling `how` for data of the support `stored`, fitted on the training rows (n, *shape), or their moments."""
    if how == "unit" and isinstance(stored, Levels):
        return Scaling((0.0,), (float(stored.count - 1),), Unit())
    if how != "standard":
        return Scaling(None, None, stored)
    fit = train if isinstance(train, Moments) else Moments.of(train, source.columns is not None)
    # The mean of equal numbers may be rounded away from them, so the extremes are compared; what differs by
    # rounding alone would be scaled up to noise, beside which any other value is enormous.
    low, high = fit.low.astype(np.float64), fit.high.astype(np.float64)  # whose difference cannot overflow
    size, rounding = np.maximum(np.abs(low), np.abs(high)), _rounding(source.values.dtype)
    constant = (high - low <= rounding * size) | (fit.std == 0)
    if constant.any():
        raise _constant(source, constant, fit.rows)
    return Scaling(tuple(fit.mean.tolist()), tuple(fit.std.tolist()), Real())


def _rounding(kind: np.dtype) -> float:
    """By how much of their size numbers may differ that were meant to be equal.

    Some units in the last place of single precision; of double, what is far below single precision, in which networks
    compute; integers none.
    """
    return 0.0 if kind.kind != "f" else 1e-6 if kind.itemsize <= 4 else 1e-9


def _constant(source: Source, constant: np.ndarray, rows: int) -> DataError:
    if rows == 1:
        return DataError(
            f"{source.name} has one training row, and standardising needs at least two that differ: add rows."
        )
    if source.columns is None:
        return DataError(
            f"{source.name}: every pixel of the {rows} training rows has the same value, which cannot be "
            "standardised: use DataSpec.scale=none."
        )
    columns = [source.columns[place] for place in np.flatnonzero(constant)]
    if len(columns) == len(source.columns):
        return DataError(
            f"{source.name}: every column is constant in the {rows} training rows, so nothing can be standardised, "
            "nor is there anything to learn: give rows that differ."
        )
    which = f"the column {columns[0]!r} is" if len(columns) == 1 else f"{len(columns)} columns are"
    return DataError(
        f"{source.name}: {which} constant in the {rows} training rows and cannot be standardised: leave out what "
        f"is constant with {drop_setting(columns)}."
    )
