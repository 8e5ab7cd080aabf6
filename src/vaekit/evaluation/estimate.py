"""Estimate: a number with its error, its unit and its warning."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-7  # of a value: an error below that is one of single precision
PLACES, LARGEST = 7, 1e9  # after the point, and before it: beyond them a number is written with a power of ten


@dataclass(frozen=True, repr=False)
class Estimate:
    """A number with its standard error, its unit and its warning.

    Attributes:
        value: The mean over rows, or another statistic; None where it is not defined, and `warning` says why.
        stderr: Its standard error.
        n: How many rows it was computed from; of rows with weights, the effective sample size.
        unit: Of the value, as "nats".
        warning: What limits its meaning; empty for nothing.
        scaled: Of a log-density of rows as they are stored, that of the rows as the model sees them; else None.

    Example:
        >>> print(Estimate(-92.13, 0.41, 180, "nats"))
        -92.13 ± 0.41 nats
    """

    value: float | None
    stderr: float
    n: int
    unit: str
    warning: str = ""
    scaled: float | None = None

    def __str__(self) -> str:
        value, error = self.numbers()
        if self.value is None:
            return value
        number = f"{value} ± {error} {self.unit}" if error else f"{value} {self.unit}"
        return number if self.scaled is None else f"{number} ({self.numbers(self.scaled)[0]} of scaled rows)"

    __repr__ = __str__  # in a notebook, and among others in a mapping

    def numbers(self, other: float | None = None) -> tuple[str, str]:
        """Value, or another number of the same error, and the error as text, rounded to two digits of the error."""
        value = self.value if other is None else other
        if value is None:
            return "not defined", ""
        if not math.isfinite(self.stderr) or self.stderr <= ROUNDING * abs(value):
            return short(value), ""
        digits = 1 - math.floor(math.log10(self.stderr))
        if digits > PLACES or abs(value) >= LARGEST or self.stderr >= LARGEST:
            # enough digits that the last is one of the error's two
            return short(value, max(2, 2 + digits_before(value) - digits_before(self.stderr))), f"{self.stderr:.2g}"
        places = max(0, digits)
        return f"{value:.{places}f}", f"{self.stderr:.{places}f}"

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The JSON object of this estimate; with `scaled` where there is one."""
        return {name: value for name, value in asdict(self).items() if name != "scaled" or value is not None}


def short(value: float, digits: int = 4) -> str:
    """A number in so many digits, and with a power of ten only where it is very large or small: -9820201, 1.2e-09.

    Example:
        >>> short(-9820201.4), short(1e14), short(0.5), short(1234.567), short(math.nan)
        ('-9820201', '1e+14', '0.5', '1235', 'nan')
    """
    if math.isfinite(value) and 10**digits <= abs(value) < LARGEST:
        return f"{value:.0f}"
    return f"{value:.{min(digits, 16)}g}"


def hundredths(value: float) -> str:
    """A number with two places after the point, or with a power of ten where it is very large.

    Example:
        >>> hundredths(-86.7312), hundredths(23286096.3), hundredths(7.1e13)
        ('-86.73', '23286096.30', '7.1e+13')
    """
    return f"{value:.2f}" if abs(value) < LARGEST else f"{value:.4g}"


def digits_before(value: float) -> int:
    """Of a number's digits, how many stand before its point."""
    return math.floor(math.log10(abs(value))) if value else 0


def mean_of(rows: "Tensor", unit: str, warning: str = "", weight: "Tensor | None" = None) -> Estimate:
    """The mean over rows, and its standard error: their standard deviation, divided by sqrt(n).

    Of rows with weights, the weighted mean; n is then the effective sample size (sum w)^2 / sum w^2, rounded.

    Args:
        rows: (n,).
        unit: Of the values.
        warning: Of the estimate.
        weight: Of each row, (n,); None where all count alike.
    """
    rows = rows.double()
    n = len(rows)
    if weight is not None:
        weight = weight.double()
        total, effective = weight.sum(), float(weight.sum() ** 2 / weight.square().sum())
        mean = (weight * rows).sum() / total
        spread = float((weight * (rows - mean)).square().sum().sqrt() / total)
        stderr = spread * math.sqrt(effective / (effective - 1)) if effective > 1 else float("nan")
        return Estimate(float(mean), stderr, round(effective), unit, warning)
    stderr = float(rows.std() / math.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(rows.mean()), stderr, n, unit, warning)
