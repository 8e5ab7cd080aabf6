"""A prior with heavier tails than the standard normal, so that a few dimensions of a code stand out."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td

from vaekit.priors import ALONE, BuildContext
from vaekit.spec import spec


class LaplacePrior(nn.Module):
    """Independent Laplace distributions over z, all of one scale.

    Args:
        size: numbers of z.
        scale: of each.
    """

    zeros: Tensor

    def __init__(self, size: int, scale: float):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(size), persistent=False)
        self.scale = scale

    def forward(self, context: Tensor | None = None) -> td.Distribution:
        each = td.Laplace(self.zeros, torch.full_like(self.zeros, self.scale), validate_args=False)
        return td.Independent(each, 1, validate_args=False)


@spec
class Laplace:
    """Independent Laplace distributions: ln p(z) = -sum_i (|z_i| / scale + ln(2 scale)).

    Args:
        scale: by default such that each has variance 1.

    Example:
        >>> Laplace().build(3)().log_prob(torch.zeros(3)) / math.log(2)
        tensor(-1.5000)
    """

    scale: Annotated[float, Field(gt=0)] = math.sqrt(0.5)
    kind: Literal["laplace"] = "laplace"

    over = ("real",)

    def build(self, size: int, ctx: BuildContext = ALONE) -> LaplacePrior:
        """The prior over z of `size` numbers."""
        return LaplacePrior(size, self.scale)
