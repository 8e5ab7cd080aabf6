"""Posteriors whose z lies on the unit sphere."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions import directions
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.parameters import Shape, soft_bound
from vaekit.models.priors.sphere import check_dimensions
from vaekit.spec import spec


class Direction(PosteriorFamily, Head):
    """A family around a mean direction. Abstract.

    The network gives a vector, of which only the direction counts, and ln of the concentration over d, bounded softly
    within about ±7. At a concentration far below d draws say nothing of their mean, and training would not get away
    from there.

    Attributes:
        family: The distribution, by `loc` and `concentration`.
    """

    support_of_z = "sphere"
    closed_kl_to = ("uniform_sphere",)
    family: Callable[..., Distribution]

    def features(self, event_shape: Shape) -> int:
        check_dimensions(math.prod(event_shape))
        return math.prod(event_shape) + 1

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        vector, log_concentration = raw[..., :-1], raw[..., -1]
        size = vector.norm(dim=-1, keepdim=True)
        pole = (torch.arange(vector.shape[-1], device=raw.device) == 0).to(raw.dtype)
        loc = torch.where(size > 0, vector / torch.where(size > 0, size, 1.0), pole)
        return self.family(loc=loc, concentration=vector.shape[-1] * soft_bound(log_concentration, 3).exp())


@spec
class VonMisesFisher(Direction):
    """The von Mises-Fisher distribution, the Gaussian of the sphere: density proportional to e^(k m.z) for |z| = 1.

    It is drawn from by the inverse of its cumulative, not by rejection; see `distributions.directions`.

    Source: Davidson et al., 2018, arXiv 1804.00891 (S-VAE).

    Example:
        >>> VonMisesFisher()(torch.zeros(5, 4)).mean.shape
        torch.Size([5, 3])
    """

    kind: Literal["von_mises_fisher"] = "von_mises_fisher"

    family = directions.VonMisesFisher


@spec
class PowerSpherical(Direction):
    """The power spherical distribution: density proportional to (1 + m.z)^k for |z| = 1.

    Source: De Cao and Aziz, 2020, arXiv 2006.04437.

    Example:
        >>> PowerSpherical()(torch.zeros(5, 4)).mean.shape
        torch.Size([5, 3])
    """

    kind: Literal["power_spherical"] = "power_spherical"

    family = directions.PowerSpherical
