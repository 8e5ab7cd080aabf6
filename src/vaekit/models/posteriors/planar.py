"""Planar and radial flows: posteriors of a few steps whose every number the encoder gives.

Each step is inverted, too, so that densities are known everywhere and not only at the flow's own draws, where they
come with the draw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch import distributions as td

from vaekit.errors import SpecError
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.transformed import Transformed
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.parameters import Shape
from vaekit.spec import spec

Steps = Annotated[int, Field(ge=1, le=256)]
HALVINGS = 40
LEAST = 1e-4  # slope of a step, for the inverse's sake


@runtime_checkable
class Invertible(Protocol):
    """A map of z (..., d), with the logarithm of its slope's determinant, (...)."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The image of z and ln of the absolute determinant of the Jacobian, (batch,)."""
        ...

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse, and its own determinant."""
        ...


@dataclass(frozen=True)
class Affine:
    """loc + scale * z, (*batch, d) each."""

    loc: Tensor
    scale: Tensor

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.addcmul(self.loc, self.scale, z), self.scale.log().sum(-1).expand(z.shape[:-1])

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return (z - self.loc) / self.scale, -self.scale.log().sum(-1).expand(z.shape[:-1])


@dataclass(frozen=True)
class PlanarStep:
    """z + u tanh(w.z + b), with w.u > -1, so that it can be inverted.

    Attributes:
        u: The direction in which z moves, (*batch, d).
        w: The direction along which z is measured, (*batch, d).
        b: The offset, (*batch).
    """

    u: Tensor
    w: Tensor
    b: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> "PlanarStep":
        """From 2 d + 1 raw numbers: u is moved along w until w.u = -1 + softplus(what it was + ln(e - 1))."""
        size = raw.shape[-1] // 2
        u, w, b = raw.split([size, size, 1], -1)
        along = (w * u).sum(-1, keepdim=True)
        wanted = F.softplus(along + math.log(math.e - 1)).clamp_min(LEAST) - 1  # 0 at 0
        square = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).eps)
        return cls(u + (wanted - along) * w / square, w, b.squeeze(-1))

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        bend = ((self.w * z).sum(-1) + self.b).tanh()
        return z + self.u * bend[..., None], self._log_slope(bend)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """By the root a of a + (w.u) tanh(a + b) = w.z, which is halved for; Newton's step carries its gradient."""
        given, along = (self.w * z).sum(-1), (self.w * self.u).sum(-1)

        def excess(a: Tensor) -> Tensor:
            return a + along * (a + self.b).tanh() - given

        with torch.no_grad():
            a, half = given.expand(excess(given).shape), along.abs()
            for _ in range(HALVINGS):
                half = half / 2
                a = a - torch.where(excess(a) > 0, half, -half)
            slope = 1 + along * (1 - (a + self.b).tanh() ** 2)
        bend = (a - excess(a) / slope + self.b).tanh()
        return z - self.u * bend[..., None], -self._log_slope(bend)

    def _log_slope(self, bend: Tensor) -> Tensor:
        return torch.log1p((1 - bend**2) * (self.w * self.u).sum(-1))


@dataclass(frozen=True)
class RadialStep:
    """z + b (z - c) / (a + |z - c|), with b > -a, so that it can be inverted.

    Attributes:
        centre: c, (*batch, d).
        a: The radius at which the step is half as strong, (*batch).
        b: The strength of the step, (*batch).
    """

    centre: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> "RadialStep":
        """From d + 2 raw numbers: a = softplus(...), b = -a + softplus(...)."""
        a = F.softplus(raw[..., -2]) + LEAST
        total = F.softplus(raw[..., -1] + a + torch.log(-torch.expm1(-a)))  # a at 0
        return cls(raw[..., :-2], a, torch.maximum(total, LEAST * a) - a)

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        away = z - self.centre
        radius = _norm(away)
        return z + (self.b / (self.a + radius))[..., None] * away, self._log_slope(radius, z.shape[-1])

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """By the radius r before, of which the one after is r + b r / (a + r): the root of a quadratic."""
        away = z - self.centre
        after = _norm(away)
        middle = (after - self.a - self.b) / 2
        root = (middle**2 + self.a * after).sqrt()
        # without taking one large number from another
        radius = torch.where(middle > 0, middle + root, self.a * after / (root - middle).clamp_min(1e-30))
        back = (self.a + radius) / (self.a + radius + self.b)
        return self.centre + back[..., None] * away, -self._log_slope(radius, z.shape[-1])

    def _log_slope(self, radius: Tensor, size: int) -> Tensor:
        stretch = self.b / (self.a + radius)
        return (size - 1) * torch.log1p(stretch) + torch.log1p(stretch * self.a / (self.a + radius))


