"""Mixtures of discretised logistics."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Mass
from vaekit.models.distributions.gamma import wide

COLOURS = 3


class DiscretisedLogistics(Mass):
    """Of values (*batch), whose last `event_dims` dimensions are one event; see `LogisticMixture`.

    The log-density of a value of colours is that given the channels before it, which share its component: they add up
    to the density of all. The mean of a later channel is, in each component, the one at the means of those before it.

    Logits, loc, log_scale and mix have the components before the event.
    """

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        log_scale: Tensor,
        levels: int,
        event_dims: int,
        mix: Tensor | None = None,
    ):
        self.log_weights = logits.log_softmax(-event_dims - 1)
        self.loc, self.log_scale, self.mix = loc, log_scale, mix
        self.levels, self.dim = levels, -event_dims - 1
        super().__init__(loc.select(self.dim, 0))

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.levels - 1)

    @property
    def is_coupled(self) -> bool:
        """Whether the values of an event depend on each other: the channels of colours do."""
        return self.mix is not None

    @property
    def noise_shape(self) -> Size:
        """Of a uniform number to choose each component, and one for each value."""
        lead, event = self.loc.shape[: self.dim], self.loc.shape[self.dim + 1 :]
        channels = event[0] + self.log_weights.shape[self.dim + 1]
        return Size((*lead, channels, *event[1:]))

    def log_mass(self, value: Tensor) -> Tensor:
        each = self.of_components(value.unsqueeze(self.dim))
        if self.mix is None:
            return wide((each + self.log_weights).logsumexp(self.dim))
        up_to = wide((each.cumsum(-3) + self.log_weights).logsumexp(self.dim))  # of the channels up to each
        return torch.cat([up_to[..., :1, :, :], up_to.diff(dim=-3)], -3)

    def of_components(self, value: Tensor) -> Tensor:
        """ln of each component's probability of a value, which has a dimension of size 1 for them."""
        half = 1 / (self.levels - 1)
        x = wide(value) * (2 * half) - 1
        inverse = (-self.log_scale).exp()
        # a small scale magnifies what single precision would lose of the difference
        middle = (x - self._means(x)).to(inverse.dtype) * inverse
        up, down = F.logsigmoid(middle + half * inverse), F.logsigmoid(half * inverse - middle)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)): nothing cancels
        within = up + down + torch.log(-torch.expm1(-2 * half * inverse))
        return torch.where(value <= 0, up, torch.where(value >= self.levels - 1, down, within))

    @property
    def mean(self) -> Tensor:
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments()
        return square - mean**2

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Values from noise (*samples, *noise_shape) uniform on [0, 1)."""
        with torch.no_grad():
            tiny = torch.finfo(uniform.dtype).eps / 2
            dim = self.dim + 1  # of channels, or the only one
            choice, own = uniform.split([self.log_weights.shape[dim], self.batch_shape[dim]], dim)
            below = self.log_weights.exp().cumsum(self.dim)
            last = self.loc.shape[self.dim] - 1
            index = (choice.unsqueeze(self.dim) > below).sum(self.dim, keepdim=True).clamp_max(last)
            index = index.expand(*own.shape[:dim], 1, *own.shape[dim:])
            loc = _picked(self.loc, index, self.dim)
            offset = _picked(self.log_scale, index, self.dim).exp() * own.clamp(tiny, 1 - tiny).logit()
            if self.mix is None:
                return self._nearest(loc + offset)
            mix = _picked(self.mix, index, self.dim)
            found: list[Tensor] = []
            for channel in range(COLOURS):
                seen = torch.stack([self._scaled(x) for x in found], -3) if found else loc[..., :0, :, :]
                mean = _shifted(loc, mix, seen)[..., channel, :, :]
                found += [self._nearest(mean + offset[..., channel, :, :])]
            return torch.stack(found, -3)

    def sample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.noise_shape)
        return self.from_uniform(torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def _means(self, x: Tensor) -> Tensor:
        """Of the components, given the values x, from -1 to 1."""
        return self.loc if self.mix is None else _shifted(self.loc, self.mix, x)

    def _nearest(self, x: Tensor) -> Tensor:
        return ((x + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1)

    def _scaled(self, level: Tensor) -> Tensor:
        return level * (2 / (self.levels - 1)) - 1

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Means of the value and of its square."""
        if self.mix is None:
            first, second = moments_of_level(self.loc, self.log_scale, self.levels)
        else:
            firsts: list[Tensor] = []
            seconds: list[Tensor] = []
            for channel in range(COLOURS):
                seen = torch.stack([self._scaled(x) for x in firsts], -3) if firsts else self.loc[..., :0, :, :]
                loc = _shifted(self.loc, self.mix, seen)[..., channel, :, :]
                one, two = moments_of_level(loc, self.log_scale[..., channel, :, :], self.levels)
                firsts, seconds = [*firsts, one], [*seconds, two]
            first, second = torch.stack(firsts, -3), torch.stack(seconds, -3)
        weights = self.log_weights.exp()
        return (weights * first).sum(self.dim), (weights * second).sum(self.dim)


def moments_of_level(loc: Tensor, log_scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Means of a rounded logistic and of its square, as sums of the chances to lie above each level but the last."""
    first, second, inverse = torch.zeros_like(loc), torch.zeros_like(loc), (-log_scale).exp()
    for level in range(levels - 1):
        above = ((loc - ((2 * level + 1) / (levels - 1) - 1)) * inverse).sigmoid()
        first, second = first + above, second + (2 * level + 1) * above
    return first, second


def _shifted(loc: Tensor, mix: Tensor, x: Tensor) -> Tensor:
    """The means of red, green and blue, (..., 3, height, width), moved by x, the channels before each, if given."""
    seen = x.shape[-3]
    red, green, blue = loc.unbind(-3)
    if seen > 0:
        green, blue = green + mix[..., 0, :, :] * x[..., 0, :, :], blue + mix[..., 1, :, :] * x[..., 0, :, :]
    if seen > 1:
        blue = blue + mix[..., 2, :, :] * x[..., 1, :, :]
    return torch.stack(torch.broadcast_tensors(red, green, blue), -3)


def _picked(values: Tensor, index: Tensor, dim: int) -> Tensor:
    """The components of values that `index`, of size 1 in `dim`, names, without that dimension."""
    shape = list(index.shape)
    shape[dim] = values.shape[dim]
    return values.expand(shape).gather(dim, index).squeeze(dim)
