"""Heads for counts 0, 1, 2, ...: Poisson, and negative binomial with and without more zeros."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints

from vaekit.models.distributions import Unchecked
from vaekit.models.families import Head, Shape, floating, parameters, soft_bound
from vaekit.models.starts import climbed
from vaekit.spec import spec

ROUNDS = 60  # of bisection, or uphill
ROWS = 2000  # that a start uphill looks at
HALF = 0.5  # a count added to each column, so that its mean is above 0


@spec
class Poisson(Head):
    """Poisson: the network gives ln of the rate, bounded softly within about ±10.

    >>> Poisson()(torch.zeros(5, 3)).mean[0]
    tensor([1., 1., 1.])
    """

    kind: Literal["poisson"] = "poisson"

    family = td.Poisson
    accepts = ("count",)
    integers = True

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"rate": soft_bound(parameters(raw, 1, event_shape)[0], 2).exp()}

    def start(self, x: Tensor) -> Tensor:
        return _mean(x).log()


@spec
class NegativeBinomial(Head):
    """Negative binomial: the network gives ln of the mean m and of the inverse dispersion r, each bounded softly within
    about ±10. Its variance is m + m^2 / r; as r grows it becomes the Poisson.

    >>> NegativeBinomial()(torch.zeros(5, 6)).variance[0]
    tensor([2., 2., 2.])
    """

    kind: Literal["negative_binomial"] = "negative_binomial"

    accepts = ("count",)
    integers = True

    @staticmethod
    def family(mean: Tensor, inverse_dispersion: Tensor, validate_args: bool = False) -> Distribution:
        return NegativeBinomialByMean(mean, inverse_dispersion)

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        log_mean, log_inverse = parameters(raw, 2, event_shape)
        return {"mean": soft_bound(log_mean, 2).exp(), "inverse_dispersion": soft_bound(log_inverse, 2).exp()}

    def start(self, x: Tensor) -> Tensor:
        """The best r by bisection: the slope of the log-likelihood in it falls through 0 once."""
        x = x.to(torch.float64).flatten(1)
        mean = _mean(x)
        low, high = torch.full_like(mean, -9.0), torch.full_like(mean, 9.0)
        for _ in range(ROUNDS):
            r = ((low + high) / 2).exp()
            slope = (torch.digamma(x + r) - (x + r) / (mean + r)).mean(0)
            slope = slope - torch.digamma(r) + 1 - torch.log1p(mean / r)
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
    def family(
        mean: Tensor, inverse_dispersion: Tensor, zero_logits: Tensor, validate_args: bool = False
    ) -> Distribution:
        return ZeroInflatedNegativeBinomial(NegativeBinomialByMean(mean, inverse_dispersion), zero_logits)

    def features(self, event_shape: Shape) -> int:
        return 3 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        log_mean, log_inverse, zero_logits = parameters(raw, 3, event_shape)
        mean, inverse = soft_bound(log_mean, 2).exp(), soft_bound(log_inverse, 2).exp()
        return {"mean": mean, "inverse_dispersion": inverse, "zero_logits": soft_bound(zero_logits, 2)}

    def start(self, x: Tensor) -> Tensor:
        """The best for the first rows, uphill from the negative binomial's best for what half of the zeros leave."""
        x = x[:ROWS].to(torch.float64).flatten(1)
        some = torch.full_like(x[:1], HALF)  # a row seen besides, so that no column is constant
        seen = torch.cat([x, some.floor(), some.ceil()])
        zeros = HALF * (seen == 0).double().mean(0)
        mean = seen.mean(0) / (1 - zeros)
        raw = torch.cat([mean.log(), NegativeBinomial().start(x)[x.shape[1] :], zeros.clamp_min(0.01).logit()])
        return climbed(lambda raw: self(raw).log_prob(seen).mean(), raw, ROUNDS)


class NegativeBinomialByMean(Unchecked):
    """By its mean m and inverse dispersion r, (*batch) each; right up to large r, where lgamma would cancel."""

    def __init__(self, mean: Tensor, inverse_dispersion: Tensor):
        self._mean, self.inverse_dispersion = mean, inverse_dispersion
        super().__init__(mean.shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        return self._mean + self._mean**2 / self.inverse_dispersion

    def log_prob(self, value: Tensor) -> Tensor:
        """ln Gamma(x + r) / (Gamma(r) x!) + r ln(r / (r + m)) + x ln(m / (r + m))."""
        x, r = value.to(self._mean.dtype), self.inverse_dispersion
        rest = x * self._mean.log() - torch.lgamma(x + 1) - (x + r) * torch.log1p(self._mean / r)
        return rest + log_rising(x, r)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            r, mean = self.inverse_dispersion.expand(shape), self._mean.expand(shape)
            return torch.poisson(td.Gamma(r, r / mean, validate_args=False).sample())


class ZeroInflatedNegativeBinomial(Unchecked):
    """0 with probability pi, else a draw of the counts: by the counts and the logit of pi, (*batch)."""

    def __init__(self, counts: NegativeBinomialByMean, zero_logits: Tensor):
        self.counts, self.zero_logits = counts, zero_logits
        super().__init__(zero_logits.shape)

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

    def log_prob(self, value: Tensor) -> Tensor:
        counted = F.logsigmoid(-self.zero_logits) + self.counts.log_prob(value)
        return torch.where(value == 0, torch.logaddexp(F.logsigmoid(self.zero_logits), counted), counted)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            drawn = self.counts.sample(sample_shape)
            return drawn * (torch.rand_like(drawn) >= self.zero_logits.sigmoid())


def log_rising(x: Tensor, r: Tensor) -> Tensor:
    """ln Gamma(x + r) - ln Gamma(r) - x ln r, by Stirling's series where r is large."""
    large = r > 100
    safe = torch.where(large, 1.0, r)
    exact = torch.lgamma(x + safe) - torch.lgamma(safe) - x * safe.log()
    safe = torch.where(large, r, 100.0)
    series = (x + safe - 0.5) * torch.log1p(x / safe) - x + (1 / (x + safe) - 1 / safe) / 12
    return torch.where(large, series, exact)


def _mean(x: Tensor) -> Tensor:
    return ((floating(x).sum(0) + HALF) / (len(x) + HALF)).flatten()
