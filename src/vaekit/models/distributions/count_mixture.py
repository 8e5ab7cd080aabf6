"""Mixtures of logistics on the scale arsinh x, rounded to counts."""

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Mass
from vaekit.models.distributions.gamma import wide

MOST_DRAWN = 1e30  # within single precision
SMOOTH_FROM = 1e5  # counts, from where on a step of arsinh is its slope to 1e-11
COUNTED = 8  # counts whose probabilities are added up one by one in a mean; larger ones are integrated
NODES = range(-15, 51)  # of the integral, in units of a logistic's scale


class DiscretisedCounts(Mass):
    """Counts rounded from sinh(loc + scale l), l a standard logistic, of one of several components.

    See `CountMixture`. What lies below one half is given to 0. Logits, loc and log_scale are (..., components, *event).

    Args:
        logits: Of the components' weights.
        loc: On the scale of arsinh, in double precision where the device has it.
        log_scale: The same; a scale below 1/2 has a finite variance.
        event_dims: Dimensions of the event.
    """

    def __init__(self, logits: Tensor, loc: Tensor, log_scale: Tensor, event_dims: int):
        self.log_weights = logits.log_softmax(-event_dims - 1)
        self.loc, self.log_scale, self.dim = loc, log_scale, -event_dims - 1
        super().__init__(self.log_weights.select(self.dim, 0))

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @property
    def noise_shape(self) -> Size:
        """Of a uniform number to choose the component of each value, and one for the value."""
        lead, event = self.loc.shape[: self.dim], self.loc.shape[self.dim + 1 :]
        return Size((*lead, 2, *event))

    def log_mass(self, value: Tensor) -> Tensor:
        each = self.of_components(value.unsqueeze(self.dim))
        return (each + wide(self.log_weights)).logsumexp(self.dim)

    def of_components(self, value: Tensor) -> Tensor:
        """ln of each component's probability of a value, which has a dimension of size 1 for them."""
        x, inverse = wide(value), (-self.log_scale).exp()
        upper, lower = torch.asinh(x + 0.5), torch.asinh(x - 0.5)
        step = torch.where(x > SMOOTH_FROM, (1 + x * x).rsqrt(), upper - lower) * inverse
        up, down = F.logsigmoid((upper - self.loc) * inverse), F.logsigmoid((self.loc - lower) * inverse)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)): nothing cancels
        return torch.where(value <= 0, up, up + down + torch.log(-torch.expm1(-step)))

    @property
    def mean(self) -> Tensor:
        return self._moment(1).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        return (self._moment(2) - self._moment(1) ** 2).clamp_min(0).to(self.dtype)

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Values from noise (*samples, *noise_shape) uniform on [0, 1)."""
        with torch.no_grad():
            tiny = torch.finfo(uniform.dtype).eps / 2
            choice, own = uniform.split(1, self.dim)
            below = self.log_weights.exp().cumsum(self.dim)
            index = (choice > below).sum(self.dim, keepdim=True).clamp_max(self.loc.shape[self.dim] - 1)
            shape = list(index.shape)
            shape[self.dim] = self.loc.shape[self.dim]
            loc, log_scale = (part.expand(shape).gather(self.dim, index) for part in (self.loc, self.log_scale))
            drawn = self._counts(loc + log_scale.exp() * wide(own).clamp(tiny, 1 - tiny).logit())
            return drawn.round().clamp_min(0).squeeze(self.dim).to(self.dtype)

    def sample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.noise_shape)
        return self.from_uniform(torch.rand(shape, dtype=self.dtype, device=self.loc.device))

    @staticmethod
    def _counts(scaled: Tensor) -> Tensor:
        most = math.asinh(MOST_DRAWN)
        return scaled.clamp(-most, most).sinh()

    def _moment(self, power: int) -> Tensor:
        """Mean of a power of the value, 1 or 2: a sum of the probabilities to lie above each count."""
        scale, inverse = self.log_scale.exp(), (-self.log_scale).exp()
        found = torch.zeros_like(self.loc)
        for count in range(1, COUNTED + 1):
            above = ((self.loc - math.asinh(count - 0.5)) * inverse).sigmoid()
            found = found + (count**power - (count - 1) ** power) * above
        for node in NODES:
            share = 1 / (2 + 2 * math.cosh(node))  # the logistic's density
            y = self._counts(self.loc + scale * node).clamp_min(COUNTED)
            found = found + share * (y**power - COUNTED**power)
        return (wide(self.log_weights).exp() * found).sum(self.dim)
