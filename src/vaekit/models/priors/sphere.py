"""The uniform prior on the unit sphere."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import ALONE, BuildContext
from vaekit.models.distributions import directions
from vaekit.spec import spec
from vaekit.words import counted


class UniformSpherePrior(nn.Module):
    """The uniform distribution on the unit sphere.

    Args:
        size: Numbers of z.
    """

    zeros: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Distribution:
        return directions.UniformDirection(self.zeros)


@spec
class UniformSphere:
    """The uniform prior over the unit sphere in R^size, for posteriors on the sphere.

    Example:
        >>> p = UniformSphere().build(3)()
        >>> round(float(p.log_prob(torch.tensor([0.0, 0.6, 0.8])).exp()) * 4 * torch.pi, 4)
        1.0
    """

    kind: Literal["uniform_sphere"] = "uniform_sphere"

    over = ("sphere",)

    def build(self, size: int, ctx: BuildContext = ALONE) -> UniformSpherePrior:
        """The prior over z of `size` numbers."""
        check_dimensions(size)
        return UniformSpherePrior(size)


def check_dimensions(size: int) -> None:
    """Refuse a sphere without directions.

    Raises:
        SpecError: There is one dimension, or none.
    """
    if size < 2:
        raise SpecError(
            f"the sphere in {counted(size, 'dimension')} has no directions: use a latent of at least 2",
            field="size",
            value=size,
        )
