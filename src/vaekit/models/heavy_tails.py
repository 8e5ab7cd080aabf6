"""Heads for real values with outliers: Laplace and Student's t."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch import distributions as td

from vaekit.models.families import Gaussian, Head, Shape, floating, parameters, raised, soft_bound
from vaekit.spec import spec

ROUNDS = 500  # of expectation and maximisation


class LocationScale(Head):
    """A family of a location and a scale, both given by the network. Abstract."""

    accepts = Gaussian.accepts

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        loc, log_square = parameters(raw, 2, event_shape)
        return {"loc": loc, "scale": (0.5 * soft_bound(log_square)).exp()}


@spec
class Laplace(LocationScale):
    """Laplace: the network gives mu and 2 ln b, bounded as in `Gaussian`. Its mean absolute deviation is b.

    >>> Laplace()(torch.zeros(5, 6)).event_shape
    torch.Size([3])
    """

    kind: Literal["laplace"] = "laplace"

    family = td.Laplace

    def start(self, x: Tensor) -> Tensor:
        x = floating(x).flatten(1)
        median = x.quantile(0.5, dim=0)
        return torch.cat([median, 2 * raised((x - median).abs().mean(0)).log()])


@spec
class StudentT(LocationScale):
    """Student's t: the network gives mu and ln sigma^2, bounded as in `Gaussian`.

    Args:
        df: degrees of freedom; the fewer, the heavier the tails. Above 2, so that it has a variance.

    Source: Takahashi et al., 2018, "Student-t variational autoencoder for robust density estimation".

    >>> StudentT()(torch.zeros(5, 6)).event_shape
    torch.Size([3])
    """

    df: Annotated[float, Field(gt=2)] = 4.0
    kind: Literal["student_t"] = "student_t"

    family = td.StudentT

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        found = super().arguments(raw, event_shape)
        return found | {"df": torch.full_like(found["loc"], self.df)}

    def start(self, x: Tensor) -> Tensor:
        """By expectation and maximisation, with the t as a Gaussian of unknown precision."""
        x = floating(x).flatten(1)
        loc, square = x.quantile(0.5, dim=0), raised(x.var(0, correction=0))
        for _ in range(ROUNDS):
            weight = (self.df + 1) / (self.df + (x - loc) ** 2 / square)
            loc = (weight * x).sum(0) / weight.sum(0)
            square = raised((weight * (x - loc) ** 2).mean(0))
        return torch.cat([loc, square.log()])
