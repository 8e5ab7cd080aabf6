"""Discrete latents: what z is made of, and distributions over it.

A discrete z stands for codes, one of `classes` values at each of `positions` positions. Networks see it as real numbers
(one-hot vectors, 0 and 1, code vectors), flat; a `CodeSpace` turns codes into z and back, so that every prior over
codes serves every discrete z.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

from vaekit.models.distributions.base import Unchecked

MOST_ENUMERATED = 4096  # values of z that are worth decoding for each row


@runtime_checkable
class CodeSpace(Protocol):
    """How codes (..., positions), integers from 0 to classes - 1, are written as z (..., size)."""

    @property
    def positions(self) -> int:
        """Number of positions of a code."""
        ...

    @property
    def classes(self) -> int:
        """Number of values of a position."""
        ...

    def z_of(self, codes: Tensor) -> Tensor:
        """z (..., size) of codes (..., positions)."""
        ...

    def one_hot(self, z: Tensor) -> Tensor:
        """(..., positions, classes), of which each row sums to one; linear in z where z may be relaxed."""
        ...

    def moment(self, probs: Tensor, power: int = 1) -> Tensor:
        """E[z^power], (..., size), of independent codes with these probabilities, (..., positions, classes)."""
        ...


def one_hot(codes: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(..., classes). Unlike torch's own, it does not read the codes' values."""
    return (codes.unsqueeze(-1) == torch.arange(classes, device=codes.device)).to(dtype)


@dataclass(frozen=True)
class OneHot:
    """z is the one-hot vectors of all positions, one after the other."""

    positions: int
    classes: int

    def z_of(self, codes: Tensor) -> Tensor:
        return one_hot(codes, self.classes, torch.get_default_dtype()).flatten(-2)

    def one_hot(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (self.positions, self.classes))

    def moment(self, probs: Tensor, power: int = 1) -> Tensor:
        return probs.flatten(-2)


@dataclass(frozen=True)
class Binary:
    """z is the codes themselves, 0 or 1."""

    positions: int
    classes: int = 2

    def z_of(self, codes: Tensor) -> Tensor:
        return codes.to(torch.get_default_dtype())

    def one_hot(self, z: Tensor) -> Tensor:
        return torch.stack([1 - z, z], -1)

    def moment(self, probs: Tensor, power: int = 1) -> Tensor:
        return probs[..., 1]


@dataclass(frozen=True)
class Relaxation:
    """Smooth samples, which carry gradients, in place of hard ones: softmax((ln p + Gumbel noise) / temperature).

    Attributes:
        temperature: Above 0; the lower, the nearer to hard samples.
        straight_through: Whether z is the hard sample, and only its gradient that of the smooth one.
    """

    temperature: Tensor
    straight_through: bool


