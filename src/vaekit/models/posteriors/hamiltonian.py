"""Hamiltonian refinement: draws of q(z|x) are moved along the gradient of the model's own ln p(x, z)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.distributions.hamiltonian import LogJoint, Refined
from vaekit.spec import spec


@spec
class Hamiltonian:
    """Draws of q(z_0|x), moved by K leapfrog steps of a particle of unit mass in the potential -ln p(x, z).

    z_0 ~ q(z_0|x) and momentum r_0 = g / sqrt(beta_0), g ~ N(0, I); then for k = 1 .. K, with steps s,
    r <- r + s/2 d ln p(x, z)/dz;  z <- z + s r;  r <- r + s/2 d ln p(x, z)/dz;  r <- r sqrt(beta_k-1 / beta_k).
    A draw's ln q is ln q(z_0|x) + ln N(g; 0, I) - ln N(r_K; 0, I): so E[p(x, z_K) / q] = p(x), and the mean of
    ln p(x, z_K) - ln q is a lower bound. The momentum cools from beta_0 to beta_K = 1 along
    1 / sqrt(beta_k) = (1 - k^2/K^2) / sqrt(beta_0) + k^2/K^2. The steps, one for each dimension of z, and beta_0 are
    learned. Each draw takes K + 1 slopes of the decoder, through which training differentiates again.

    Source: Caterini, Doucet and Sejdinovic, 2018, arXiv 1805.11328, algorithm 1.

    Args:
        steps: K.
        step_size: The initial s, in units of z.
        temper: The initial beta_0, in (0, 1). Towards 1 nothing is won: without cooling, energy is conserved but for
            the errors of the steps, and p(x, z_K) / q is what it was at z_0.

    Example:
        >>> refine = Hamiltonian(steps=2).build(BuildContext(event_shape=(2,)))
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> model = VAE(posterior, StandardNormal().build(2), likelihood, refine)
        >>> model.draw(torch.ones(5, 8), samples=3).log_w.shape
        torch.Size([3, 5])
    """

    steps: Annotated[int, Field(ge=1, le=1000)] = 3
    step_size: Annotated[float, Field(gt=0)] = 0.05
    temper: Annotated[float, Field(gt=0, lt=1)] = 0.6
    kind: Literal["hamiltonian"] = "hamiltonian"

    def build(self, context: BuildContext) -> "Leapfrog":
        """The module that moves z of `context.event_shape`."""
        return Leapfrog(self, context.event_shape)


class Leapfrog(nn.Module):
    """The refinement that `Hamiltonian` builds: from q(z_0|x) and z -> ln p(x, z) to the distribution of z_K.

    Args:
        settings: Of the dynamics.
        z_shape: Shape of z.
    """

    def __init__(self, settings: Hamiltonian, z_shape: tuple[int, ...]):
        super().__init__()
        self.steps = settings.steps
        self.log_step_sizes = nn.Parameter(torch.full(z_shape, math.log(settings.step_size)))
        self.logit_beta = nn.Parameter(torch.tensor(math.log(settings.temper / (1 - settings.temper))))

    def forward(self, q: Distribution, log_joint: LogJoint) -> "Refined":
        return Refined(q, log_joint, self.log_step_sizes.exp(), self.logit_beta.sigmoid(), self.steps)
