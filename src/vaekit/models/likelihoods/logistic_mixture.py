"""The discretised mixture of logistics: grey levels and colours as rounded draws of a continuous mixture."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaekit.models.distributions.logistic_mixture import COLOURS, DiscretisedLogistics
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.models.likelihoods.initialisation import counts_of_levels, maximised, shares_of_levels
from vaekit.models.parameters import LOG_VARIANCE_BOUND, Shape, soft_bound, unpack
from vaekit.spec import spec

ROUNDS = 10  # of expectation and maximisation

ASCENT_ROUNDS = 300

MOST_WORK = 40_000_000  # masses of components that gradient ascent computes


@spec
class LogisticMixture(OverLevels):
    """Discretised mixture of logistics: a draw of a mixture of logistics, rounded to the nearest level.

    What lies beyond the lowest and the highest level is given to them: a probability mass for every setting of the
    numbers. The network gives, for each value, `components` weights, means and log-scales, where levels run from -1 to
    1. The log-scales are bounded softly: within ±10, or more widely where that is not 4 below half of a level. The
    three channels of an image of colours share their weights; the means of green and blue move by learned multiples of
    the true red, and red and green.

    Source: Salimans et al., 2017, arXiv 1701.05517, equations 2 and 3; the soft bound: Hazami, Mama and Thurairatnam,
    2022, arXiv 2203.13751.

    Args:
        levels: Of the data.
        components: Of each mixture.

    Example:
        >>> LogisticMixture(levels=4, components=1)(torch.zeros(12), (1, 2, 2)).mean.flatten()
        tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """

    levels: Annotated[int, Field(ge=2, le=65536)] = 256
    components: Annotated[int, Field(ge=1, le=1000)] = 5
    kind: Literal["logistic_mixture"] = "logistic_mixture"

    def ties_cells(self, event_shape: Shape) -> bool:
        return _coloured(event_shape)

    def features(self, event_shape: Shape) -> int:
        each = 1 + 3 * COLOURS if _coloured(event_shape) else 3 * event_shape[0]
        return self.components * each * math.prod(event_shape[1:])

    def _arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """The parameters of the mixtures.

        Returns:
            `logits`, `loc`, `log_scale`, (..., components, *event), but for colours one channel of logits, and `mix`,
            (..., components, 3, height, width): of red in green, of red in blue, of green in blue.
        """
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

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> DiscretisedLogistics:
        dims = 1 if event_shape is None else len(event_shape)
        return DiscretisedLogistics(**self._arguments(raw, event_shape), levels=self.levels, event_dims=dims)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """A mixture for each value, by expectation and maximisation with moments from its even quantiles.

        For colours the weights of a pixel's channels are tied, and none moves another.
        """
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
        """The initial parameters, improved by as many rounds of gradient ascent as a few seconds allow.

        They reach the best of 36 pixels, and come nearer to that of a large picture. Those of colours stay as they are.
        """
        raw, event = self.initial_parameters(x).double(), tuple(x.shape[1:])
        if _coloured(event):
            return raw
        shares = shares_of_levels(x, self.levels)
        seen = (counts_of_levels(x, self.levels) > 0).any(1)  # levels that some value has
        shares, levels = shares[seen], torch.arange(self.levels, device=x.device)[seen]
        every = levels.reshape(-1, *[1] * len(event)).expand(-1, *event)

        def score(raw: Tensor) -> Tensor:
            return (shares * self.of_values(raw, event).log_mass(every).flatten(1)).sum()

        return maximised(score, raw, min(ASCENT_ROUNDS, max(1, MOST_WORK // (self.components * every.numel()))))


def _coloured(event_shape: Any) -> bool:
    return event_shape is not None and len(event_shape) == 3 and event_shape[0] == COLOURS