@dataclass(frozen=True)
class ToNoise:
    """The map that `Transformed` needs: from z back to noise through steps, and the other way as `inv`.

    Attributes:
        steps: From noise to z.
        inverted: Whether this is the map from noise to z.
    """

    steps: Sequence[Invertible]
    inverted: bool = False

    @property
    def inv(self) -> "ToNoise":
        """The map from noise to samples."""
        return ToNoise(self.steps, not self.inverted)

    def __call__(self, z: Tensor) -> Tensor:
        return self.call_and_ladj(z)[0]

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The noise of x and ln of the absolute determinant of the Jacobian."""
        total = z.new_zeros(z.shape[:-1])
        for step in self.steps if self.inverted else self.steps[::-1]:
            z, log_slope = step.push(z) if self.inverted else step.pull(z)
            total = total + log_slope
        return z, total


class Amortised(PosteriorFamily, Head):
    """Draws of a diagonal Gaussian, moved by steps; the encoder gives the numbers of both for each x. Abstract.

    Attributes:
        steps: Their number.
        step: The kind of step.
    """

    steps: int
    step: type[PlanarStep] | type[RadialStep]

    def features(self, event_shape: Shape) -> int:
        size = math.prod(event_shape)
        return 2 * size + self.steps * self.numbers(size)

    def numbers(self, size: int) -> int:
        """Raw numbers of each step, for z of a size."""
        return 2 * size + 1 if self.step is PlanarStep else size + 2

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Transformed:
        if event_shape is None:
            raise SpecError(
                f"{type(self).__name__} needs the event shape: Conditional(network, head, (size,))",
                field="event_shape",
            )
        size = math.prod(event_shape)
        gaussian, rest = raw[..., : 2 * size], raw[..., 2 * size :]
        steps = [self.step.of(part) for part in rest.split(self.numbers(size), -1)]
        first = Affine(**Gaussian().arguments(gaussian, event_shape))
        zeros = torch.zeros_like(first.loc)
        base = independent(td.Normal(zeros, torch.ones_like(zeros), validate_args=False), 1)
        return Transformed(ToNoise([first, *steps]), base)


@spec
class Planar(Amortised):
    """Planar flow: each step z + u tanh(w.z + b) squeezes or stretches z along one direction.

    Source: Rezende and Mohamed, 2015, arXiv 1505.05770, equations 10 to 12 and appendix A.1.

    Args:
        steps: Of the flow; each takes 2 d + 1 numbers.

    Example:
        >>> Planar(steps=2)(torch.zeros(5, 20), (3,)).event_shape
        torch.Size([3])
    """

    steps: Steps = 10
    kind: Literal["planar"] = "planar"

    step = PlanarStep


@spec
class Radial(Amortised):
    """Radial flow: each step moves z towards a centre or away from it.

    Source: Rezende and Mohamed, 2015, arXiv 1505.05770, equation 14 and appendix A.2.

    Args:
        steps: Of the flow; each takes d + 2 numbers.

    Example:
        >>> Radial(steps=2)(torch.zeros(5, 16), (3,)).event_shape
        torch.Size([3])
    """

    steps: Steps = 10
    kind: Literal["radial"] = "radial"

    step = RadialStep


def _norm(z: Tensor) -> Tensor:
    """|z|, with a slope at 0."""
    return (z.square().sum(-1) + torch.finfo(z.dtype).tiny).sqrt()
