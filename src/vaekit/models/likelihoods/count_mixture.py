"""The mixture of logistics for counts of any size and shape: spikes, several modes and heavy tails."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.utils.rnn import pad_sequence

from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.count_mixture import DiscretisedCounts
from vaekit.models.distributions.gamma import wide
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.parameters import Shape, soft_bound, unpack
from vaekit.spec import spec

WIDEST = 0.45  # scale of a component: below 1/2, so that its variance is finite
NARROWEST = 0.05  # the initial scale of a component that is one count, in steps between counts
ROUNDS = 60  # of expectation and maximisation
MOST_VALUES = 2000  # different values that it looks at
AT_A_TIME = 1 << 20  # numbers of a tensor, of columns that are fitted together
SPIKE = 5  # rows from which a value may have a component of its own
SPREAD = 3  # components that are left for all other values, at least


@spec
class CountMixture(LikelihoodFamily):
    """Counts 0, 1, 2, ... by a mixture of logistics on the scale arsinh x, rounded to the nearest count.

    arsinh is linear below 1 and logarithmic above, so that a component's tail falls as a power of x. The mass of v is
    that between v - 1/2 and v + 1/2, computed in double precision; what lies below one half is given to 0. Components
    are fitted to training rows by expectation and maximisation, values that are frequent with one of their own. The
    network gives, for each value, `components` changes of the logits of the weights, of the means, in units of each
    component's scale, and of the logits of the scales: so no learning rate depends on the size of the counts.

    Source: Salimans et al., 2017, arXiv 1701.05517, equation 2, without its lowest and highest level.

    Args:
        components: Of each mixture.

    Example:
        >>> CountMixture(components=2).build(BuildContext(event_shape=(3,))).features((3,))
        18
    """

    components: Annotated[int, Field(ge=1, le=1000)] = 10
    kind: Literal["count_mixture"] = "count_mixture"

    accepts = ("count",)
    integers = True

    def features(self, event_shape: Shape) -> int:
        return 3 * self.components * math.prod(event_shape)

    def build(self, context: BuildContext) -> "MixedCounts":
        return MixedCounts(context.event_shape, self.components)


class MixedCounts(nn.Module, LikelihoodHead):
    """The head of `CountMixture`, with the mixtures that raw numbers of 0 stand for.

    Args:
        event_shape: Of x.
        components: Of each mixture.

    Attributes:
        logits: Of the components' weights, (components, *event).
        loc: Their means on the scale of arsinh, (2, components, *event): a number, and what rounding it has lost.
        log_scale: ln of their scales, (components, *event).
    """

    logits: Tensor
    loc: Tensor
    log_scale: Tensor

    def __init__(self, event_shape: Shape, components: int):
        super().__init__()
        shape = (components, *event_shape)
        at = torch.linspace(0.0, 5.0, components).reshape(-1, *[1] * len(event_shape))
        self.components = components
        self.register_buffer("logits", torch.zeros(shape))
        self.register_buffer("loc", torch.zeros(2, *shape))  # not stacked, which on "meta" imports torch._dynamo
        self.loc[0] += at
        self.register_buffer("log_scale", torch.full(shape, math.log(WIDEST / 2)))

    def features(self, event_shape: Shape) -> int:
        return 3 * self.components * math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> DiscretisedCounts:
        packed = unpack(raw, 3 * self.components, event_shape)
        dims = 1 if event_shape is None else len(event_shape)
        logits, shift, wider = packed.unflatten(-dims - 1, (3, self.components)).unbind(-dims - 2)
        base = wide(self.log_scale)
        share = base - math.log(WIDEST)
        log_scale = math.log(WIDEST) + F.logsigmoid(share - torch.log(-torch.expm1(share)) + wide(soft_bound(wider)))
        loc = wide(self.loc).sum(0) + base.exp() * wide(soft_bound(shift))
        return DiscretisedCounts(soft_bound(logits) + self.logits, loc, log_scale, dims)

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return independent(self.of_values(raw, event_shape), 1 if event_shape is None else len(event_shape))

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the mixtures to rows x (n, *event), each value by itself."""
        logits, loc, log_scale = (part.reshape(self.logits.shape).to(x.device) for part in _fit(x, self.components))
        high = loc.to(self.loc.dtype)
        self.logits.copy_(logits)
        self.loc.copy_(torch.stack([high, (loc - high).to(self.loc.dtype)]))
        self.log_scale.copy_(log_scale)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """Zeros, after the mixtures have been fitted to the rows."""
        self.measure(x)
        return torch.zeros(self.features(tuple(x.shape[1:])), dtype=torch.float64, device=x.device)


