"""Latents on the unit sphere: the heads of their posteriors, and the prior that goes with them."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.distributions import directions
from vaekit.models.parameters import Shape
from vaekit.spec import spec


class UniformSpherePrior(nn.Module):
    zeros: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Distribution:
        return directions.UniformDirection(self.zeros)


@spec
class UniformSphere:
    """The uniform prior over the unit sphere in R^size, for posteriors on the sphere.

    >>> round(float(UniformSphere().build(3)().log_prob(torch.tensor([0.0, 0.6, 0.8])).exp()) * 4 * torch.pi, 4)
    1.0
    """

    kind: Literal["uniform_sphere"] = "uniform_sphere"

    over = ("sphere",)

    def build(
        self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0
    ) -> UniformSpherePrior:
        _check_size(size)
        return UniformSpherePrior(size)


def _check_size(size: int) -> None:
    if size < 2:
        raise ValueError(f"the sphere in {size} dimensions has no directions: use a latent of at least 2")
