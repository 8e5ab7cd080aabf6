"""A distribution with all mass on one value."""

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Unchecked


class Delta(Unchecked):
    """All mass on one value, loc (..., size): the output of an encoder without noise.

    It has no density. `log_prob` is that of a mass: 0 at the value, minus infinity elsewhere; so ln p(z) - ln q(z) is
    no part of a bound on ln p(x).
    """

    has_rsample = True

    def __init__(self, loc: Tensor):
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape=()) -> Tensor:
        return self.loc.expand(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value == self.loc, 0 * value, -torch.inf).sum(-1)
