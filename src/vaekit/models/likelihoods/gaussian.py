"""Gaussian families: with the network's scale, a fixed one, or a learned one."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.families import LikelihoodFamily, PosteriorFamily
from vaekit.models.likelihoods.location_scale import REAL, LocationScale, moments, raised
from vaekit.models.parameters import LOG_VARIANCE_BOUND, Scales, Shape, parameters, soft_bound
from vaekit.spec import spec


@spec
class Gaussian(LocationScale, PosteriorFamily):
    """Diagonal Gaussian: the network gives mu, and ln sigma^2 too unless `scale` is set.

    Args:
        scale: Sigma as a fixed number, in the units of x; None lets the network give ln sigma^2 for each dimension.

    Source: Kingma and Welling, 2014, arXiv 1312.6114, appendix C.2.

    Example:
        >>> Gaussian()(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    scale: Annotated[float, Field(gt=0)] | None = None
    kind: Literal["gaussian"] = "gaussian"

    family = td.Normal
    closed_kl_to = ("standard_normal",)
    known_covariance = True
    diagonal_gaussian = True

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) * (2 if self.scale is None else 1)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        if self.scale is None:
            return super().arguments(raw, event_shape)
        (loc,) = parameters(raw, 1, event_shape)
        return {"loc": loc, "scale": torch.full_like(loc, self.scale)}

    def scale_in(self, units: Scales, scale: Tensor) -> Tensor:
        return scale if self.scale is not None else super().scale_in(units, scale)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x)

    def initial_parameters(self, x: Tensor) -> Tensor:
        return super().initial_parameters(x) if self.scale is None else self.best(x)[0]


@spec
class CalibratedGaussian(LikelihoodFamily):
    """Gaussian whose sigma is learned but does not depend on z: one shared number, or one for each dimension.

    Sigma moves at a pace of its own, as a running mean of squared residuals: see `LearnedScale`.

    Source: Rybkin, Daniilidis and Levine, 2021, arXiv 2006.13202 (sigma-VAE).

    Args:
        per_dimension: Learn one sigma for each dimension instead of one for all.

    Example:
        >>> head = CalibratedGaussian().build(BuildContext(event_shape=(3,)))
        >>> head(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    per_dimension: bool = False
    kind: Literal["calibrated_gaussian"] = "calibrated_gaussian"

    accepts = REAL
    takes_units = True

    def build(self, context: BuildContext) -> "LearnedScale":
        return LearnedScale(context.event_shape, self.per_dimension)


PACE = 0.1  # of the running mean of squared residuals, for each step

LEAST_OF_IMAGE, LEAST_OF_COLUMN = 1e-4, 1e-6  # variance over that of the data, below which none is learned


class LearnedScale(nn.Module, LocationScale):
    """The head of `CalibratedGaussian`, with its learned ln sigma^2, of shape () or the event's.

    The objective's slope in ln sigma^2 says what the mean squared residual is: with d values to each sigma it is
    d/2 (1 - residual / sigma^2), whatever weighs the samples of z. So each step moves sigma^2 by a share of the way to
    that: the natural gradient, and to first order the optimal sigma of Rybkin et al., equation 5, averaged over about
    20 batches. A weight under Adam moves by the learning rate a step, and would lag behind.

    Args:
        event_shape: Of x.
        per_dimension: See `CalibratedGaussian`.

    Attributes:
        least: Of ln sigma^2. A pixel that never varies says nothing of its noise, so it gets a share of what the image
            varies by.
    """

    family = td.Normal
    least: Tensor

    def __init__(self, event_shape: Shape, per_dimension: bool):
        super().__init__()
        scale_shape = event_shape if per_dimension else ()
        self.log_variance = nn.Parameter(torch.zeros(scale_shape))
        self.register_buffer("least", torch.full((), -LOG_VARIANCE_BOUND))
        self.share = LEAST_OF_COLUMN if len(event_shape) == 1 else LEAST_OF_IMAGE
        self.values = math.prod(event_shape) // max(1, math.prod(scale_shape))

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        (loc,) = parameters(raw, 1, event_shape)
        return {"loc": loc, "scale": (0.5 * soft_bound(self.log_variance)).exp().expand_as(loc)}

    def forward(self, raw: Tensor, event_shape: Shape | None = None, units: Scales | None = None) -> Distribution:
        return LocationScale.__call__(self, raw, event_shape, units)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The mean; the scale is set to the one that fits best beside it."""
        loc, scale = self.best(x)
        variance = scale**2 if self.log_variance.dim() else scale.square().mean()
        with torch.no_grad():
            self.log_variance.copy_(raised(variance).log().reshape(self.log_variance.shape))
            largest = self.log_variance.exp().max() if self.log_variance.dim() else self.log_variance.exp()
            self.least.copy_((self.share * largest).log())
        return loc

    @torch.no_grad()
    def follow_gradient(self) -> None:
        """Take one step by the gradient of ln sigma^2: sigma^2 <- (1 - PACE) sigma^2 + PACE (mean squared residual)."""
        if self.log_variance.grad is None:
            return
        off = -2 * self.log_variance.grad / self.values  # mean squared residual over sigma^2, less 1
        self.log_variance.add_((PACE * off.clamp_min(-1)).log1p())
        self.log_variance.clamp_(min=float(self.least))