class Factorised(Unchecked):
    """Codes that are independent of one another: ln p(z) = sum over positions of ln p(code).

    With a relaxation, samples are smooth, and `log_prob` is the same sum made linear in z: no density of the smooth z.

    Args:
        logits: (*batch, positions, classes).
        space: What z is.
        even: Whether all values have one probability, which then needs no look at z.
        relaxation: Of samples that carry gradients; without it they are hard.
    """

    def __init__(self, logits: Tensor, space: CodeSpace, even: bool = False, relaxation: Relaxation | None = None):
        self.log_probs = logits.log_softmax(-1)
        self.space, self.even, self.relaxation = space, even, relaxation
        size = space.z_of(torch.zeros(space.positions, dtype=torch.int64, device=logits.device)).shape
        super().__init__(logits.shape[:-2], size)

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.relaxation is not None

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.integer_interval(0, 1), 1)

    @property
    def mean(self) -> Tensor:
        return self.space.moment(self.log_probs.exp())

    @property
    def variance(self) -> Tensor:
        return (self.space.moment(self.log_probs.exp(), 2) - self.mean.square()).clamp_min(0)

    @property
    def mode(self) -> Tensor:
        return self.space.z_of(self.log_probs.argmax(-1)).to(self.log_probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.even:
            return self.log_probs[..., 0].sum(-1).expand(value.shape[:-1])
        return (self.space.one_hot(value) * self.log_probs).sum((-1, -2))

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum((-1, -2))

    def sample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.log_probs.shape)
        return self.from_uniform(torch.rand(shape, dtype=self.log_probs.dtype, device=self.log_probs.device))

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Samples from noise uniform on [0, 1): the arg max of Gumbel noise on ln p.

        Where gradients are computed and there is a relaxation, they are its softmax.

        Args:
            uniform: (*samples, *logits).
        """
        perturbed = self.log_probs + gumbel(uniform)
        hard = self.space.z_of(perturbed.argmax(-1)).to(self.log_probs.dtype)
        if self.relaxation is None or not torch.is_grad_enabled():
            return hard
        smooth = self.space.moment((perturbed / self.relaxation.temperature).softmax(-1))
        return hard + (smooth - smooth.detach()) if self.relaxation.straight_through else smooth

    def enumerated(self) -> Tensor:
        """All values that z can have, (values, *batch, size)."""
        positions, classes = self.space.positions, self.space.classes
        check_enumerable(positions, classes)
        places = classes ** torch.arange(positions, device=self.log_probs.device)
        codes = torch.arange(classes**positions, device=self.log_probs.device)[:, None] // places % classes
        z = self.space.z_of(codes).to(self.log_probs.dtype)
        return z.reshape(len(z), *[1] * len(self.batch_shape), -1).expand(-1, *self.batch_shape, -1)

    def expand(self, batch_shape, _instance=None) -> "Factorised":
        shape = (*batch_shape, *self.log_probs.shape[-2:])
        return Factorised(self.log_probs.expand(shape), self.space, self.even, self.relaxation)


def is_discrete(q: Distribution) -> bool:
    """Whether q is over a discrete z."""
    return isinstance(q, Factorised)


def centre(q: Distribution) -> Tensor:
    """The z that stands for q: its mean, or the most probable value of a discrete z."""
    return q.mode if is_discrete(q) else q.mean


def centre_in_words(q: Distribution) -> str:
    """What `centre` is of q, for a message."""
    return "the most probable z" if is_discrete(q) else "the mean of q(z|x)"


def check_enumerable(positions: int, classes: int) -> None:
    """Refuse to list more values of z than are worth decoding for each row.

    Raises:
        ValueError: There are more than 4096.
    """
    if classes**positions > MOST_ENUMERATED:
        raise ValueError(
            f"{positions} positions of {classes} classes make {classes}^{positions} values of z, and at most "
            f"{MOST_ENUMERATED} can be enumerated: use fewer, or the gradient score"
        )


def gumbel(uniform: Tensor) -> Tensor:
    """-ln -ln u for u in [0, 1), finite throughout."""
    tiny = torch.finfo(uniform.dtype).tiny
    return -(-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()


class Quantised(Unchecked):
    """All mass on one z for each row: ln q(z|x) = 0 there.

    Args:
        z: (*batch, size), whose gradient goes straight through to the encoder.
        space: What z is.
        penalties: Named costs of the quantisation, (*batch,) each, in nats.
    """

    has_rsample = True

    def __init__(self, z: Tensor, space: CodeSpace, penalties: Mapping[str, Tensor] | None = None):
        self.z, self.space, self.penalties = z, space, penalties or {}
        super().__init__(z.shape[:-1], z.shape[-1:])

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        return self.z

    @property
    def mode(self) -> Tensor:
        return self.z

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.z)

    def log_prob(self, value: Tensor) -> Tensor:
        same = (value.detach() == self.z.detach()).all(-1)
        return torch.where(same, 0.0, -torch.inf).to(self.z.dtype)

    def rsample(self, sample_shape=()) -> Tensor:
        return self.z.expand(*sample_shape, *self.z.shape)


@register_kl(Factorised, Factorised)
def _kl(q: Factorised, p: Factorised) -> Tensor:
    return kl_per_position(q, p).sum(-1)


def kl_per_position(q: Factorised, p: Factorised) -> Tensor:
    """(*batch, positions), in nats."""
    return (q.log_probs.exp() * (q.log_probs - p.log_probs)).sum(-1)
