"""Discretised mixture of logistics: grey levels and colours as rounded draws of a few continuous bumps."""

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.distributions import Mass
from vaekit.models.families import LOG_VARIANCE_BOUND, OverLevels, Shape, independent, soft_bound, unpack
from vaekit.models.gamma import wide
from vaekit.models.starts import climbed, shares_of_levels
from vaekit.spec import spec

COLOURS = 3
ROUNDS = 10  # of expectation and maximisation
UPHILL = 300  # rounds
MOST_WORK = 40_000_000  # masses of components that rounds uphill compute


@spec
class LogisticMixture(OverLevels):
    """Each value is a draw of a mixture of logistic distributions, rounded to the nearest level, with all that lies
    beyond the lowest and the highest one given to them: a probability mass for every setting of the numbers.

    The network gives, for each value, `components` weights, means and log-scales, where levels run from -1 to 1. The
    log-scales are bounded softly: within ±10, or more widely where that is not 4 below half of a level. The three
    channels of an image of colours share their weights; the means of green and blue move by learned multiples of the
    true red, and red and green.

    Source: Salimans et al., 2017, arXiv 1701.05517, equations 2 and 3; the soft bound: Hazami, Mama and Thurairatnam,
    2022, arXiv 2203.13751.

    Args:
        levels: of the data.
        components: of each mixture.

    >>> LogisticMixture(levels=4, components=1)(torch.zeros(12), (1, 2, 2)).mean.flatten()
    tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """

    levels: Annotated[int, Field(ge=2, le=65536)] = 256
    components: Annotated[int, Field(ge=1, le=1000)] = 5
    kind: Literal["logistic_mixture"] = "logistic_mixture"

    def features(self, event_shape: Shape) -> int:
        each = 1 + 3 * COLOURS if _coloured(event_shape) else 3 * event_shape[0]
        return self.components * each * math.prod(event_shape[1:])

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """`logits`, `loc`, `log_scale`, (..., components, *event), but for colours one channel of logits, and `mix`,
        (..., components, 3, height, width): of red in green, of red in blue, of green in blue."""
        if not _coloured(event_shape):
            packed = unpack(raw, 3 * self.components, event_shape)
            dim = -1 - (1 if event_shape is None else len(event_shape))
            logits, loc, log_scale = packed.unflatten(dim, (3, self.components)).unbind(dim - 1)
            return {"logits": logits, "loc": loc, "log_scale": self._bounded(log_scale)}
        assert event_shape is not None
        packed = unpack(raw, self.components * (1 + 3 * COLOURS), (1, *event_shape[1:]))
        packed = packed.squeeze(-3).unflatten(-3, (1 + 3 * COLOURS, self.components)).movedim(-4, -3)
        logits, loc, log_scale, mix = packed.split([1, COLOURS, COLOURS, COLOURS], -3)
        return {"logits": logits, "loc": loc, "log_scale": self._bounded(log_scale), "mix": mix.tanh()}

    def _bounded(self, log_scale: Tensor) -> Tensor:
        """As far down as a component that is all but one level."""
        return soft_bound(log_scale, LOG_VARIANCE_BOUND / max(10.0, 4 + math.log(self.levels - 1)))

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        dims = 1 if event_shape is None else len(event_shape)
        base = DiscretisedLogistics(**self.arguments(raw, event_shape), levels=self.levels, event_dims=dims)
        return independent(base, dims)

    def start(self, x: Tensor) -> Tensor:
        """A mixture for each value, from its even quantiles by expectation and maximisation with moments; for colours
        the weights of a pixel's channels are tied, and none moves another."""
        shares, event = shares_of_levels(x, self.levels), x.shape[1:]  # (levels, values)
        half = 1 / (self.levels - 1)
        levels = torch.arange(self.levels, device=x.device)[:, None, None]
        scaled = 2 * half * levels - 1
        cuts = (torch.arange(self.components, dtype=torch.float64, device=x.device) + 0.5) / self.components
        below = shares.cumsum(0).T.contiguous()  # (values, levels)
        places = torch.searchsorted(below, cuts.expand(len(below), -1).contiguous()).clamp_max(self.levels - 1)
        loc = (2 * half * places - 1).T  # (components, values); below, joint is (levels, components, values)
        scale = ((loc[-1] - loc[0]) / (2 * self.components) + half).expand_as(loc)
        scale = torch.cat([scale[:-1], scale[-1:].clamp_min(0.25)])  # one is wide, for what is rare
        weights = torch.full_like(loc, 1 / self.components)
        for _ in range(ROUNDS):
            base = DiscretisedLogistics(weights.log(), loc, scale.log(), self.levels, 1)
            joint = (base.of_components(levels) + base.log_weights).softmax(1) * shares[:, None]
            weights = joint.sum(0).clamp_min(1e-4)
            if _coloured(event):
                weights = weights.unflatten(1, (COLOURS, -1)).mean(1, keepdim=True).expand(-1, COLOURS, -1).flatten(1)
            mass = joint.sum(0).clamp_min(1e-9)
            loc = (joint * scaled).sum(0) / mass
            variance = (joint * (scaled - loc) ** 2).sum(0) / mass
            scale = (variance * (3 / math.pi**2)).sqrt().clamp_min(half / 4)
        logits, loc, log_scale = (t.reshape(-1, *event) for t in (weights.log(), loc, scale.log()))
        if not _coloured(event):
            return torch.cat([logits, loc, log_scale]).flatten()
        packed = torch.cat([logits[:, :1], loc, log_scale, torch.zeros_like(loc)], 1)  # (components, 10, h, w)
        return packed.movedim(1, 0).flatten()

    def fitted(self, x: Tensor) -> Tensor:
        """Uphill from the start, by as many rounds as a few seconds allow: to the best of 36 pixels, and nearer to that
        of a large picture. Of colours the start."""
        raw, event = self.start(x).double(), tuple(x.shape[1:])
        if _coloured(event):
            return raw
        shares = shares_of_levels(x, self.levels)
        seen = (shares > shares.min()).any(1)  # levels that some value has
        shares, levels = shares[seen], torch.arange(self.levels, device=x.device)[seen]
        every = levels.reshape(-1, *[1] * len(event)).expand(-1, *event)

        def score(raw: Tensor) -> Tensor:
            base = self(raw, event).base_dist  # pyright: ignore[reportAttributeAccessIssue]
            return (shares * base.log_mass(every).flatten(1)).sum()

        return climbed(score, raw, min(UPHILL, max(1, MOST_WORK // (self.components * every.numel()))))


class DiscretisedLogistics(Mass):
    """Of values (*batch), whose last `event_dims` dimensions are one event; see `LogisticMixture`.

    The log-density of a value of colours is that given the channels before it, which share its component: they add up
    to the density of all. The mean of a later channel is, in each component, the one at the means of those before it.

    logits, loc, log_scale, mix: with the components before the event.
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
            first, second = _moments_of(self.loc, self.log_scale, self.levels)
        else:
            firsts: list[Tensor] = []
            seconds: list[Tensor] = []
            for channel in range(COLOURS):
                seen = torch.stack([self._scaled(x) for x in firsts], -3) if firsts else self.loc[..., :0, :, :]
                loc = _shifted(self.loc, self.mix, seen)[..., channel, :, :]
                one, two = _moments_of(loc, self.log_scale[..., channel, :, :], self.levels)
                firsts, seconds = [*firsts, one], [*seconds, two]
            first, second = torch.stack(firsts, -3), torch.stack(seconds, -3)
        weights = self.log_weights.exp()
        return (weights * first).sum(self.dim), (weights * second).sum(self.dim)


def _moments_of(loc: Tensor, log_scale: Tensor, levels: int) -> tuple[Tensor, Tensor]:
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


def _coloured(event_shape: Any) -> bool:
    return event_shape is not None and len(event_shape) == 3 and event_shape[0] == COLOURS
