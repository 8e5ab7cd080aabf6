"""Beta-binomial: grey levels by two numbers each."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.counts import log_rising
from vaekit.models.distributions import Unchecked
from vaekit.models.families import OverLevels, Shape, parameters, soft_bound
from vaekit.models.starts import climbed, shares_of_levels
from vaekit.spec import spec

ROUNDS = 30


@spec
class BetaBinomial(OverLevels):
    """Beta-binomial over the levels 0, ..., levels-1: binomial draws of levels - 1, whose chance is a beta's draw.

    The network gives the logit of the mean share p and the logarithm of the concentration c = alpha + beta, each
    bounded softly within about ±10; alpha = p c, beta = (1 - p) c. As c grows it becomes the binomial.

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
        return {"logits": soft_bound(logits, 2), "log_concentration": soft_bound(log_concentration, 2)}

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
            logits, log_c = (soft_bound(part, 2) for part in raw.chunk(2))
            a, b = (log_c + F.logsigmoid(logits)).exp(), (log_c + F.logsigmoid(-logits)).exp()
            rising = above * (a + draws).log() + (1 - above).flip(0) * (b + draws).log()
            return (rising - (a + b + draws).log()).sum()

        return climbed(score, torch.cat([mean.logit(), concentration.log()]), ROUNDS)


class BetaBinomialByMean(Unchecked):
    """Of `count` draws, by the logit of their mean share and ln (alpha + beta), (*batch) each."""

    def __init__(self, logits: Tensor, log_concentration: Tensor, count: int):
        self.logits, self.log_concentration, self.count = logits, log_concentration, count
        super().__init__(logits.shape)

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

    def log_prob(self, value: Tensor) -> Tensor:
        """ln C(n, x) + ln B(x + alpha, n - x + beta) - ln B(alpha, beta), the binomial's part taken out of the B's."""
        x, n = value.to(self.logits.dtype), self.count
        log_p, log_rest = F.logsigmoid(self.logits), F.logsigmoid(-self.logits)
        c = self.log_concentration
        ways = math.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(n - x + 1)
        rising = log_rising(x, (c + log_p).exp()) + log_rising(n - x, (c + log_rest).exp())
        return ways + x * log_p + (n - x) * log_rest + rising - log_rising(x.new_tensor(float(n)), c.exp())

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
