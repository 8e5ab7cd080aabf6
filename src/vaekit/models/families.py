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

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.distributions.base import independent
from vaekit.models.parameters import Shape


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

    def why_not(self, reparametrised: bool, score: bool, enumerate: bool) -> str:
        """Why z cannot be drawn as a gradient estimator needs it; empty if it can: see `VAE.draw` for the arguments."""
        return "z that is not discrete cannot be enumerated: use pathwise" if enumerate else ""

    def build(self, event_shape: Shape) -> "Head":
        """The head itself, or, for one with weights of its own, the module that holds them."""
        return self

    @abstractmethod
    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """The arguments of `family` that the raw numbers stand for, each (..., *event)."""

    @abstractmethod
    def initial_parameters(self, x: Tensor) -> Tensor:
        """The raw numbers, (features,), of the best distribution without latents, from rows x (n, *event)."""

    def fitted(self, x: Tensor) -> Tensor:
        """As `start`, but nearer to the best where that takes long: what a VAE is compared with."""
        return self.initial_parameters(x)

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        """The distribution with batch shape raw.shape[:-1] and this event shape (default: one flat dimension)."""
        base = self.family(**self.arguments(raw, event_shape), validate_args=False)
        return independent(base, 1 if event_shape is None else len(event_shape))
