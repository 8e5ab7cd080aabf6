"""Heads for counts 0, 1, 2, ...: Poisson, and negative binomial with and without more zeros."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints

from vaekit.models.distributions import Mass
from vaekit.models.families import LOG_VARIANCE_BOUND, Head, Shape, parameters, soft_bound
from vaekit.models.gamma import gamma_rest, log_factorial, wide
from vaekit.models.starts import climbed
from vaekit.spec import spec

ROUNDS = 30  # of bisection, over 29 nats: to 3e-8 of them
UPHILL = 200  # rounds
ROWS = 2000  # that a start uphill looks at
HALF = 0.5  # a count, in a column without any, so that its mean is above 0
LOG_MEAN = 0.7  # of the soft bound: ln of a mean is itself within ±28, far beyond the counts of single precision
MOST_DRAWN = 2.0**62  # above which torch draws negative counts
ENOUGH = math.log(100)  # of r over m: the Poisson is then within 3e-5 nats


@spec
class Poisson(Head):
    """Poisson: the network gives ln of the rate, bounded softly within about ±28.

    >>> Poisson()(torch.zeros(5, 3)).mean[0]
    tensor([1., 1., 1.])
    """

    kind: Literal["poisson"] = "poisson"

    accepts = ("count",)
    integers = True

    @staticmethod
    def family(log_mean: Tensor, validate_args: bool = False) -> Distribution:
        return PoissonByMean(log_mean)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"log_mean": soft_bound(parameters(raw, 1, event_shape)[0], LOG_MEAN)}

    def start(self, x: Tensor) -> Tensor:
        return _mean(x).log()


@spec
class NegativeBinomial(Head):
    """Negative binomial: the network gives ln of the mean m and of the inverse dispersion r, bounded softly within
    about ±28 and ±20. Its variance is m + m^2 / r; as r grows it becomes the Poisson.

    >>> NegativeBinomial()(torch.zeros(5, 6)).variance[0]
    tensor([2., 2., 2.])
    """

    kind: Literal["negative_binomial"] = "negative_binomial"

    accepts = ("count",)
    integers = True

    @staticmethod
    def family(log_mean: Tensor, log_inverse: Tensor, validate_args: bool = False) -> Distribution:
        return NegativeBinomialByMean(log_mean, log_inverse)

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        log_mean, log_inverse = parameters(raw, 2, event_shape)
        return {"log_mean": soft_bound(log_mean, LOG_MEAN), "log_inverse": soft_bound(log_inverse)}

    def start(self, x: Tensor) -> Tensor:
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
class ZeroInflated(Head):
    """Negative binomial that is 0 instead with a probability of its own (ZINB): counts of which some went unseen.

    The network gives ln of the mean m and of the inverse dispersion r, as `NegativeBinomial`, and the logit of the
    probability pi of a zero by itself.

    Source: Lopez et al., 2018, "Deep generative modeling for single-cell transcriptomics" (scVI).

    >>> ZeroInflated()(torch.zeros(5, 9)).mean[0]
    tensor([0.5000, 0.5000, 0.5000])
    """

    kind: Literal["zero_inflated"] = "zero_inflated"

    accepts = ("count",)
    integers = True

    @staticmethod
    def family(log_mean: Tensor, log_inverse: Tensor, zero_logits: Tensor, validate_args: bool = False) -> Distribution:
        return ZeroInflatedNegativeBinomial(NegativeBinomialByMean(log_mean, log_inverse), zero_logits)

    def features(self, event_shape: Shape) -> int:
        return 3 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        log_mean, log_inverse, zero_logits = parameters(raw, 3, event_shape)
        counts = {"log_mean": soft_bound(log_mean, LOG_MEAN), "log_inverse": soft_bound(log_inverse)}
        return counts | {"zero_logits": soft_bound(zero_logits)}

    def start(self, x: Tensor) -> Tensor:
        """The best for the first rows, uphill from the negative binomial's best for what half of the zeros leave."""
        x = x[:ROWS].to(torch.float64).flatten(1)
        zeros = HALF * (x == 0).double().mean(0)
        mean = _mean(x) / (1 - zeros)
        log_r = NegativeBinomial().start(x)[x.shape[1] :]
        raw = torch.cat([mean.log(), log_r, zeros.clamp(0.01, 0.99).logit()])
        return climbed(lambda raw: self(raw).log_prob(x).mean(), raw, UPHILL)


class PoissonByMean(Mass):
    """By ln of its mean, (*batch)."""

    def __init__(self, log_mean: Tensor):
        self.log_mean = log_mean
        super().__init__(log_mean)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def log_mass(self, value: Tensor) -> Tensor:
        x, log_mean = wide(value), wide(self.log_mean)
        return x * log_mean - log_mean.exp() - log_factorial(x)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.clamp_max(MOST_DRAWN).expand(self._extended_shape(sample_shape)))


class NegativeBinomialByMean(Mass):
    """By ln of its mean m and of its inverse dispersion r, (*batch) each."""

    def __init__(self, log_mean: Tensor, log_inverse: Tensor):
        self.log_mean, self.log_inverse = log_mean, log_inverse
        super().__init__(log_mean)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 + (self.log_mean - self.log_inverse).exp())

    def log_mass(self, value: Tensor) -> Tensor:
        """ln Gamma(x + r) / (Gamma(r) x!) + r ln(r / (r + m)) + x ln(m / (r + m)), with the large terms of the Gammas
        taken together: they leave (x + r) ln((x + r) / (m + r)), which is small where x is near m, or r large."""
        x, log_mean, r = wide(value), wide(self.log_mean), wide(self.log_inverse).exp()
        mean = log_mean.exp()
        large = x * log_mean - (x + log_factorial(x)) + (x + r) * ((x - mean) / (mean + r)).log1p()
        return large + gamma_rest(x + r) - gamma_rest(r)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            r = self.log_inverse.exp().expand(shape)
            rate = td.Gamma(r, torch.ones_like(r), validate_args=False).sample()
            return torch.poisson((rate * (self.log_mean - self.log_inverse).exp()).clamp_max(MOST_DRAWN))


class ZeroInflatedNegativeBinomial(Mass):
    """0 with probability pi, else a draw of the counts: by the counts and the logit of pi, (*batch)."""

    def __init__(self, counts: NegativeBinomialByMean, zero_logits: Tensor):
        self.counts, self.zero_logits = counts, zero_logits
        super().__init__(zero_logits)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return (-self.zero_logits).sigmoid() * self.counts.mean

    @property
    def variance(self) -> Tensor:
        return (-self.zero_logits).sigmoid() * self.counts.variance + self.zero_logits.sigmoid() * self.mean * (
            self.counts.mean
        )

    def log_mass(self, value: Tensor) -> Tensor:
        counted = F.logsigmoid(-self.zero_logits) + self.counts.log_mass(value)
        return torch.where(value == 0, torch.logaddexp(wide(F.logsigmoid(self.zero_logits)), counted), counted)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            drawn = self.counts.sample(sample_shape)
            return drawn * (torch.rand_like(drawn) >= self.zero_logits.sigmoid())


def _mean(x: Tensor) -> Tensor:
    """The mean of each column, (columns,); of one without a count as if half of one had been seen."""
    return (x.sum(0, dtype=torch.float64).clamp_min(HALF) / len(x)).flatten()
