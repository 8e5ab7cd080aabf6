"""Likelihood families of a location and a scale."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions.base import independent
from vaekit.models.families import LikelihoodHead
from vaekit.models.parameters import Scales, Shape, parameters, soft_bound

REAL = ("real", "unit", "levels", "count")  # supports that real numbers contain


class LocationScale(LikelihoodHead):
    """A family of a location and a scale. Abstract.

    By default the network gives both, the scale as ln of its square, bounded softly: the identity within ±20,
    logarithmic beyond, so that it neither overflows nor loses its gradient. As a likelihood it may be given units
    (`Units`), which location and scale are then in.

    Attributes:
        family: The distribution of one value, by `loc` and `scale`.
    """

    accepts = REAL
    takes_units = True
    family: Callable[..., Distribution]

    @abstractmethod
    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The location and scale of each column, (columns,) in double precision, that fit rows x (n, *event) best."""

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """The arguments of `family` that raw numbers stand for, each (..., *event)."""
        loc, log_square = parameters(raw, 2, event_shape)
        return {"loc": loc, "scale": (0.5 * soft_bound(log_square)).exp()}

    def of_values(self, raw: Tensor, event_shape: Shape | None = None, units: Scales | None = None) -> Distribution:
        arguments = self.arguments(raw, event_shape)
        if units is not None:
            arguments["loc"] = torch.addcmul(units.loc, units.scale, arguments["loc"])
            arguments["scale"] = self.scale_in(units, arguments["scale"])
        return self.family(**arguments, validate_args=False)

    def __call__(self, raw: Tensor, event_shape: Shape | None = None, units: Scales | None = None) -> Distribution:
        return independent(self.of_values(raw, event_shape, units), 1 if event_shape is None else len(event_shape))

    def scale_in(self, units: Scales, scale: Tensor) -> Tensor:
        """A scale in these units, as one in those of x."""
        return units.scale * scale

    def initial_parameters(self, x: Tensor) -> Tensor:
        loc, scale = self.best(x)
        return torch.cat([loc, raised(scale**2).log()])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of x (n, *event), (columns,) in double precision."""
    x = x.flatten(1).double()
    return x.mean(0), x.std(0, correction=0)


def raised(spread: Tensor) -> Tensor:
    """Variances of dimensions that hardly vary, raised to a small share of the largest.

    Where none varies, they are raised to what a decoder that has yet to learn the constants may miss them by.

    Args:
        spread: Variances, (columns,), in units of the data squared.
    """
    largest = float(spread.max())
    return spread.clamp_min(1e-4 * largest if largest > 1e-12 else 1e-2)
