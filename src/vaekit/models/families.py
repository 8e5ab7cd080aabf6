"""Heads: from the raw numbers of a network to a distribution.

A head says how many raw numbers an event needs (`features`), what they mean (`arguments`), which distribution they
make (the call), and which constant raw numbers fit a data set best without any latent variable (`start`): the bias
that an output layer starts from, and the baseline that a VAE has to beat.

Raw numbers are laid out parameter by parameter: the last axis of raw holds (parameters, *event) flattened. Event
dimensions are summed in every log-density.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models import distributions as own
from vaekit.models.starts import counts_of_levels
from vaekit.spec import spec

Shape = tuple[int, ...]


@runtime_checkable
class Scales(Protocol):
    """Units of data; see `Units`."""

    loc: Tensor
    scale: Tensor


LOG_VARIANCE_BOUND = 20.0
_TAIL = 0.25


def soft_bound(raw: Tensor, ratio: float = 1.0) -> Tensor:
    """raw itself within ±20 / ratio, a logarithm of it beyond: finite for every float, its slope falling as 1/|raw|.

    A ratio of 2 is for the logarithm of a standard deviation, where 1 is for that of a variance.
    """
    inner = raw.clamp(-LOG_VARIANCE_BOUND / ratio, LOG_VARIANCE_BOUND / ratio)
    tail = _TAIL / ratio
    beyond = ((raw - inner).abs() / tail).clamp_max(torch.finfo(raw.dtype).max)
    return inner + tail * raw.sign() * torch.log1p(beyond)


def unpack(raw: Tensor, count: int, event_shape: Shape | None) -> Tensor:
    """Raw (..., count * prod(event)) as (..., count, *event), a view; a flat event if no shape is given."""
    if event_shape is None:
        event_shape = (raw.shape[-1] // count,)
    if raw.shape[-1] != count * math.prod(event_shape):
        raise ValueError(
            f"the network gives {raw.shape[-1]} numbers, but {count} for each of {math.prod(event_shape)} values "
            f"(event shape {event_shape}) makes {count * math.prod(event_shape)}: give its last layer that width"
        )
    return raw.reshape(*raw.shape[:-1], count, *event_shape)


def parameters(raw: Tensor, count: int, event_shape: Shape | None) -> tuple[Tensor, ...]:
    """The `count` parameters that raw holds, (..., *event) each."""
    packed, dim = unpack(raw, count, event_shape), -1 - (1 if event_shape is None else len(event_shape))
    return (packed.squeeze(dim),) if count == 1 else packed.unbind(dim)


def independent(base: Distribution, event_dims: int) -> Distribution:
    """Read the last `event_dims` batch dimensions of base as one event: their log-densities are summed."""
    return own.Summed(base, event_dims, validate_args=False)


class Head(ABC):
    """Raw numbers -> distribution. Abstract; the final classes below are the choices."""

    family: Callable[..., Distribution]  # of one value
    accepts: tuple[str, ...]  # the supports of x that it can model as a likelihood, by `kind`
    integers = False  # whether it models integers, which are then not scaled
    support_of_z = "real"  # where z lies, if this is a posterior; a prior says over which of these it can be

    def features(self, event_shape: Shape) -> int:
        """How many raw numbers a network must give for one event."""
        return math.prod(event_shape)

    def z_shape(self, latent: int) -> Shape:
        """The shape of z, if this is a posterior with `model.latent` of its units."""
        return (latent,)

    def as_seen(self, latent: int) -> tuple[Shape, nn.Module | None]:
        """The shape of z as a decoder sees it, if this is a posterior, and the module that makes it so."""
        return self.z_shape(latent), None

    def why_not(self, path: bool, score: bool, every: bool) -> str:
        """Why z cannot be drawn so that gradients flow through z (`path`) and ln q (`score`), or as `every` value that
        it can have; empty if it can."""
        return "z that is not discrete cannot be enumerated: use pathwise" if every else ""

    def build(self, event_shape: Shape) -> "Head":
        """The head itself, or, for one with weights of its own, the module that holds them."""
        return self

    @abstractmethod
    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """The arguments of `family` that the raw numbers stand for, each (..., *event)."""

    @abstractmethod
    def start(self, x: Tensor) -> Tensor:
        """The raw numbers, (features,), of the best distribution without latents, from rows x (n, *event)."""

    def fitted(self, x: Tensor) -> Tensor:
        """As `start`, but nearer to the best where that takes long: what a VAE is compared with."""
        return self.start(x)

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        """The distribution with batch shape raw.shape[:-1] and this event shape (default: one flat dimension)."""
        base = self.family(**self.arguments(raw, event_shape), validate_args=False)
        return independent(base, 1 if event_shape is None else len(event_shape))


class LocationScale(Head):
    """A family of a location and a scale: by default the network gives both, the scale as ln of its square, bounded
    softly: the identity within ±20, logarithmic beyond, so that it neither overflows nor loses its gradient. Abstract.

    As a likelihood it may be given units (`Units`), in which the numbers then are.
    """

    accepts: tuple[str, ...] = ("real", "unit", "levels", "count")

    @abstractmethod
    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The location and scale of each column, (columns,) in double precision, that fit rows x (n, *event) best."""

    def features(self, event_shape: Shape) -> int:
        return 2 * math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        loc, log_square = parameters(raw, 2, event_shape)
        return {"loc": loc, "scale": (0.5 * soft_bound(log_square)).exp()}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None, units: Scales | None = None) -> Distribution:
        found = self.arguments(raw, event_shape)
        if units is not None:
            found["loc"] = torch.addcmul(units.loc, units.scale, found["loc"])
            found["scale"] = self.scale_in(units, found["scale"])
        return independent(self.family(**found, validate_args=False), 1 if event_shape is None else len(event_shape))

    def scale_in(self, units: Scales, scale: Tensor) -> Tensor:
        """A scale in these units, in those of x."""
        return units.scale * scale

    def start(self, x: Tensor) -> Tensor:
        loc, scale = self.best(x)
        return torch.cat([loc, raised(scale**2).log()])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of x (n, *event), (columns,) in double precision."""
    x = x.flatten(1).double()
    return x.mean(0), x.std(0, correction=0)


@spec
class Gaussian(LocationScale):
    """Diagonal Gaussian: the network gives mu, and ln sigma^2 too unless `scale` is set.

    Args:
        scale: sigma as a fixed number, in the units of x; None lets the network give ln sigma^2 for each dimension.

    Source: Kingma and Welling, 2014, arXiv 1312.6114, appendix C.2.

    >>> Gaussian()(torch.zeros(5, 6)).event_shape
    torch.Size([3])
    """

    scale: Annotated[float, Field(gt=0)] | None = None
    kind: Literal["gaussian"] = "gaussian"

    family = td.Normal

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) * (2 if self.scale is None else 1)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        if self.scale is None:
            return super().arguments(raw, event_shape)
        (loc,) = parameters(raw, 1, event_shape)
        return {"loc": loc, "scale": torch.full_like(loc, self.scale)}

    def scale_in(self, units: Scales, scale: Tensor) -> Tensor:
        return scale if self.scale is not None else super().scale_in(units, scale)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x)

    def start(self, x: Tensor) -> Tensor:
        return super().start(x) if self.scale is None else self.best(x)[0]


@spec
class CalibratedGaussian(LocationScale):
    """Gaussian whose sigma is learned but does not depend on z: one shared number, or one for each dimension.

    Sigma moves at a pace of its own, as a running mean of squared residuals: see `LearnedScale`.

    Source: Rybkin, Daniilidis and Levine, 2021, arXiv 2006.13202 (sigma-VAE).

    Args:
        per_dimension: learn one sigma for each dimension instead of one for all.

    >>> head = CalibratedGaussian().build((3,))
    >>> head(torch.zeros(5, 3)).event_shape
    torch.Size([3])
    """

    per_dimension: bool = False
    kind: Literal["calibrated_gaussian"] = "calibrated_gaussian"

    family = td.Normal

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape)

    def build(self, event_shape: Shape) -> "LearnedScale":
        return LearnedScale(event_shape, self.per_dimension)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        raise TypeError("CalibratedGaussian has a weight, its scale: call .build(event_shape) and use what it returns")

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x)

    def start(self, x: Tensor) -> Tensor:
        return self.best(x)[0]


PACE = 0.1  # of the running mean of squared residuals, for each step
LEAST_OF_IMAGE, LEAST_OF_COLUMN = 1e-4, 1e-6  # variance over that of the data, below which none is learned


class LearnedScale(nn.Module, LocationScale):
    """What `CalibratedGaussian` builds: the head with its learned ln sigma^2, of shape () or the event's.

    The objective's slope in ln sigma^2 says what the mean squared residual is: with d values to each sigma it is
    d/2 (1 - residual / sigma^2), whatever weighs the samples of z. So each step moves sigma^2 by a share of the way to
    that: the natural gradient, and to first order the optimal sigma of Rybkin et al., equation 5, averaged over about
    20 batches. A weight under Adam moves by the learning rate a step, and would lag behind.

    least: of ln sigma^2. A pixel that never varies says nothing of its noise, so it gets a share of what the image
    varies by.
    """

    family = td.Normal
    least: Tensor

    def __init__(self, event_shape: Shape, per_dimension: bool):
        super().__init__()
        scale_shape = event_shape if per_dimension else ()
        self.log_variance = nn.Parameter(torch.zeros(scale_shape))
        self.register_buffer("least", torch.full((), -LOG_VARIANCE_BOUND))
        self.share = LEAST_OF_COLUMN if len(event_shape) == 1 else LEAST_OF_IMAGE
        self.values = math.prod(event_shape) // max(1, math.prod(scale_shape))

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        (loc,) = parameters(raw, 1, event_shape)
        return {"loc": loc, "scale": (0.5 * soft_bound(self.log_variance)).exp().expand_as(loc)}

    def forward(self, raw: Tensor, event_shape: Shape | None = None, units: Scales | None = None) -> Distribution:
        return LocationScale.__call__(self, raw, event_shape, units)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x)

    def start(self, x: Tensor) -> Tensor:
        """As `Head.start`; sets the scale, too, to the one that fits best beside that mean."""
        loc, scale = self.best(x)
        variance = scale**2 if self.log_variance.dim() else scale.square().mean()
        with torch.no_grad():
            self.log_variance.copy_(raised(variance).log().reshape(self.log_variance.shape))
            largest = self.log_variance.exp().max() if self.log_variance.dim() else self.log_variance.exp()
            self.least.copy_((self.share * largest).log())
        return loc

    @torch.no_grad()
    def follow_gradient(self) -> None:
        """One step by the gradient that was left: sigma^2 <- (1 - PACE) sigma^2 + PACE (mean squared residual)."""
        if self.log_variance.grad is None:
            return
        off = -2 * self.log_variance.grad / self.values  # mean squared residual over sigma^2, less 1
        self.log_variance.add_((PACE * off.clamp_min(-1)).log1p())
        self.log_variance.clamp_(min=float(self.least))


@spec
class Bernoulli(Head):
    """Bernoulli on {0, 1}; the network gives logits, so no probability is ever clamped.

    >>> Bernoulli()(torch.zeros(5, 6)).log_prob(torch.ones(5, 6)).exp()[0].item()
    0.015625
    """

    kind: Literal["bernoulli"] = "bernoulli"

    family = own.Bernoulli
    accepts = ("binary",)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def start(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class SoftBernoulli(Head):
    """Binary cross-entropy with soft labels in [0, 1]: a training score, not a log-likelihood.

    Its values cannot be compared with a log-likelihood; see `distributions.SoftBernoulli` for what it is.
    """

    kind: Literal["soft_bernoulli"] = "soft_bernoulli"

    family = own.SoftBernoulli
    accepts = ("unit", "binary")

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def start(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class ContinuousBernoulli(Head):
    """Continuous Bernoulli on [0, 1]: the density whose unnormalised form is `SoftBernoulli`.

    Source: Loaiza-Ganem and Cunningham, 2019, arXiv 1907.06845.
    """

    kind: Literal["continuous_bernoulli"] = "continuous_bernoulli"

    family = own.ContinuousBernoulli
    accepts = ("unit",)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def start(self, x: Tensor) -> Tensor:
        return own.logits_of_mean(_smoothed_mean(x))


class OverLevels(Head):
    """A family over the levels 0, ..., levels-1 of each dimension; `levels` must be the data's. Abstract."""

    levels: int
    accepts = ("levels", "binary")
    integers = True


