"""How stored values become x: x = (stored - loc) / scale."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vaekit.data.checks import first
from vaekit.data.columns import drop_setting
from vaekit.data.fields import Facts
from vaekit.data.roles import Roles
from vaekit.data.rounding import rounding_of
from vaekit.data.schema import Binary, Count, Field, Levels, Mixed, Real, Support, Unit
from vaekit.data.spec import DataSpec
from vaekit.errors import DataError, SpecError


@dataclass(frozen=True)
class Scaling:
    """How values are scaled: x = (stored - loc) / scale.

    Attributes:
        loc, scale: one number, or one per column; None where there is no scaling.
        support: Of x.
    """

    loc: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    support: Support

    def apply(self, values: np.ndarray, roles: Roles) -> np.ndarray:
        """Scaled values (n, *shape) as float32; NaN stays NaN.

        Raises:
            DataError: The result leaves the range of float32.
        """
        if self.loc is None or self.scale is None:
            return values.astype(np.float32)
        with np.errstate(over="ignore"):
            x = ((values - along(self.loc, values)) / along(self.scale, values)).astype(np.float32)
        if np.isinf(x).any():
            _, *cell = first(np.isinf(x))
            cell = cell if roles.x is None else [roles.x[cell[0]]]
            place = roles.table.place(0, tuple(cell)).split(", ", 1)[1]
            raise DataError(
                f"{roles.table.name}: {place} has values so far from those of the training rows that they overflow "
                "when standardised: correct the outlier, or leave the row out."
            )
        return x


def choose_scale(spec: DataSpec, stored: Support, discrete: bool) -> Literal["none", "unit", "standard"]:
    """The scale that `spec` names, or that the stored support and the kind of likelihood call for.

    Raises:
        SpecError: The scale makes no sense for the support.
    """
    if spec.binarise != "none":
        if not isinstance(stored, Levels | Unit):
            raise SpecError(
                f"DataSpec.binarise={spec.binarise} needs grey values (levels, or the unit interval), and the data is "
                f"{stored}: leave it out, or declare DataSpec.support.",
                field="DataSpec.binarise",
                value=spec.binarise,
            )
        if spec.scale == "standard":
            raise SpecError(
                "DataSpec.scale=standard cannot be combined with DataSpec.binarise, after which values are 0 or 1: "
                "leave one of them out.",
                field="DataSpec.scale",
                value=spec.scale,
            )
        return "none"
    if spec.scale == "unit" and not isinstance(stored, Levels | Unit | Binary):
        raise SpecError(
            f"DataSpec.scale=unit divides levels by the highest one, and the data is {stored}, which has none: "
            "use DataSpec.scale=standard or none.",
            field="DataSpec.scale",
            value=spec.scale,
        )
    if spec.scale == "standard" and isinstance(stored, Binary):
        raise SpecError(
            "DataSpec.scale=standard makes no sense for binary data: use DataSpec.scale=none, or declare "
            "DataSpec.support=real.",
            field="DataSpec.scale",
            value=spec.scale,
        )
    if isinstance(stored, Mixed):
        return "none"
    if spec.scale != "auto":
        return spec.scale
    if discrete and isinstance(stored, Levels | Count):
        return "none"
    if isinstance(stored, Levels):
        return "unit"
    return "none" if isinstance(stored, Binary | Unit) else "standard"


def along(numbers: tuple[float, ...], values: np.ndarray) -> np.ndarray:
    """One number, or one for each column or channel, so that they go with values (n, *shape)."""
    return np.asarray(numbers).reshape(-1, *[1] * (values.ndim - 2))


@dataclass(frozen=True, eq=False)
class Moments:
    """What standardising needs to know of rows: of each column or channel, or once for all, (columns,)."""

    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, each: bool) -> "Moments":
        """The moments of values (n, *shape), in float64.

        Args:
            values: Of which NaN is left out.
            each: By columns or channels, and not once for all.
        """
        axes = (0, *range(2, values.ndim)) if each else None
        known = None if values.dtype.kind != "f" or not np.isnan(values).any() else ~np.isnan(values)
        low, high = np.fmin, np.fmax
        if known is None:
            mean, std = values.mean(axis=axes, dtype=np.float64), values.std(axis=axes, dtype=np.float64)
            rows = np.full(np.shape(mean), len(values))
        else:
            rows = known.sum(axis=axes)
            with np.errstate(invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of a column that is missing throughout
                mean = np.nan_to_num(np.nanmean(values, axis=axes, dtype=np.float64))
                std = np.nan_to_num(np.nanstd(values, axis=axes, dtype=np.float64))
        bounds = (bound.reduce(values, axis=axes) for bound in (low, high))
        return cls(*(np.atleast_1d(part) for part in (rows, *bounds, mean, std)))

    def join(self, other: "Moments") -> "Moments":
        """The moments of these rows and others together (Chan, Golub and LeVeque 1979)."""
        rows = self.rows + other.rows
        share, gap = other.rows / np.maximum(rows, 1), other.mean - self.mean
        variance = (1 - share) * self.std**2 + share * other.std**2 + share * (1 - share) * gap**2
        low, high = np.fmin(self.low, other.low), np.fmax(self.high, other.high)
        return Moments(rows, low, high, self.mean + share * gap, np.sqrt(variance))

    def __getitem__(self, places: Sequence[int]) -> "Moments":
        """Those of some columns."""
        parts = (self.rows, self.low, self.high, self.mean, self.std)
        return Moments(*(part[list(places)] for part in parts))

    @property
    def constant(self) -> np.ndarray:
        """Which columns or channels do not vary but by rounding.

        The mean of equal numbers may be rounded away from them, so the extremes are compared; what differs by rounding
        alone would be scaled up to noise, beside which any other value is enormous.
        """
        size = np.maximum(np.abs(self.low.astype(np.float64)), np.abs(self.high.astype(np.float64)))
        return (self.range <= rounding_of(self.low.dtype) * size) | (self.std == 0)

    @property
    def centre(self) -> np.ndarray:
        """The mean; of a constant itself, from which the mean may be rounded away."""
        return np.where(self.constant & (self.rows > 0), self.low, self.mean)

    @property
    def range(self) -> np.ndarray:
        """Between the extremes, in double precision, in which it cannot overflow."""
        return self.high.astype(np.float64) - self.low.astype(np.float64)


def fit_scaling(how: str, stored: Support, fit: Moments | None, seen: Moments | None, roles: Roles) -> Scaling:
    """The scaling `how` for data of the support `stored`.

    Args:
        how: "none", "unit" or "standard".
        stored: The support of the values as they are stored.
        fit: Moments of the training rows, by which values are standardised.
        seen: Of these and all rows that are kept in memory, by whose range a column is scaled that is constant in the
            training rows alone.
        roles: The table, for errors.

    Raises:
        DataError: A column does not vary.
    """
    if how == "unit" and isinstance(stored, Levels):
        return Scaling((0.0,), (float(stored.count - 1),), Unit())
    if how != "standard":
        return Scaling(None, None, stored)
    assert fit is not None
    assert seen is not None
    constant = fit.constant if fit.constant.all() else fit.constant & seen.constant
    if constant.any():
        raise _constant(roles, fit, constant)
    scale = np.where(fit.constant, seen.range, fit.std)
    return Scaling(tuple(fit.centre.tolist()), tuple(scale.tolist()), Real())


def fit_fields(fields: tuple[Field, ...], fit: Moments, facts: Sequence[Facts]) -> tuple[Field, ...]:
    """The fields with the location and scale of their numbers, by the moments of the training rows.

    Args:
        fields: In the order of the columns.
        fit: Of the training rows.
        facts: Of all rows, by which a column is scaled that is constant in the training rows.
    """
    fitted = []
    for place, (one, known) in enumerate(zip(fields, facts, strict=True)):
        mean, std = float(fit.mean[place]), float(fit.std[place])
        if one.kind == "real":
            spread = std if not fit.constant[place] else known.high - known.low
            fitted.append(replace(one, loc=float(fit.centre[place]), scale=spread or 1.0))
        else:
            fitted.append(replace(one, scale=mean if mean > 0 else known.high) if one.kind == "positive" else one)
    return tuple(fitted)


def _constant(roles: Roles, fit: Moments, which: np.ndarray) -> DataError:
    name, rows, columns = roles.table.name, int(fit.rows.max()), roles.names
    if rows == 1:
        return DataError(f"{name} has one training row, and standardising needs at least two that differ: add rows.")
    if columns is None:
        what = "pixel" if roles.table.kind == "image" else "value"
        where = "" if len(which) == 1 else f" of channel {int(which.argmax())}"
        return DataError(
            f"{name}: every {what}{where} of the {rows} training rows has the same value, which cannot be "
            "standardised: use DataSpec.scale=none."
        )
    constant = [columns[place] for place in np.flatnonzero(which)]
    if len(constant) == len(columns):
        return DataError(
            f"{name}: every column is constant in the {rows} training rows, so nothing can be standardised, "
            "nor is there anything to learn: give rows that differ."
        )
    what = f"the column {constant[0]!r} is" if len(constant) == 1 else f"{len(constant)} columns are"
    return DataError(
        f"{name}: {what} constant in the {rows} training rows and cannot be standardised: leave out what "
        f"is constant with {drop_setting(constant)}."
    )
