"""Log-densities of scaled rows, in the units that the rows are stored in.

A model of x = (stored - loc) / scale gives ln p(x); that of the row as it is stored is lower by the sum of ln scale
over its values. So the same table times 1000 has a density that is lower by ln 1000 for each of its columns.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, overload

from torch import Tensor
from torch.distributions import Distribution

from vaekit.evaluation.blocks import Blocks
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.evaluation.results import NATS, measure_of
from vaekit.models.distributions.support import measure

Number = TypeVar("Number", Estimate, float)


def log_scale_of(blocks: Blocks, px: Distribution) -> Tensor | float:
    """The sum of ln scale over the observed cells of each row, (rows,), or one number of all.

    It is 0 where p(x|z) is no density, and for rows without a schema.
    """
    return blocks.log_scales() if measure(px) == "density" else 0.0


def mean_in_stored_units(
    name: str, rows: Tensor, log_scale: Tensor | float, warning: str = "", weight: Tensor | None = None
) -> Estimate:
    """The mean over rows of log-densities or losses, and its error, as those of stored rows; see `mean_of`.

    Args:
        name: Of the estimate.
        rows: (n,), of rows as the model sees them.
        log_scale: Of each row, (n,), or of all.
        warning: Of the estimate.
        weight: Of each row, (n,); None where all count alike.
    """
    found, shift = mean_of(rows, NATS, warning, weight), shift_of(name, log_scale)
    if not isinstance(shift, Tensor):
        return _shifted(found, shift)
    return replace(mean_of(rows + shift, NATS, warning, weight), scaled=found.value)


def in_stored_units(found: Mapping[str, Number], log_scale: float) -> dict[str, Number]:
    """The same numbers by name, log-densities as those of stored rows.

    So are losses, which are less a log-density. An estimate keeps the other value as `scaled`.
    """
    return {name: _shifted(value, shift_of(name, log_scale)) for name, value in found.items()}


@overload
def shift_of(name: str, log_scale: float) -> float: ...
@overload
def shift_of(name: str, log_scale: Tensor | float) -> Tensor | float: ...
def shift_of(name: str, log_scale: Tensor | float) -> Tensor | float:
    """What is to be added to a number of rows as the model sees them, by its name, for that of stored rows."""
    return -measure_of(name).log_density * log_scale


def _shifted(value: Number, shift: float) -> Number:
    if shift == 0:
        return value
    if not isinstance(value, Estimate):
        return value + shift
    return value if value.value is None else replace(value, value=value.value + shift, scaled=value.value)
