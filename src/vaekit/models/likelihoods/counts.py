"""Likelihood families of counts 0, 1, 2, ...: Poisson, and negative binomial with and without more zeros."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions.counts import NegativeBinomialByMean, PoissonByMean, ZeroInflatedNegativeBinomial
from vaekit.models.families import LikelihoodHead
from vaekit.models.likelihoods.initialisation import maximised
from vaekit.models.parameters import LOG_VARIANCE_BOUND, Shape, parameters, soft_bound
from vaekit.spec import spec

ROUNDS = 30  # of bisection, over 29 nats: to 3e-8 of them

ASCENT_ROUNDS = 200

ROWS = 2000  # that gradient ascent looks at

HALF = 0.5  # a count, in a column without any, so that its mean is above 0

LOG_MEAN = 0.7  # of the soft bound: ln of a mean is itself within ±28, far beyond the counts of single precision

ENOUGH = math.log(100)  # of r over m: the Poisson is then within 3e-5 nats


@spec
class Poisson(LikelihoodHead):
    """Poisson: the network gives ln of the rate, bounded softly within about ±28.

    Example:
        >>> Poisson()(torch.zeros(5, 3)).mean[0]
        tensor([1., 1., 1.])
    """

    kind: Literal["poisson"] = "poisson"

    accepts = ("count",)
    integers = True

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return PoissonByMean(soft_bound(parameters(raw, 1, event_shape)[0], LOG_MEAN))

    def initial_parameters(self, x: Tensor) -> Tensor:
        return _mean(x).log()


@spec
class NegativeBinomial(LikelihoodHead):
    """Negative binomial, by its mean m and inverse dispersion r; its variance is m + m^2 / r.

    The network gives ln m and ln r, bounded softly within about ±28 and ±20. As r grows it becomes the Poisson.

    Example:
        >>> NegativeBinomial()(torch.zeros(5, 6)).variance[0]
        tensor([2., 2., 2.])
    """

    kind: Literal["negative_binomial"] = "negative_binomial"

    accepts = ("count",)
    integers = True

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        log_mean, log_inverse = parameters(raw, 2, event_shape)
        return NegativeBinomialByMean(soft_bound(log_mean, LOG_MEAN), soft_bound(log_inverse))

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The best r by bisection: the slope of the log-likelihood in it falls through 0 once."""
        x = x.to(torch.float64).flatten(1)
        mean = _mean(x)
        low, high = torch.full_like(mean, -9.0), (mean.log() + ENOUGH).clamp(9.0, LOG_VARIANCE_BOUND)
        for _ in range(ROUNDS):
            r = ((low + high) / 2).exp()
            off = (x - mean) / (mean + r)
            slope = (off.log1p() - off + torch.digamma(x + r) - (x + r).log()).mean(0) - torch.digamma(r) + r.log()
            low, high = torch.where(slope > 0, (low + high) / 2, low), torch.where(slope > 0, high, (low + high) / 2)
        return torch.cat([mean.log(), (low + high) / 2])


@spec
class ZeroInflated(LikelihoodHead):
    """Zero-inflated negative binomial (ZINB): 0 with a probability of its own, else a negative binomial.

    The network gives ln of the mean m and of the inverse dispersion r, as `NegativeBinomial`, and the logit of the
    probability pi of such a zero.

    Source: Lopez et al., 2018, "Deep generative modeling for single-cell transcriptomics" (scVI).

    Example:
        >>> ZeroInflated()(torch.zeros(5, 9)).mean[0]
        tensor([0.5000, 0.5000, 0.5000])
    """

    kind: Literal["zero_inflated"] = "zero_inflated"

    accepts = ("count",)
    integers = True

    def features(self, event_shape: Shape) -> int:
        return 3 * math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        log_mean, log_inverse, zero_logits = parameters(raw, 3, event_shape)
        counts = NegativeBinomialByMean(soft_bound(log_mean, LOG_MEAN), soft_bound(log_inverse))
        return ZeroInflatedNegativeBinomial(counts, soft_bound(zero_logits))

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The best for the first rows, by gradient ascent from a negative binomial of all but half of the zeros."""
        x = x[:ROWS].to(torch.float64).flatten(1)
        zeros = HALF * (x == 0).double().mean(0)
        mean = _mean(x) / (1 - zeros)
        log_r = NegativeBinomial().initial_parameters(x)[x.shape[1] :]
        raw = torch.cat([mean.log(), log_r, zeros.clamp(0.01, 0.99).logit()])
        return maximised(lambda raw: self(raw).log_prob(x).mean(), raw, ASCENT_ROUNDS)


def _mean(x: Tensor) -> Tensor:
    """The mean of each column, (columns,); of one without a count as if half of one had been seen."""
    return (x.sum(0, dtype=torch.float64).clamp_min(HALF) / len(x)).flatten()