@dataclass(frozen=True)
class _Start:
    """Where the fit of one column begins: its different counts with their shares, and a mixture."""

    counts: Tensor  # (values,)
    shares: Tensor  # (values,)
    loc: Tensor  # (components,), as all below
    scale: Tensor
    weights: Tensor
    one_more: Tensor  # the weight of one row, for components that are fitted with one more
    variance: Tensor  # of that row about the component's mean


def _fit(x: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """The logits, means and ln of scales, (components, columns) each, of mixtures for rows x (n, *event)."""
    starts = [_start(column, components) for column in x.flatten(1).T]
    together = max(1, AT_A_TIME // (components * max(len(start.counts) for start in starts)))
    found = [_fitted(starts[first : first + together]) for first in range(0, len(starts), together)]
    logits, loc, log_scale = (torch.cat(parts).T for parts in zip(*found, strict=True))
    return logits, loc, log_scale


def _start(x: Tensor, components: int) -> _Start:
    """Where to begin for counts x (n,).

    Frequent values begin with a component of their own, the others with components at their even quantiles. Each of
    these is fitted as if it had one more row, as far from its mean as all such values are on average: where rows are
    few, it is no narrower than they can tell.
    """
    x = x.double().cpu().sort().values.clamp_min(0)
    values, times = x.unique(return_counts=True)
    if len(values) > MOST_VALUES:
        places = torch.linspace(0, len(x) - 1, MOST_VALUES, dtype=torch.float64).round().long()
        values, times = x[places].unique(return_counts=True)
    shares = times.double() / times.sum()
    y, step = torch.asinh(values), _steps(values)
    frequent = shares.argsort(descending=True)[: max(0, components - SPREAD)]
    spikes = frequent[shares[frequent] * len(x) >= SPIKE]
    rest = shares.clone()
    rest[spikes] = 0
    count = components - len(spikes)
    below = rest.cumsum(0) / rest.sum().clamp_min(1e-300)
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    places = torch.searchsorted(below, quantiles).clamp_max(len(y) - 1)
    spread = (y[places[-1]] - y[places[0]]) / (2 * count) + step[places[0]]
    scale = torch.cat([NARROWEST * 2 * step[spikes], spread.expand(count)])
    scale[-1] = torch.maximum(spread, (y[-1] - y[0]) / 4)  # one is wide, for what is rare
    loc, weights = y[torch.cat([spikes, places])], torch.cat([shares[spikes], (rest.sum() / count).expand(count)])
    one_more = torch.cat([torch.zeros(len(spikes)), torch.ones(count)]).double() / len(x)
    return _Start(values, shares, loc, scale, weights, one_more, _variance(y, rest))


def _fitted(starts: list[_Start]) -> tuple[Tensor, Tensor, Tensor]:
    """The logits, means and ln of scales, (columns, components) each, after expectation and maximisation."""
    counts = pad_sequence([start.counts for start in starts], batch_first=True)[:, None]  # (columns, 1, values)
    shares = pad_sequence([start.shares for start in starts], batch_first=True)[:, None]  # 0 for what was padded
    loc = torch.stack([start.loc for start in starts])
    scale = torch.stack([start.scale for start in starts])
    weights = torch.stack([start.weights for start in starts])
    one_more = torch.stack([start.one_more for start in starts])
    variance = torch.stack([start.variance for start in starts])[:, None]
    y, step = torch.asinh(counts), _steps(counts)
    for _ in range(ROUNDS):
        scale, weights = scale.clamp_max(0.99 * WIDEST), weights.clamp_min(1e-5)
        base = DiscretisedCounts(weights.log()[..., None], loc[..., None], scale.log()[..., None], 1)
        joint = (base.of_components(counts) + base.log_weights).softmax(1) * shares  # (columns, components, values)
        weights, mass = joint.sum(2), joint.sum(2).clamp_min(1e-12)
        loc = (joint * y).sum(2) / mass
        square = (joint * (y - loc[..., None]) ** 2).sum(2) + one_more * variance
        scale = (square / (mass + one_more) * (3 / math.pi**2)).sqrt().maximum(NARROWEST * (joint * step).sum(2) / mass)
    scale = scale.clamp(1e-12, 0.99 * WIDEST)
    return weights.clamp_min(1e-5).log(), loc, scale.log()


def _steps(counts: Tensor) -> Tensor:
    """The width of each count on the scale of arsinh."""
    return torch.asinh(counts + 0.5) - torch.asinh(counts - 0.5)


def _variance(y: Tensor, weights: Tensor) -> Tensor:
    """Of numbers with weights that need not add up to 1; of no number, or one, 1: a factor of e, for large counts."""
    shares = weights / weights.sum().clamp_min(1e-300)
    found = (shares * (y - (shares * y).sum()) ** 2).sum()
    return torch.where(found > 0, found, 1.0)
