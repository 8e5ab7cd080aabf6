"""Which values a distribution is over, and whether it is of a mass or a density."""

import math

from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.errors import DataError
from vaekit.models.distributions.base import unwrapped
from vaekit.models.distributions.bernoulli import SoftBernoulli


def support_of(px: Distribution) -> constraints.Constraint | None:
    """Where values may lie; None for a distribution that does not define it."""
    try:
        return px.support
    except NotImplementedError:
        return None


def in_words(support: constraints.Constraint | None) -> str:
    """A support, for a message."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real:
        return "the real numbers"
    if support is constraints.boolean:
        return "{0, 1}"
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None:
        return str(support)
    numbers = "the whole numbers" if getattr(support, "is_discrete", False) else "the numbers"
    if isinstance(support, constraints.greater_than):
        return f"{numbers} above {low:g}"
    return f"{numbers} from {low:g}" + ("" if high is None else f" to {high:g}")


def check_values(px: Distribution, x: Tensor, mask: Tensor | None = None) -> None:
    """Refuse rows x (batch, *event) with a value to which p(x|z), over rows, gives no probability.

    Args:
        px: p(x|z).
        x: The rows.
        mask: True where a cell is observed: what others hold does not count.

    Raises:
        DataError: Names the value, its row, and where values may lie.
    """
    if x.device.type == "meta":
        return
    support, inside = _of_values(px), has_density(px, x, mask)
    if inside.all():
        return
    cell = tuple(int(place) for place in (~inside).nonzero()[0])
    value, where, name = float(x[cell]), "", name_of(px)
    if hasattr(part := unwrapped(px), "part_of") and len(cell) == 2:
        part, support = part.part_of(cell[1])  # pyright: ignore[reportAttributeAccessIssue]
        where, name = f" in column {cell[1]}", name_of(part)
    if not math.isfinite(value):
        rule = "is over finite numbers: fill or leave out what is missing"
    elif support is constraints.boolean:
        rule = "is over {0, 1}: binarise the data, or take a likelihood over [0, 1], such as ContinuousBernoulli"
    else:
        fix = (
            "give whole numbers in that range" if support and support.is_discrete else "scale the data into that range"
        )
        rule = f"is over {in_words(support)}: {fix}, or take a likelihood over real numbers, such as Gaussian"
    raise DataError(
        f"row {cell[0]} of x holds {value:g}{where}, and the likelihood ({name}) {rule}", field="row", value=cell[0]
    )


def has_density(px: Distribution, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Whether each cell of rows x (batch, *event) is not observed, or has a value in the support of p(x|z)."""
    support, inside = _of_values(px), x.isfinite()
    if support is not None:
        allowed = support.check(x)
        inside = inside & allowed.reshape(*allowed.shape, *[1] * (x.dim() - allowed.dim()))
    return inside if mask is None else inside | ~mask


def _of_values(px: Distribution) -> constraints.Constraint | None:
    """Where each value may lie; None where that depends on z, or is not defined: then p(x|z) itself has to check it."""
    support = support_of(px)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is None or constraints.is_dependent(support):
        return None
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return None if any(isinstance(bound, Tensor) and bound.dim() > 0 for bound in bounds) else support


def name_of(px: Distribution) -> str:
    """The name of a distribution's class, for a message."""
    return type(unwrapped(px)).__name__


def measure(px: Distribution) -> str:
    """What exp(log_prob) is: a probability "mass", a "density", or only a "score" that is no likelihood."""
    px = unwrapped(px)
    if isinstance(px, SoftBernoulli):
        return "score"
    support = support_of(px)
    return "mass" if support is not None and support.is_discrete else "density"
