"""Distributions over directions: vectors of the unit sphere in R^d, symmetric around a mean direction.

Such a distribution is one of the angle t to its mean, with density e^g(t) sin^(d-2) t on [0, pi]. Its constant, its
moments and the inverse of its cumulative are integrals over the angle, here by Gauss-Legendre quadrature in pieces:
one way for every d >= 2 and every concentration, without Bessel functions, in the log domain, and differentiable.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from vaekit.models.distributions.base import Unchecked

PIECES = 48
REACH = 12.0  # of the pieces around the mode, in widths of the density
_NODES = np.polynomial.legendre.leggauss(6)  # in each piece
HALVINGS = 6  # of a piece, before Newton's steps
NEWTON = 2
TOLERANCE = 1e-3  # by which |z| may miss 1


class _Sphere(constraints.Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.norm(dim=-1) - 1).abs() < TOLERANCE

    def __repr__(self) -> str:
        return "the unit sphere"


sphere = _Sphere()


def log_area(size: int) -> float:
    """ln of the area of the unit sphere in R^size."""
    return math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)


class AroundMean(Unchecked):
    """By the mean direction, (*batch, d), and the concentration, (*batch). Abstract."""

    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor):
        self.loc, self.concentration = loc, concentration
        super().__init__(concentration.shape, loc.shape[-1:])
        nodes, weights = _legendre(concentration)
        with torch.no_grad():
            mode, width = self.bulk()
            self.low = (mode - REACH * width).clamp_min(0)  # where the first piece begins
            self.step = ((mode + REACH * width).clamp_max(math.pi) - self.low) / PIECES
            places = torch.arange(PIECES, dtype=nodes.dtype, device=nodes.device)[:, None] + nodes
            self.angles = self.low[..., None, None] + self.step[..., None, None] * places  # (*batch, pieces, nodes)
        # here, once, and not where they are first needed: that may be without gradients
        adds = self._log_unscaled(self.angles) + (self.step[..., None, None] * weights).log()
        self.log_constant = adds.logsumexp((-1, -2))  # ln of the integral of e^g(t) sin^(d-2) t
        self.shares = (adds - self.log_constant[..., None, None]).exp()  # the probability that each node stands for

    @abstractmethod
    def log_slope(self, far: Tensor, near: Tensor, concentration: Tensor) -> Tensor:
        """g: ln density over that at the mean, by sin^2 and cos^2 of half of the angle."""

    @abstractmethod
    def bulk(self) -> tuple[Tensor, Tensor]:
        """The mode of the angle, and the width of its density there, (*batch)."""

    @property
    def support(self) -> constraints.Constraint:
        return sphere

    @property
    def noise_shape(self) -> torch.Size:
        """Of standard normal noise: a number for the angle, and d for the direction away from the mean."""
        return torch.Size((*self.batch_shape, self.event_shape[0] + 1))

    def log_prob(self, value: Tensor) -> Tensor:
        far, near = ((value + sign * self.loc).square().sum(-1) / 4 for sign in (-1, 1))
        return self.log_slope(far, near, self.concentration) - self.log_constant - log_area(self.event_shape[0] - 1)

    def push(self, noise: Tensor) -> Tensor:
        """Points (*samples, *batch, d) from noise (*samples, *noise_shape)."""
        angle = self.angle_at(torch.special.ndtr(noise[..., 0]))[..., None]
        # twice, because what is left of noise that lies nearly along the mean is mostly rounding
        away = _across(_across(noise[..., 1:], self.loc), self.loc)
        point = angle.cos() * self.loc + angle.sin() * away
        return point / point.norm(dim=-1, keepdim=True)

    def rsample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.noise_shape)
        return self.push(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def expand(self, batch_shape, _instance=None) -> "AroundMean":
        return type(self)(self.loc.expand(*batch_shape, -1), self.concentration.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        return self._mean_of(torch.cos)[..., None] * self.loc

    @property
    def variance(self) -> Tensor:
        along = self._mean_of(lambda angle: angle.cos() ** 2)[..., None]
        across = (1 - along) / (self.event_shape[0] - 1)
        return along * self.loc**2 + across * (1 - self.loc**2) - self.mean**2

    def entropy(self) -> Tensor:
        """In nats, over the sphere's area."""
        slope = self.log_slope(*_halves(self.angles), self.concentration[..., None, None])
        return self.log_constant + log_area(self.event_shape[0] - 1) - (self.shares * slope).sum((-1, -2))

    def angle_at(self, uniform: Tensor) -> Tensor:
        """The angle below which lies this share of all draws, (*samples, *batch); differentiable in the parameters.

        By halving, then Newton's steps. The last one carries the gradient, which it makes that of the implicit function
        F(angle, concentration) = share (Figurnov, Mohamed and Mnih, 2018, arXiv 1805.08498).
        """
        nodes, weights = _legendre(uniform)
        smallest = torch.finfo(uniform.dtype).eps
        uniform = uniform.clamp(smallest, 1 - smallest)
        below = torch.nn.functional.pad(self.shares.sum(-1).cumsum(-1), (1, 0))  # the share below each piece
        piece = (uniform[..., None] > below[..., 1:-1]).sum(-1)
        start = below.expand(*uniform.shape, -1).gather(-1, piece[..., None]).squeeze(-1)
        left = self.low + piece * self.step

        def density(angle: Tensor) -> Tensor:
            return (self._log_unscaled(angle) - self.log_constant[..., None, None]).exp()

        def share(angle: Tensor) -> Tensor:
            within = left[..., None] + (angle - left)[..., None] * nodes
            return start + (density(within[..., None, :]).squeeze(-2) * weights).sum(-1) * (angle - left)

        def newton(angle: Tensor) -> Tensor:
            slope = density(angle[..., None, None])[..., 0, 0].detach()
            return (uniform - share(angle)) / slope.clamp_min(smallest**2)

        with torch.no_grad():
            angle, half = left + self.step / 2, self.step / 2
            for _ in range(HALVINGS):
                half = half / 2
                angle = angle + torch.where(share(angle) > uniform, -half, half)
            for _ in range(NEWTON):
                angle = angle + newton(angle).clamp(-half, half)
        return angle + newton(angle).clamp(-self.step, self.step)

    def _mean_of(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return (self.shares * function(self.angles)).sum((-1, -2))

    def _log_unscaled(self, angle: Tensor) -> Tensor:
        """g(t) + (d - 2) ln sin t at angles (..., *batch, pieces, nodes)."""
        far, near = _halves(angle)
        sine = (2 * (far * near).sqrt()).clamp_min(torch.finfo(angle.dtype).tiny)
        slope = self.log_slope(far, near, self.concentration[..., None, None])
        return slope + (self.event_shape[0] - 2) * sine.log()


class VonMisesFisher(AroundMean):
    """Density proportional to e^(k m.z): g = -2 k sin^2(t/2)."""

    def log_slope(self, far: Tensor, near: Tensor, concentration: Tensor) -> Tensor:
        return -2 * concentration * far

    def bulk(self) -> tuple[Tensor, Tensor]:
        k, power = self.concentration, self.event_shape[0] - 2
        cosine = 2 * k / (power + (power**2 + 4 * k**2).sqrt())
        mode = torch.atan2((power * cosine / k).sqrt(), cosine)
        return mode, (k * (cosine + (power > 0) / cosine)).rsqrt()


class PowerSpherical(AroundMean):
    """Density proportional to (1 + m.z)^k: g = 2 k ln cos(t/2)."""

    def log_slope(self, far: Tensor, near: Tensor, concentration: Tensor) -> Tensor:
        return concentration * near.clamp_min(torch.finfo(near.dtype).tiny).log()

    def bulk(self) -> tuple[Tensor, Tensor]:
        k, power = self.concentration, self.event_shape[0] - 2
        square = power / (2 * k + power)  # tan^2 of half of the mode
        curve = k * (1 + square) / 2
        if power > 0:
            curve = curve + power * (1 + square) ** 2 / (4 * square)
        return 2 * square.sqrt().atan(), curve.rsqrt()


class UniformDirection(Unchecked):
    """Uniform over the unit sphere in R^d, by a vector of zeros (*batch, d) of its size."""

    has_rsample = True

    def __init__(self, zeros: Tensor):
        self.zeros = zeros
        super().__init__(zeros.shape[:-1], zeros.shape[-1:])

    @property
    def support(self) -> constraints.Constraint:
        return sphere

    @property
    def mean(self) -> Tensor:
        return self.zeros

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.zeros, 1 / self.event_shape[0])

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_area(self.event_shape[0]))

    def push(self, noise: Tensor) -> Tensor:
        """Points from standard normal noise, (*samples, *batch, d)."""
        return noise / noise.norm(dim=-1, keepdim=True)

    def rsample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.zeros.shape)
        return self.push(torch.randn(shape, dtype=self.zeros.dtype, device=self.zeros.device))

    def expand(self, batch_shape, _instance=None) -> "UniformDirection":
        return UniformDirection(self.zeros.expand(*batch_shape, -1))


@register_kl(AroundMean, UniformDirection)
def _kl_from_uniform(q: AroundMean, p: UniformDirection) -> Tensor:
    return log_area(p.event_shape[0]) - q.entropy()


def _across(vector: Tensor, direction: Tensor) -> Tensor:
    """The direction of what a vector has at right angles to another direction; nothing where it has nothing."""
    away = vector - (vector * direction).sum(-1, keepdim=True) * direction
    return away / away.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(away.dtype).tiny)


def _halves(angle: Tensor) -> tuple[Tensor, Tensor]:
    """sin^2 and cos^2 of half of an angle."""
    return (angle / 2).sin() ** 2, (angle / 2).cos() ** 2


def _legendre(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights of the quadrature, (NODES,) each."""
    nodes, weights = _NODES
    return like.new_tensor((nodes + 1) / 2), like.new_tensor(weights / 2)
