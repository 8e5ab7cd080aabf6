"""The log-normal likelihood, of positive numbers."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods.gaussian import LearnedScale
from vaekit.models.networks.units import Units
from vaekit.models.parameters import Shape, floating, soft_bound
from vaekit.spec import spec


@spec
class LogNormal(LikelihoodFamily):
    """Log-normal: ln x is Gaussian, with a sigma for each dimension that is learned and does not depend on z.

    The density is that of x: ln p(x) = ln N(ln x; mu, sigma) - ln x. The network gives mu, in units of the mean and
    standard deviation of ln x in the training rows, bounded softly within about 20 of these; sigma is learned as that
    of `CalibratedGaussian`.

    Example:
        >>> LogNormal().build(BuildContext(event_shape=(3,)))(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    kind: Literal["log_normal"] = "log_normal"

    accepts = ("positive",)

    def build(self, context: BuildContext) -> "OfLogarithms":
        return OfLogarithms(context.event_shape)


class OfLogarithms(nn.Module, LikelihoodHead):
    """The head of `LogNormal`, with the units of ln x and its sigma.

    Args:
        event_shape: Of x.
    """

    def __init__(self, event_shape: Shape):
        super().__init__()
        self.units = Units(event_shape)
        self.logarithm = LearnedScale(event_shape, per_dimension=True)

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        gaussian = self.logarithm.of_values(soft_bound(raw), event_shape, self.units)
        assert isinstance(gaussian, td.Normal)
        return Positive(gaussian.loc, gaussian.scale, validate_args=False)

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return independent(self.of_values(raw, event_shape), 1 if event_shape is None else len(event_shape))

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Measure the units of ln x on rows x (n, *event)."""
        self.units.measure(_log(x), self.logarithm.best)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The mean of ln x in its units, which are measured, and sigma is set, on the rows."""
        self.measure(x)
        return self.logarithm.initial_parameters(self.units(_log(x)))


class Positive(td.LogNormal):
    """torch's log-normal, whose density is 0, and not undefined, at numbers that are not positive."""

    def log_prob(self, value: Tensor) -> Tensor:
        inside = value > 0
        log_p = super().log_prob(torch.where(inside, value, 1.0))
        return torch.where(inside, log_p, -torch.inf)


def _log(x: Tensor) -> Tensor:
    x = floating(x)
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()
