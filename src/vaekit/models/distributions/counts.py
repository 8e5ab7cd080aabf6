"""Distributions over counts, by their means."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td
from torch.distributions import constraints

from vaekit.models.distributions.base import Mass
from vaekit.models.distributions.gamma import gamma_rest, log_factorial, nonzero_of_many, wide

MOST_DRAWN = 2.0**62  # above which torch draws negative counts


class PoissonByMean(Mass):
    """By ln of its mean, (*batch), which may be in a higher precision than what the distribution gives, `dtype`."""

    def __init__(self, log_mean: Tensor, dtype: torch.dtype | None = None):
        self.log_mean = log_mean
        super().__init__(log_mean, dtype)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def log_rate(self) -> Tensor:
        """ln of the rate of each value."""
        return self.log_mean

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp().to(self.dtype)

    @property
    def variance(self) -> Tensor:
        return self.mean

    def log_mass(self, value: Tensor) -> Tensor:
        x, log_mean = wide(value), wide(self.log_mean)
        return x * log_mean - log_mean.exp() - log_factorial(x)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            mean = self.log_mean.exp().clamp_max(MOST_DRAWN)
            return torch.poisson(mean.expand(self._extended_shape(sample_shape))).to(self.dtype)


class NegativeBinomialByMean(Mass):
    """By ln of its mean m, (*batch), and of its inverse dispersion r, broadcast to that; see `PoissonByMean`."""

    def __init__(self, log_mean: Tensor, log_inverse: Tensor, dtype: torch.dtype | None = None):
        self.log_mean, self.log_inverse = log_mean, log_inverse
        super().__init__(log_mean, dtype)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def log_rate(self) -> Tensor:
        """ln of the mean of each value."""
        return self.log_mean

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp().to(self.dtype)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 + (self.log_mean - self.log_inverse).exp()).to(self.dtype)

    def log_mass(self, value: Tensor) -> Tensor:
        """ln Gamma(x + r) / (Gamma(r) x!) + r ln(r / (r + m)) + x ln(m / (r + m)).

        The large terms of the Gammas are taken together: they leave (x + r) ln((x + r) / (m + r)), which is small where
        x is near m, or r large. Of zeros, r ln(r / (r + m)) is all there is.
        """
        x, log_mean, r = wide(value), wide(self.log_mean), wide(self.log_inverse).exp()
        shape = torch.broadcast_shapes(x.shape, log_mean.shape)
        place = nonzero_of_many(x.expand(shape))
        if place is None:
            return self._log_mass(x, log_mean, r)
        of_zeros = -r * (log_mean.exp() / r).log1p()
        some = (part.expand(shape)[place] for part in (x, log_mean, r))
        return of_zeros.expand(shape).index_put(place, self._log_mass(*some))

    @staticmethod
    def _log_mass(x: Tensor, log_mean: Tensor, r: Tensor) -> Tensor:
        mean = log_mean.exp()
        large = x * log_mean - (x + log_factorial(x)) + (x + r) * ((x - mean) / (mean + r)).log1p()
        return large + gamma_rest(x + r) - gamma_rest(r)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            r = self.log_inverse.exp().expand(shape)
            rate = td.Gamma(r, torch.ones_like(r), validate_args=False).sample()
            mean = rate * (self.log_mean - self.log_inverse).exp()
            return torch.poisson(mean.clamp_max(MOST_DRAWN)).to(self.dtype)


class ZeroInflatedNegativeBinomial(Mass):
    """0 with probability pi, else a draw of the counts: by the counts and the logit of pi, (*batch)."""

    def __init__(self, counts: NegativeBinomialByMean, zero_logits: Tensor):
        self.counts, self.zero_logits = counts, zero_logits
        super().__init__(zero_logits)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def log_rate(self) -> Tensor:
        """ln of the mean of the counts, without the zeros of another kind."""
        return self.counts.log_rate

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
