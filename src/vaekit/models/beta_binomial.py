"""Beta-binomial: grey levels by two numbers each."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.distributions import Mass
from vaekit.models.families import OverLevels, Shape, parameters, soft_bound
from vaekit.models.gamma import gamma_rest, log_factorial, wide
from vaekit.models.starts import climbed, shares_of_levels
from vaekit.spec import spec

ROUNDS = 30


@spec
class BetaBinomial(OverLevels):
    """Beta-binomial over the levels 0, ..., levels-1: binomial draws of levels - 1, whose chance is a beta's draw.

    The network gives the logit of the mean share p and the logarithm of the concentration c = alpha + beta, each
    bounded softly within about ±20; alpha = p c, beta = (1 - p) c. As c grows it becomes the binomial.

    Source: Townsend, Bird and Barber, 2019, arXiv 1901.04866 (8-bit MNIST).

    >>> BetaBinomial(levels=17)(torch.zeros(5, 6)).mean[0]
    tensor([8., 8., 8.])
    """

    levels: Annotated[int, Field(ge=2, le=65536)] = 256
    kind: Literal["beta_binomial"] = "beta_binomial"

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def family(self, logits: Tensor, log_concentration: Tensor, validate_args: bool = False) -> Distribution:
        return BetaBinomialByMean(logits, log_concentration, self.levels - 1)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        logits, log_concentration = parameters(raw, 2, event_shape)
        return {"logits": soft_bound(logits), "log_concentration": soft_bound(log_concentration)}

    def start(self, x: Tensor) -> Tensor:
        """The best by the shares of the levels, uphill from where the first two moments put it."""
        shares, top = shares_of_levels(x, self.levels), self.levels - 1
        level = torch.arange(self.levels, dtype=torch.float64, device=x.device)[:, None]
        mean, second = (shares * level).sum(0) / top, (shares * level**2).sum(0)
        spread = (second - (top * mean) ** 2) / (top * mean * (1 - mean))  # (c + top) / (c + 1)
        concentration = (top - spread).clamp_min(0.1) / (spread - 1).clamp_min(0.1)
        above = shares.flip(0).cumsum(0).flip(0)[1:]  # chance of a level above 0, 1, ...
        draws = level[:-1]

        def score(raw: Tensor) -> Tensor:
            """The mean log-likelihood but for a constant, with ln Gamma(x + a) / Gamma(a) as a sum of ln (a + i)."""
            logits, log_c = (soft_bound(part) for part in raw.chunk(2))
            a, b = (log_c + F.logsigmoid(logits)).exp(), (log_c + F.logsigmoid(-logits)).exp()
            rising = above * (a + draws).log() + (1 - above).flip(0) * (b + draws).log()
            return (rising - (a + b + draws).log()).sum()

        return climbed(score, torch.cat([mean.logit(), concentration.log()]), ROUNDS)


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
        """ln C(n, x) + ln B(x + alpha, n - x + beta) - ln B(alpha, beta), with the large terms of the Gammas taken
        together: they leave the binomial's mass at the share p, and terms that are small where c is large."""
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
