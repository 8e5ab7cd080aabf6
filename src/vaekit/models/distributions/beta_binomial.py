"""The beta-binomial, by its mean."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Mass
from vaekit.models.distributions.gamma import gamma_rest, log_factorial, wide


class BetaBinomialByMean(Mass):
    """Of `count` draws, by the logit of their mean share and ln (alpha + beta), (*batch) each."""

    def __init__(self, logits: Tensor, log_concentration: Tensor, count: int):
        self.logits, self.log_concentration, self.count = logits, log_concentration, count
        super().__init__(logits)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.count)

    @property
    def mean(self) -> Tensor:
        return self.count * self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        c = self.log_concentration.exp()
        return self.mean * (-self.logits).sigmoid() * (c + self.count) / (c + 1)

    def log_mass(self, value: Tensor) -> Tensor:
        """ln C(n, x) + ln B(x + alpha, n - x + beta) - ln B(alpha, beta).

        The large terms of the Gammas are taken together: they leave the binomial's mass at the share p, and terms that
        are small where c is large.
        """
        x, n, logits = wide(value), float(self.count), wide(self.logits)  # once, so that gradients add up wide, too
        log_p, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
        c, p, rest = wide(self.log_concentration).exp(), log_p.exp(), log_rest.exp()
        ways = math.lgamma(n + 1) - log_factorial(x) - log_factorial(n - x)
        off = (x - n * p) / (n + c)  # of the share p, once x is known
        seen, others = x + c * p, n - x + c * rest
        large = ways + x * log_p + (n - x) * log_rest + seen * (off / p).log1p() + others * (-off / rest).log1p()
        rests = gamma_rest(seen) - gamma_rest(c * p) + gamma_rest(others) - gamma_rest(c * rest)
        return large + rests - gamma_rest(n + c) + gamma_rest(c)

    def icdf(self, value: Tensor) -> Tensor:
        """The smallest level whose cumulative probability is at least this."""
        with torch.no_grad():
            below = found = torch.zeros_like(value)
            for level in range(self.count):
                below = below + self.log_prob(torch.full_like(self.logits, level)).exp()
                found = found + (value > below)
        return found

    def sample(self, sample_shape=()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))
