"""Estimate: a number with its error, its unit and its warning."""

import math
from dataclasses import asdict, dataclass

from torch import Tensor

ROUNDING = 1e-7  # of a value: an error below that is one of single precision


@dataclass(frozen=True)
class Estimate:
    """A mean over n rows with its standard error; `value` is None where there is none, and `warning` says why.

    >>> print(Estimate(-92.13, 0.41, 180, "nats"))
    -92.13 ± 0.41 nats
    """

    value: float | None
    stderr: float
    n: int
    unit: str
    warning: str = ""

    def __str__(self) -> str:
        value, error = self.numbers()
        return (
            f"{value} ± {error} {self.unit}" if error else f"{value} {self.unit}" if self.value is not None else value
        )

    def numbers(self) -> tuple[str, str]:
        """Value and standard error as text, rounded to two digits of the error."""
        if self.value is None:
            return "not defined", ""
        if not math.isfinite(self.stderr) or self.stderr <= ROUNDING * abs(self.value):
            return f"{self.value:.4g}", ""
        digits = max(0, 1 - math.floor(math.log10(self.stderr)))
        if digits > 7:
            return f"{self.value:.7g}", f"{self.stderr:.2g}"
        return f"{self.value:.{digits}f}", f"{self.stderr:.{digits}f}"

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The JSON object of this estimate."""
        return asdict(self)


def mean_of(rows: Tensor, unit: str, warning: str = "") -> Estimate:
    """Mean over the rows (n,) and its standard error: the spread over rows, divided by sqrt(n)."""
    rows = rows.double()
    n = len(rows)
    stderr = float(rows.std() / math.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(rows.mean()), stderr, n, unit, warning)
