"""The Bernoulli, its soft-label score, and the continuous Bernoulli, by logits."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl


class Bernoulli(td.Bernoulli):
    """torch's Bernoulli, whose `log_prob` passes over memory twice instead of six times."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return _cross_entropy(self.logits, value)


class SoftBernoulli(Distribution):
    """The soft-label binary cross-entropy as a score: x ln p + (1 - x) ln(1 - p) for x in [0, 1].

    This is not a log-likelihood: exp of it does not integrate to one over [0, 1] (0.14 to 0.50, by p). It is the mean
    of the Bernoulli log-likelihood over binarisations of x; accordingly samples are binary, and the mean is p.
    `ContinuousBernoulli` is the density of this form.
    """

    def __init__(self, logits: Tensor, validate_args: bool = False):
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {"logits": constraints.real}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        return self.mean * (-self.logits).sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        return _cross_entropy(self.logits, value)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(self._extended_shape(sample_shape)))


class ContinuousBernoulli(Distribution):
    """The continuous Bernoulli on [0, 1] (Loaiza-Ganem and Cunningham, 2019, arXiv 1907.06845).

    ln p(x) = l x - A(l) with logits l and A(l) = ln((e^l - 1) / l), an exponential family in l: the mean is A'(l), and
    every quantity here is a stable function of l. Note that the mean is not sigmoid(l).
    """

    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool = False):
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {"logits": constraints.real}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        return _mean(self.logits)

    @property
    def variance(self) -> Tensor:
        small, size = _guard(self.logits, 0.3)
        decay = (-size).exp()
        exact = 1 / size**2 - decay / (1 - decay) ** 2
        square = torch.where(small, self.logits, 0) ** 2
        return torch.where(small, 1 / 12 - square / 240 + square**2 / 6048 - square**3 / 172800, exact)

    def log_prob(self, value: Tensor) -> Tensor:
        # against the nearer end of [0, 1], so that large logits do not cancel against the normaliser
        return self.logits * (value - _right(self.logits)) - _log_normaliser_from_end(self.logits)

    def cdf(self, value: Tensor) -> Tensor:
        small, size = _guard(self.logits, 1e-3)
        toward = torch.where(self.logits < 0, value, 1 - value)
        exact = torch.expm1(-size * toward) / torch.expm1(-size)
        exact = torch.where(self.logits < 0, exact, 1 - exact)
        return torch.where(small, value - self.logits * value * (1 - value) / 2, exact).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        small, size = _guard(self.logits, 1e-3)
        toward = torch.where(self.logits < 0, value, 1 - value)
        inside = toward * torch.expm1(-size)
        end = inside <= -1  # only here would the logarithm be infinite, and the gradient NaN
        exact = torch.where(end, 1.0, -torch.log1p(inside.masked_fill(end, 0.0)) / size)
        exact = torch.where(self.logits < 0, exact, 1 - exact)
        return torch.where(small, value + self.logits * value * (1 - value) / 2, exact).clamp(0, 1)

    def rsample(self, sample_shape=()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def entropy(self) -> Tensor:
        mirrored = -self.logits.abs()
        return log_normaliser(mirrored) - mirrored * _mean(mirrored)


def _cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """x ln p + (1 - x) ln(1 - p) for x in [0, 1], as ln p - (1 - x) l, since ln(1 - p) = ln p - l."""
    # x - 1 has no samples dimension, and addcmul broadcasts it: only two passes are over all of the logits
    return torch.addcmul(F.logsigmoid(logits), x.to(logits.dtype) - 1, logits)


def _guard(logits: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Where |l| is below width (there a series serves), and |l| with those values moved away from 0."""
    small = logits.abs() < width
    return small, torch.where(small, torch.full_like(logits, width), logits.abs())


def log_normaliser(logits: Tensor) -> Tensor:
    """A(l) = ln((e^l - 1) / l) of the continuous Bernoulli, right for every finite l."""
    return _log_normaliser_from_end(logits) + logits * _right(logits)


def _right(logits: Tensor) -> Tensor:
    """The end of [0, 1] towards which the density grows: 1 if l > 0, else 0."""
    return (logits > 0).to(logits.dtype)


def _log_normaliser_from_end(logits: Tensor) -> Tensor:
    """A(l) - max(l, 0), which grows only as ln |l|."""
    small, size = _guard(logits, 0.3)
    exact = torch.log(-torch.expm1(-size)) - size.log()
    logits = torch.where(small, logits, 0)  # a series that overflows where it is not used makes NaN gradients
    square = logits**2
    series = logits * (0.5 - _right(logits)) + square / 24 - square**2 / 2880 + square**3 / 181440
    return torch.where(small, series, exact)


def _mean(logits: Tensor) -> Tensor:
    small, size = _guard(logits, 0.3)
    below = 1 / size - (-size).exp() / -torch.expm1(-size)  # the mean at -|l|
    exact = torch.where(logits < 0, below, 1 - below)
    near = torch.where(small, logits, 0)
    return torch.where(small, 0.5 + near / 12 - near**3 / 720 + near**5 / 30240, exact)


def logits_of_mean(mean: Tensor, steps: int = 60) -> Tensor:
    """The logits at which a continuous Bernoulli has this mean, by bisection in float64."""
    target = mean.double()
    low, high = torch.full_like(target, -1e6), torch.full_like(target, 1e6)
    for _ in range(steps):
        middle = (low + high) / 2
        above = _mean(middle) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return ((low + high) / 2).to(mean.dtype)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl_continuous_bernoulli(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    mirror = 1 - 2 * _right(p.logits)  # x -> 1 - x changes no KL, and puts p's mean near 0, where no digits cancel
    ours, theirs = mirror * p.logits, mirror * q.logits
    return (ours - theirs) * _mean(ours) - log_normaliser(ours) + log_normaliser(theirs)
