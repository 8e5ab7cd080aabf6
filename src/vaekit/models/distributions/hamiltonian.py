"""Draws refined by Hamiltonian dynamics."""

from collections.abc import Callable

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vaekit.errors import SpecError
from vaekit.models.distributions.base import Unchecked

LogJoint = Callable[[Tensor], Tensor]


class Refined(Unchecked):
    """z_K of `Hamiltonian`. Only its own draws can be scored, and it has no mean in closed form.

    Args:
        q: Of z_0.
        log_joint: ln p(x, z), (samples, batch), of z (samples, batch, *event).
        step_sizes: Of the leapfrog steps, (*event).
        beta: beta_0, ().
        steps: K.
    """

    has_rsample = True

    def __init__(self, q: Distribution, log_joint: LogJoint, step_sizes: Tensor, beta: Tensor, steps: int):
        if q.event_shape != step_sizes.shape:
            raise SpecError(
                f"the posterior is over z of shape {tuple(q.event_shape)}, and the steps that refine it are over "
                f"{tuple(step_sizes.shape)}: they must be the same",
                field="q",
            )
        self.q, self.log_joint, self.step_sizes, self.beta, self.steps = q, log_joint, step_sizes, beta, steps
        super().__init__(q.batch_shape, q.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    @property
    def noise_shape(self) -> Size:
        """Of the standard normal noise of a draw: beside each number for z_0 stands one for its momentum."""
        return Size((*self.batch_shape, *self.event_shape, 2))

    def moved(self, z: Tensor, log_q: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z_K and its ln q, from z_0 (samples, batch, *event), its ln q, and the momentum's noise."""
        still = self.beta.rsqrt()  # 1 / sqrt(beta_k)
        half, momentum, now = 0.5 * self.step_sizes, still * noise, still
        slope = self._slope(z)
        for k in range(1, self.steps + 1):
            momentum = momentum + half * slope
            z = z + self.step_sizes * momentum
            slope = self._slope(z)
            momentum = momentum + half * slope
            share = (k / self.steps) ** 2
            cooler = (1 - share) * still + share
            momentum, now = momentum * (cooler / now), cooler
        gain = 0.5 * (momentum.square() - noise.square())
        return z, log_q + gain.flatten(log_q.dim()).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError(
            "a refined posterior scores only its own draws, while they are drawn, and as the reparametrisation trick "
            "has them: use the gradient pathwise"
        )

    def _slope(self, z: Tensor) -> Tensor:
        """d ln p(x, z) / dz, to be differentiated again where gradients are on."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_joint(at).sum(), at, create_graph=training)
        return slope
