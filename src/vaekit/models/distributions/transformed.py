"""The distribution of a normalising flow; zuko is imported here alone."""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.distributions.base import Unchecked
from vaekit.randomness import fixed_generator

MOMENT_DRAWS = 256


@cache
def zuko() -> ModuleType:
    """zuko, imported without its switching off validation for all of torch's distributions."""
    before = Distribution._validate_args
    try:
        import zuko as imported
        import zuko.flows
    finally:
        Distribution.set_default_validate_args(before)
    return imported


class Transformed(Unchecked):
    """Base noise e ~ N(0, I) of R^size through an invertible map: ln p(z) = ln N(e; 0, I) - ln |det dz/de|.

    Its mean and variance are those of 256 draws, the same each time.

    Args:
        to_noise: zuko's transform from z to e.
        base: Of the noise.
    """

    has_rsample = True

    def __init__(self, to_noise: Any, base: Distribution):
        self.to_noise, self.base = to_noise, base
        super().__init__(base.batch_shape, base.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    def push(self, noise: Tensor) -> Tensor:
        return self.to_noise.inv(noise)

    def push_and_score(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z, and ln p(z) by the way that z came: fast where the way back is slow."""
        z, log_slope = self.to_noise.inv.call_and_ladj(noise)
        return z, self.base.log_prob(noise) - log_slope

    def log_prob(self, value: Tensor) -> Tensor:
        lead = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)  # zuko's couplings do not broadcast
        noise, log_slope = self.to_noise.call_and_ladj(value.expand(*lead, -1))
        return self.base.log_prob(noise) + log_slope

    def rsample(self, sample_shape=()) -> Tensor:
        return self.push(self.base.rsample(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self._draws().mean(0)

    @property
    def variance(self) -> Tensor:
        return self._draws().var(0)

    def expand(self, batch_shape, _instance=None) -> "Transformed":
        return Transformed(self.to_noise, self.base.expand(batch_shape))

    def _draws(self) -> Tensor:
        like, generator = self.base.mean, fixed_generator()
        noise = torch.randn(MOMENT_DRAWS, *self.event_shape, generator=generator, dtype=like.dtype).to(like.device)
        batch = [1] * len(self.batch_shape)
        return self.push(noise.reshape(MOMENT_DRAWS, *batch, *self.event_shape).expand(-1, *like.shape))
