"""Categorical and Bernoulli posteriors over discrete z, hard or relaxed."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import Binary, CodeSpace, Factorised, OneHot, Relaxation
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.parameters import Shape
from vaekit.schedules import Anneal, Positive
from vaekit.spec import by_kind, spec

Temperature = Positive | Annotated[Anneal, by_kind]


class FactorisedPosterior(PosteriorFamily):
    """Codes that are independent of one another, given x. Abstract.

    Attributes:
        temperature: Of the relaxation; None draws hard samples only.
        straight_through: Whether relaxed gradients go with hard samples.
    """

    support_of_z = "discrete"
    smooth_density = False
    enumerable = True
    closed_kl_to = ("standard_normal", "factorised")
    temperature: Temperature | None
    straight_through: bool

    @property
    def reparametrised(self) -> bool:
        return self.temperature is not None

    @abstractmethod
    def code_space(self, event_shape: Shape) -> CodeSpace:
        """What z of this shape is made of."""

    def build(self, context: BuildContext) -> "FactorisedHead":
        return FactorisedHead(self.code_space(context.event_shape), self.temperature, self.straight_through)


@spec
class CategoricalPosterior(FactorisedPosterior):
    """Categorical latents: each position has one of `classes`; z is their one-hot vectors.

    Without a temperature samples are hard: the gradient score (with `Iwae`, VIMCO) or enumerate trains them. With one,
    training draws Gumbel-softmax (Concrete) samples, softmax((ln q + Gumbel noise) / temperature), through which
    gradients pass; what is maximised is then the ELBO's formula at relaxed z, which is biased and NO BOUND on ln p(x).
    Evaluation always draws hard samples, and its ELBO is the true one.

    Args:
        classes: Of each position.
        temperature: Of the relaxation, a number or an `Anneal`; none for hard samples.
        straight_through: Train on hard samples with the gradients of relaxed ones (biased, too).

    Sources: Jang, Gu and Poole, 2017, arXiv 1611.01144, equation 2; Maddison, Mnih and Teh, 2017, arXiv 1611.00712.

    Example:
        >>> head = CategoricalPosterior(classes=4).build(BuildContext(event_shape=(12,)))
        >>> head(torch.zeros(5, 12)).log_prob(torch.eye(4).repeat(1, 3)[:1]).exp()
        tensor([0.0156, 0.0156, 0.0156, 0.0156, 0.0156])
    """

    classes: Annotated[int, Field(ge=2, le=65536)] = 10
    temperature: Temperature | None = None
    straight_through: bool = False
    kind: Literal["categorical"] = "categorical"

    def z_shape(self, latent: int) -> Shape:
        return (latent * self.classes,)

    def code_space(self, event_shape: Shape) -> CodeSpace:
        return OneHot(math.prod(event_shape) // self.classes, self.classes)


@spec
class BernoulliPosterior(FactorisedPosterior):
    """Binary latents: z is numbers that are 0 or 1. As `CategoricalPosterior` with two classes.

    Args:
        temperature: See `CategoricalPosterior`.
        straight_through: See `CategoricalPosterior`.
    """

    temperature: Temperature | None = None
    straight_through: bool = False
    kind: Literal["bernoulli"] = "bernoulli"

    def code_space(self, event_shape: Shape) -> CodeSpace:
        return Binary(math.prod(event_shape))


class FactorisedHead(nn.Module, Head):
    """The head of categorical and Bernoulli posteriors; it relaxes in training only, and keeps the temperature.

    Args:
        space: What z is made of.
        temperature: See `CategoricalPosterior`.
        straight_through: See `CategoricalPosterior`.
    """

    temperature: Tensor

    def __init__(self, space: CodeSpace, temperature: Temperature | None, straight_through: bool):
        super().__init__()
        self.space, self.schedule, self.straight_through = space, temperature, straight_through
        initial = temperature.start if isinstance(temperature, Anneal) else temperature
        self.register_buffer("temperature", torch.tensor(float(initial or 0)))

    def code_space(self, event_shape: Shape) -> CodeSpace:
        return self.space

    def anneal(self, step: int | Tensor, steps: int | Tensor) -> None:
        """Set the temperature of a step of training, of so many."""
        if isinstance(self.schedule, Anneal):
            self.temperature.copy_(torch.as_tensor(self.schedule.at(step, steps)))

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        relaxes = self.training and self.schedule is not None
        # a copy: the buffer is written to at the next step, and backward passes may still need this one's
        relaxation = Relaxation(self.temperature.clone(), self.straight_through) if relaxes else None
        return factorised(raw, self.space, relaxation)


def factorised(raw: Tensor, space: CodeSpace, relaxation: Relaxation | None) -> Factorised:
    """The distribution of independent codes.

    Args:
        raw: (..., size), the logits of one-hot vectors, or of 1 for binary z.
        space: What z is made of.
        relaxation: Of samples that carry gradients; None for hard ones.
    """
    if isinstance(space, Binary):
        logits = torch.stack([torch.zeros_like(raw), raw], -1)
    else:
        logits = raw.unflatten(-1, (space.positions, space.classes))
    return Factorised(logits, space, relaxation=relaxation)
