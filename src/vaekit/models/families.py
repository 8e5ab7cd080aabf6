"""Families of distributions, and the heads that turn a network's raw numbers into one of them.

A family is a choice: `Gaussian`, `Categorical`, `FlowPosterior`. Its `build` makes the head of a `Conditional`, which
is called with raw numbers and returns a distribution. A family without weights of its own is its own head; one with
weights builds a module.

Raw numbers are laid out parameter by parameter: the last axis of raw holds (parameters, *event) flattened. Event
dimensions are summed in every log-density.
"""

import math
from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.models.parameters import Shape

H = TypeVar("H", bound="Head")


class Family(ABC):
    """A family of distributions over one event. Abstract."""

    def features(self, event_shape: Shape) -> int:
        """How many raw numbers a network must give for one event."""
        return math.prod(event_shape)

    @abstractmethod
    def build(self, context: BuildContext) -> "Head":
        """The head for events of `context.event_shape`, with initial weights where it has some."""


class Head(Family):
    """What turns raw numbers into a distribution: a family without weights, or the module that one builds. Abstract.

    Attributes:
        takes_context: Whether it is called with the context, too: `head(raw, event_shape, context)`.
    """

    takes_context = False

    def build(self: H, context: BuildContext) -> H:
        """The head itself."""
        return self

    @abstractmethod
    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        """The distribution that raw numbers stand for.

        Args:
            raw: (..., features).
            event_shape: Of one event; by default one flat dimension.

        Returns:
            A distribution with batch shape (...) and this event shape.
        """


class LikelihoodFamily(Family):
    """A family of p(x|z). Abstract.

    Attributes:
        accepts: The supports of x that it can model, by `kind`: binary, levels, unit, real, positive, count, mixed
            (columns of different kinds).
        integers: Whether it models integers, which are then not scaled.
        takes_units: Whether its head can be given the units of the data; see `LocationScale`.
        is_score: Whether its log_prob is a score to train by, and no log-likelihood.
        gives_logits: Whether its raw numbers are the logits of the levels of each value.
        needs_size: Whether its rates are shares of the size of a row, which the context then has to hold.
    """

    accepts: tuple[str, ...]
    needs_size = False
    integers = False
    takes_units = False
    is_score = False
    gives_logits = False

    def ties_cells(self, event_shape: Shape) -> bool:
        """Whether cells of an event depend on one another given z: those that were observed then have no density."""
        return False

    @property
    def levels_of_x(self) -> int | None:
        """How many levels x must have, 0, 1, ...; None for values of any number."""
        return None


class FittedHead(LikelihoodFamily, Head):
    """A head of p(x|z), which also finds the best distribution without latents. Abstract.

    That is where training begins, and the baseline that a VAE has to beat.
    """

    @abstractmethod
    def initial_parameters(self, x: Tensor) -> Tensor:
        """The raw numbers, (features,), of the best distribution without latents, from rows x (n, *event)."""

    def fitted(self, x: Tensor) -> Tensor:
        """As `initial_parameters`, but nearer to the best where that takes long: what a VAE is compared with."""
        return self.initial_parameters(x)


class LikelihoodHead(FittedHead):
    """A head of p(x|z) whose values are independent given z. Abstract."""

    @abstractmethod
    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        """The distribution of each value of the event, with batch shape (..., *event), from raw (..., features)."""

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return independent(self.of_values(raw, event_shape), 1 if event_shape is None else len(event_shape))


class PosteriorFamily(Family):
    """A family of q(z|x). Abstract.

    Attributes:
        support_of_z: Where z lies, "real", "sphere" or "discrete"; the `over` of a prior names those that it takes.
        has_density: Whether q(z|x) is a density or a probability mass, and not a single z.
        has_score: Whether ln q(z|x) at a given z depends on the encoder: then the score function estimates gradients.
        smooth_density: Whether ln q(z|x) has a gradient in z.
        enumerable: Whether all values of z can be listed.
        closed_kl_to: The priors to which its KL is known in closed form, by `kind`.
        known_covariance: Whether the mean and the covariance of q(z|x) are known in closed form.
        diagonal_gaussian: Whether q(z|x) is a Gaussian with independent dimensions.
    """

    support_of_z = "real"
    has_density = True
    has_score = True
    smooth_density = True
    enumerable = False
    closed_kl_to: tuple[str, ...] = ()
    known_covariance = False
    diagonal_gaussian = False

    @property
    def reparametrised(self) -> bool:
        """Whether gradients reach the encoder through z (the reparametrisation trick)."""
        return True

    def z_shape(self, latent: int) -> Shape:
        """The shape of z with `latent` units, which are dimensions, or positions of a discrete z."""
        return (latent,)

    def as_seen(self, latent: int) -> tuple[Shape, nn.Module | None]:
        """The shape of z as a decoder sees it, and the module that makes it so; None where it sees z itself."""
        return self.z_shape(latent), None
