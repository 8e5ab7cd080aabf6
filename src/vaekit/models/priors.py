"""Priors: modules whose call returns p(z)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.families import independent
from vaekit.spec import spec


class StandardPrior(nn.Module):
    """N(0, I) over z in R^size."""

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)

    def forward(self) -> Distribution:
        return independent(td.Normal(self.loc, self.scale, validate_args=False), 1)


@spec
class Standard:
    """The standard normal prior, N(0, I).

    >>> Standard().build(16)().event_shape
    torch.Size([16])
    """

    kind: Literal["standard"] = "standard"

    def build(self, size: int) -> StandardPrior:
        return StandardPrior(size)


Prior = Standard
