"""Distributions that torch lacks, or that are not right there at extreme parameters. All work on logits."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl


class Unchecked(Distribution):
    """A distribution that leaves it to its maker that its arguments are right. Abstract."""

    def __init__(self, batch_shape: Sequence[int], event_shape: Sequence[int] = ()):
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}


class Mass(Unchecked):
    """A distribution over integers whose log-mass is a small difference of large numbers, which it computes in double
    precision. Abstract; made of one of its parameters, (*batch)."""

    def __init__(self, like: Tensor):
        self.dtype = like.dtype
        super().__init__(like.shape)

    @abstractmethod
    def log_mass(self, value: Tensor) -> Tensor:
        """ln of the probability of each value, in double precision where the device has it."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_mass(value).to(self.dtype)


class Summed(td.Independent):
    """torch's Independent, which adds up the values of a `Mass` before they are rounded to single precision."""

    def log_prob(self, value: Tensor) -> Tensor:
        if not isinstance(self.base_dist, Mass) or self.reinterpreted_batch_ndims == 0:
            return super().log_prob(value)
        return self.base_dist.log_mass(value).flatten(-self.reinterpreted_batch_ndims).sum(-1).to(self.base_dist.dtype)


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


class Categorical(Unchecked):
    """Categorical over the levels 0, ..., C-1, whose mean and variance are those of the level.

    Unlike torch's, the logits may hold the levels in any dimension (`dim`, negative), so that those of an image need
    not be moved: with the levels before the pixels, the softmax runs four times as fast on a CPU.
    """

    def __init__(self, logits: Tensor, dim: int = -1):
        self.log_probs = logits.log_softmax(dim)
        self.dim = dim
        super().__init__(_without(logits.shape, dim))

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.log_probs.shape[self.dim] - 1)

    @property
    def probs(self) -> Tensor:
        """(*batch, C)."""
        return self.log_probs.exp().movedim(self.dim, -1)

    @property
    def mean(self) -> Tensor:
        return self.probs @ self._levels()

    @property
    def variance(self) -> Tensor:
        return self.probs @ self._levels() ** 2 - self.mean**2

    def log_prob(self, value: Tensor) -> Tensor:
        shape = np.broadcast_shapes(self.batch_shape, value.shape)  # torch's imports sympy
        index = value.long().expand(shape).unsqueeze(self.dim)
        full = list(index.shape)
        full[self.dim] = -1
        log_probs = self.log_probs[(None,) * (len(full) - self.log_probs.dim())]
        return log_probs.expand(full).gather(self.dim, index).squeeze(self.dim)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(self.dim)

    def sample(self, sample_shape=()) -> Tensor:
        uniform = torch.rand(
            (*sample_shape, *self.log_probs.shape), dtype=self.log_probs.dtype, device=self.log_probs.device
        )
        return self.from_uniform(uniform)

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Samples from noise (*samples, *logits) uniform on [0, 1): the arg max of Gumbel noise on the logits."""
        tiny = torch.finfo(uniform.dtype).tiny
        exponential = -uniform.clamp_min(tiny).log()
        return (self.log_probs - exponential.clamp_min(tiny).log()).argmax(self.dim)

    def _levels(self) -> Tensor:
        count = self.log_probs.shape[self.dim]
        return torch.arange(count, dtype=self.log_probs.dtype, device=self.log_probs.device)


def _cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """x ln p + (1 - x) ln(1 - p) for x in [0, 1], as ln p - (1 - x) l, since ln(1 - p) = ln p - l."""
    # x - 1 has no samples dimension, and addcmul broadcasts it: only two passes are over all of the logits
    return torch.addcmul(F.logsigmoid(logits), x.to(logits.dtype) - 1, logits)


def _without(shape: torch.Size, dim: int) -> torch.Size:
    kept = list(shape)
    del kept[dim]
    return torch.Size(kept)


def _guard(logits: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Where |l| is below width (there a series serves), and |l| with those places moved away from 0."""
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


@register_kl(Categorical, Categorical)
def _kl_categorical(p: Categorical, q: Categorical) -> Tensor:
    log_p, log_q = p.log_probs.movedim(p.dim, -1), q.log_probs.movedim(q.dim, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl_continuous_bernoulli(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    mirror = 1 - 2 * _right(p.logits)  # x -> 1 - x changes no KL, and puts p's mean near 0, where no digits cancel
    ours, theirs = mirror * p.logits, mirror * q.logits
    return (ours - theirs) * _mean(ours) - log_normaliser(ours) + log_normaliser(theirs)


class Delta(Unchecked):
    """All mass on one point, loc (..., size): what an encoder without noise gives.

    It has no density. `log_prob` is that of a mass: 0 at the point, minus infinity elsewhere; so ln p(z) - ln q(z) is
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


def support_of(px: Distribution) -> constraints.Constraint | None:
    """Where values may lie; None for somebody else's distribution that does not say."""
    try:
        return px.support
    except NotImplementedError:
        return None


def in_words(support: constraints.Constraint | None) -> str:
    """A support, for a message."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real:
        return "the real numbers"
    if support is constraints.boolean:
        return "{0, 1}"
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None:
        return str(support)
    numbers = "the whole numbers" if getattr(support, "is_discrete", False) else "the numbers"
    return f"{numbers} from {low:g}" + ("" if high is None else f" to {high:g}")


def check_values(px: Distribution, x: Tensor) -> None:
    """Refuse rows x (batch, *event) with a value to which p(x|z), over rows, gives no probability.

    Raises:
        ValueError: names the value, its row, and where values may lie.
    """
    if x.device.type == "meta":
        return
    support, inside = _of_values(px), x.isfinite()
    if support is not None:
        allowed = support.check(x)
        inside = inside & allowed.reshape(*allowed.shape, *[1] * (x.dim() - allowed.dim()))
    if inside.all():
        return
    cell = tuple(int(place) for place in (~inside).nonzero()[0])
    value = float(x[cell])
    if not math.isfinite(value):
        rule = "is over finite numbers: fill or leave out what is missing"
    elif support is constraints.boolean:
        rule = "is over {0, 1}: binarise the data, or take a likelihood over [0, 1], such as ContinuousBernoulli"
    else:
        fix = (
            "give whole numbers in that range" if support and support.is_discrete else "scale the data into that range"
        )
        rule = f"is over {in_words(support)}: {fix}, or take a likelihood over real numbers, such as Gaussian"
    raise ValueError(f"row {cell[0]} of x holds {value:g}, and the likelihood ({_name(px)}) {rule}")


def _of_values(px: Distribution) -> constraints.Constraint | None:
    """Where each value may lie; None where that depends on z, or is not said: then p(x|z) itself has to say it."""
    support = support_of(px)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is None or constraints.is_dependent(support):
        return None
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return None if any(isinstance(bound, Tensor) and bound.dim() > 0 for bound in bounds) else support


def _name(px: Distribution) -> str:
    while isinstance(px, td.Independent):
        px = px.base_dist
    return type(px).__name__


def measure(px: Distribution) -> str:
    """What exp(log_prob) is: a probability "mass", a "density", or only a "score" that is no likelihood."""
    while isinstance(px, td.Independent):
        px = px.base_dist
    if isinstance(px, SoftBernoulli):
        return "score"
    support = support_of(px)
    return "mass" if support is not None and support.is_discrete else "density"
