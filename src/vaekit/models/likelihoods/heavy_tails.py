"""Likelihood families of real values with outliers: Laplace and Student's t."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch import distributions as td

from vaekit.models.likelihoods.location_scale import LocationScale
from vaekit.models.parameters import Shape
from vaekit.spec import spec

ROUNDS = 500  # of expectation and maximisation


@spec
class Laplace(LocationScale):
    """Laplace: the network gives mu and 2 ln b, bounded as in `Gaussian`. Its mean absolute deviation is b.

    Example:
        >>> Laplace()(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    kind: Literal["laplace"] = "laplace"

    family = td.Laplace

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1).double()
        median = x.quantile(0.5, dim=0)
        return median, (x - median).abs().mean(0)


@spec
class StudentT(LocationScale):
    """Student's t: the network gives mu and ln sigma^2, bounded as in `Gaussian`.

    Args:
        df: Degrees of freedom; the fewer, the heavier the tails. Above 2, so that it has a variance.

    Source: Takahashi et al., 2018, "Student-t variational autoencoder for robust density estimation".

    Example:
        >>> StudentT()(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    df: Annotated[float, Field(gt=2)] = 4.0
    kind: Literal["student_t"] = "student_t"

    family = td.StudentT

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        found = super().arguments(raw, event_shape)
        return found | {"df": torch.full_like(found["loc"], self.df)}

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By expectation and maximisation, with the t as a Gaussian of unknown precision."""
        x = x.flatten(1).double()
        loc, square = x.quantile(0.5, dim=0), x.var(0, correction=0)
        for _ in range(ROUNDS):
            weight = (self.df + 1) / (self.df + (x - loc) ** 2 / square.clamp_min(torch.finfo(x.dtype).tiny))
            loc = (weight * x).sum(0) / weight.sum(0)
            square = (weight * (x - loc) ** 2).mean(0)
        return loc, square.sqrt()