@spec
class Categorical(OverLevels):
    """Categorical over the levels 0, ..., levels-1 of each dimension (the tutorial's formulation 1).

    The network gives `levels` logits for each dimension.

    >>> Categorical(17)(torch.zeros(5, 64 * 17)).event_shape
    torch.Size([64])
    """

    levels: Annotated[int, Field(ge=2)]
    kind: Literal["categorical"] = "categorical"

    family = own.Categorical

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) * self.levels

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """`logits`, (..., levels, *event)."""
        return {"logits": unpack(raw, self.levels, event_shape)}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        dims = 1 if event_shape is None else len(event_shape)
        return independent(own.Categorical(self.arguments(raw, event_shape)["logits"], -dims - 1), dims)

    def start(self, x: Tensor) -> Tensor:
        return ((counts_of_levels(x, self.levels) + 1) / (len(x) + self.levels)).log().flatten()


def floating(x: Tensor) -> Tensor:
    """x, integers as floating point."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _smoothed_mean(x: Tensor) -> Tensor:
    return ((x.sum(0) + 1) / (len(x) + 2)).flatten()


def raised(spread: Tensor) -> Tensor:
    """Variances in units of the data, those of dimensions that hardly vary raised to a small share of the largest;
    where none varies, to what a decoder that has yet to learn the constants may miss them by."""
    largest = float(spread.max())
    return spread.clamp_min(1e-4 * largest if largest > 1e-12 else 1e-2)
