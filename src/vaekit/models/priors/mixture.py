"""The mixture prior."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import ALONE, BuildContext, check_size
from vaekit.models.distributions.mixtures import mixture
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.spec import spec

Components = Annotated[int, Field(ge=1, le=100_000)]


class Weights(nn.Module):
    """ln of the probabilities of a mixture's components, up to a constant; a context shifts each of them.

    Args:
        components: Their number.
        context: Numbers of context; 0 for none.
    """

    def __init__(self, components: int, context: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.of_context = nn.Linear(context, components, bias=False) if context else None

    def forward(self, context: Tensor | None) -> Tensor:
        return self.logits if self.of_context is None or context is None else self.logits + self.of_context(context)


class MixturePrior(nn.Module):
    """A learned mixture of diagonal Gaussians.

    Args:
        size: Numbers of z.
        components: Their number.
        context: Numbers of context; 0 for none.

    Raises:
        SpecError: There are no numbers of z.
    """

    def __init__(self, size: int, components: int, context: int = 0):
        super().__init__()
        check_size(size)
        spread = 0.5  # of the means; with the scales it makes the mixture's variance about 1
        self.loc = nn.Parameter(spread * torch.randn(components, size))
        self.log_variance = nn.Parameter(torch.full((components, size), math.log(1 - spread**2)))
        self.weights = Weights(components, context)

    def forward(self, context: Tensor | None = None) -> Distribution:
        components = Gaussian()(torch.cat([self.loc, self.log_variance], -1))
        return mixture(components, self.weights(context))


@spec
class Mixture:
    """A learned mixture of diagonal Gaussians; with a context, their weights depend on it.

    Args:
        components: Their number.

    Example:
        >>> Mixture(components=10).build(2)().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    components: Components = 100
    kind: Literal["mixture"] = "mixture"

    over = ("real",)
    is_conditional = True

    def build(self, size: int, ctx: BuildContext = ALONE) -> MixturePrior:
        """The prior over z of `size` numbers."""
        return MixturePrior(size, self.components, ctx.context_of("prior"))
