"""Posteriors over discrete latents: categorical and Bernoulli, hard or relaxed."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.distributions.codes import Binary, CodeSpace, Factorised, OneHot, Relaxation
from vaekit.models.families import Head
from vaekit.models.parameters import Shape
from vaekit.schedules import Anneal, Positive
from vaekit.spec import by_kind, spec

Temperature = Positive | Annotated[Anneal, by_kind]


class DiscreteHead(Head):
    """A head whose z is discrete. Abstract."""

    accepts = ()
    support_of_z = "discrete"

    @abstractmethod
    def space(self, event_shape: Shape) -> CodeSpace:
        """What z of this shape is made of."""

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        raise TypeError("a discrete posterior has no arguments of single dimensions")

    def initial_parameters(self, x: Tensor) -> Tensor:
        raise TypeError("a discrete posterior has no start from the data")


class HardOrRelaxed(DiscreteHead):
    """A head with a `temperature`: none draws hard samples only. Abstract."""

    temperature: Temperature | None
    straight_through: bool

    def build(self, event_shape: Shape) -> "FactorisedHead":
        return FactorisedHead(self.space(event_shape), self.temperature, self.straight_through)

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return factorised(raw, self.space(raw.shape[-1:] if event_shape is None else event_shape), None)

    def why_not(self, reparametrised: bool, score: bool, enumerate: bool) -> str:
        if reparametrised and self.temperature is None:
            return (
                "its samples are discrete, and no gradient goes through them: use objective.gradient=score or "
                "enumerate, or relax them with model.posterior.temperature=0.5"
            )
        return "" if score else "it drops the gradient of ln q(z|x), which is no density here: use pathwise or score"


@spec
class CategoricalPosterior(HardOrRelaxed):
    """Categorical latents: `model.latent` groups, each one of `classes`; z is their one-hot vectors.

    Without a temperature samples are hard: the gradient score (with `Iwae`, VIMCO) or enumerate trains them. With one,
    training draws Gumbel-softmax (Concrete) samples, softmax((ln q + Gumbel noise) / temperature), through which
    gradients pass; what is maximised is then the ELBO's formula at relaxed z, which is biased and NO BOUND on ln p(x).
    Evaluation always draws hard samples, and its ELBO is the true one.

    Args:
        classes: of each group.
        temperature: of the relaxation, a number or an `Anneal`; none for hard samples.
        straight_through: train on hard samples with the gradients of relaxed ones (biased, too).

    Sources: Jang, Gu and Poole, 2017, arXiv 1611.01144, equation 2; Maddison, Mnih and Teh, 2017, arXiv 1611.00712.

    >>> CategoricalPosterior(classes=4)(torch.zeros(5, 12), (12,)).log_prob(torch.eye(4).repeat(1, 3)[:1]).exp()
    tensor([0.0156, 0.0156, 0.0156, 0.0156, 0.0156])
    """

    classes: Annotated[int, Field(ge=2, le=65536)] = 10
    temperature: Temperature | None = None
    straight_through: bool = False
    kind: Literal["categorical"] = "categorical"

    def z_shape(self, latent: int) -> Shape:
        return (latent * self.classes,)

    def space(self, event_shape: Shape) -> CodeSpace:
        return OneHot(math.prod(event_shape) // self.classes, self.classes)


@spec
class BernoulliPosterior(HardOrRelaxed):
    """Binary latents: z is `model.latent` numbers, 0 or 1. As `CategoricalPosterior` with two classes.

    Args:
        temperature, straight_through: see `CategoricalPosterior`.
    """

    temperature: Temperature | None = None
    straight_through: bool = False
    kind: Literal["bernoulli"] = "bernoulli"

    def space(self, event_shape: Shape) -> CodeSpace:
        return Binary(math.prod(event_shape))


class FactorisedHead(nn.Module, DiscreteHead):
    """What the specs above build: it relaxes in training only, and keeps the temperature."""

    temperature: Tensor

    def __init__(self, space: CodeSpace, temperature: Temperature | None, straight_through: bool):
        super().__init__()
        self.made_of, self.schedule, self.straight_through = space, temperature, straight_through
        start = temperature.start if isinstance(temperature, Anneal) else temperature
        self.register_buffer("temperature", torch.tensor(float(start or 0)))

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape)

    def space(self, event_shape: Shape) -> CodeSpace:
        return self.made_of

    def anneal(self, step: int | Tensor, steps: int | Tensor) -> None:
        """Set the temperature of a step of the training."""
        if isinstance(self.schedule, Anneal):
            self.temperature.copy_(torch.as_tensor(self.schedule.at(step, steps)))

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        relaxes = self.training and self.schedule is not None
        # a copy: the buffer is written to at the next step, and backward passes may still need this one's
        relaxation = Relaxation(self.temperature.clone(), self.straight_through) if relaxes else None
        return factorised(raw, self.made_of, relaxation)


def factorised(raw: Tensor, space: CodeSpace, relaxation: Relaxation | None) -> Factorised:
    """Codes by raw numbers (..., size): logits of one-hot vectors, or of 1 for binary z."""
    if isinstance(space, Binary):
        logits = torch.stack([torch.zeros_like(raw), raw], -1)
    else:
        logits = raw.unflatten(-1, (space.positions, space.classes))
    return Factorised(logits, space, relaxation=relaxation)
