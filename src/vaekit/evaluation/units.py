"""Log-densities of scaled rows, in the units that the rows are stored in.

A model of x = (stored - loc) / scale gives ln p(x); that of the row as it is stored is lower by the sum of ln scale
over its values. So the same table times 1000 has a density that is lower by ln 1000 for each of its columns.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from torch.distributions import Distribution

from vaekit.data import Rows, StreamedRows
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.results import measure_of
from vaekit.models.distributions.support import measure

Number = TypeVar("Number", Estimate, float)


def log_scale_of(data: object, px: Distribution) -> float:
    """The sum of ln scale over the values of a row; 0 where p(x|z) is no density, and for rows without a schema."""
    return data.log_scale if isinstance(data, Rows | StreamedRows) and measure(px) == "density" else 0.0


def in_stored_units(found: Mapping[str, Number], log_scale: float) -> dict[str, Number]:
    """The same numbers by name, log-densities as those of stored rows.

    So are losses, which are less a log-density. An estimate keeps the other value as `scaled`.
    """
    return {name: _shifted(value, shift_of(name, log_scale)) for name, value in found.items()}


def shift_of(name: str, log_scale: float) -> float:
    """What is to be added to a number of rows as the model sees them, by its name, for that of stored rows."""
    return -measure_of(name).log_density * log_scale


def _shifted(value: Number, shift: float) -> Number:
    if shift == 0:
        return value
    if not isinstance(value, Estimate):
        return value + shift
    return value if value.value is None else replace(value, value=value.value + shift, scaled=value.value)
