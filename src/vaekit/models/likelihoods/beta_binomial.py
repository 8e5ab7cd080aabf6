"""The beta-binomial likelihood: grey levels by two numbers each."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions.beta_binomial import BetaBinomialByMean
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.models.likelihoods.initialisation import maximised, shares_of_levels
from vaekit.models.parameters import Shape, parameters, soft_bound
from vaekit.spec import spec

ROUNDS = 30


@spec
class BetaBinomial(OverLevels):
    """Beta-binomial over the levels 0, ..., levels-1: a binomial whose probability is a draw of a beta distribution.

    The network gives the logit of the mean share p and the logarithm of the concentration c = alpha + beta, each
    bounded softly within about ±20; alpha = p c, beta = (1 - p) c. As c grows it becomes the binomial.

    Source: Townsend, Bird and Barber, 2019, arXiv 1901.04866 (8-bit MNIST).

    Args:
        levels: Of the data.

    Example:
        >>> BetaBinomial(levels=17)(torch.zeros(5, 6)).mean[0]
        tensor([8., 8., 8.])
    """

    levels: Annotated[int, Field(ge=2, le=65536)] = 256
    kind: Literal["beta_binomial"] = "beta_binomial"

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        logits, log_concentration = parameters(raw, 2, event_shape)
        return BetaBinomialByMean(soft_bound(logits), soft_bound(log_concentration), self.levels - 1)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The best for the shares of the levels, by gradient ascent from the fit of the first two moments."""
        shares, top = shares_of_levels(x, self.levels), self.levels - 1
        level = torch.arange(self.levels, dtype=torch.float64, device=x.device)[:, None]
        mean, second = (shares * level).sum(0) / top, (shares * level**2).sum(0)
        spread = (second - (top * mean) ** 2) / (top * mean * (1 - mean))  # (c + top) / (c + 1)
        concentration = (top - spread).clamp_min(0.1) / (spread - 1).clamp_min(0.1)
        above = shares.flip(0).cumsum(0).flip(0)[1:]  # probability of a level above 0, 1, ...
        draws = level[:-1]

        def score(raw: Tensor) -> Tensor:
            """The mean log-likelihood but for a constant, with ln Gamma(x + a) / Gamma(a) as a sum of ln (a + i)."""
            logits, log_c = (soft_bound(part) for part in raw.chunk(2))
            a, b = (log_c + F.logsigmoid(logits)).exp(), (log_c + F.logsigmoid(-logits)).exp()
            rising = above * (a + draws).log() + (1 - above).flip(0) * (b + draws).log()
            return (rising - (a + b + draws).log()).sum()

        return maximised(score, torch.cat([mean.logit(), concentration.log()]), ROUNDS)
