"""The standard normal prior."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.building import ALONE, BuildContext, check_size
from vaekit.models.distributions.base import independent
from vaekit.models.priors.codes import FactorisedPrior
from vaekit.spec import spec


class StandardNormalPrior(nn.Module):
    """N(0, I) over z in R^size.

    Args:
        size: Numbers of z.

    Raises:
        SpecError: There is none.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int):
        super().__init__()
        check_size(size)
        self.register_buffer("loc", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Distribution:
        return independent(td.Normal(self.loc, self.scale, validate_args=False), 1)


@spec
class StandardNormal:
    """The standard normal prior, N(0, I); for a discrete z, the uniform one over its codes. Whatever the context.

    Example:
        >>> StandardNormal().build(16)().event_shape
        torch.Size([16])
    """

    kind: Literal["standard_normal"] = "standard_normal"

    over = ("real", "discrete")

    def build(self, size: int, ctx: BuildContext = ALONE) -> nn.Module:
        """The prior over z of `size` numbers."""
        check_size(size)
        space = ctx.code_space
        return StandardNormalPrior(size) if space is None else FactorisedPrior(space, learned=False)
