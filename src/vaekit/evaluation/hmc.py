"""Hamiltonian Monte Carlo between two densities, for many chains of many rows at once.

Latents are tuples, one tensor (chains, batch, *event) for each group; log-densities are (chains, batch), in nats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Latents = tuple[Tensor, ...]
Density = Callable[[Latents], Tensor]

JITTER = 0.2  # each trajectory's step size varies by this share, so that none returns to where it began
GOAL = 0.8  # probability of acceptance that step sizes are tuned to
GAIN = 0.4  # change of ln step size for each unit of acceptance off the goal


@dataclass(frozen=True)
class State:
    """The states of the chains: z, the log-densities of both ends of the path there, and their gradients in z."""

    z: Latents
    start: Tensor
    end: Tensor
    start_gradient: Latents
    end_gradient: Latents

    def log_density(self, beta: float) -> Tensor:
        """ln of the density on the way from the start's to the end's, at beta, in nats."""
        return (1 - beta) * self.start + beta * self.end

    def gradient(self, beta: float) -> Latents:
        return tuple((1 - beta) * a + beta * b for a, b in zip(self.start_gradient, self.end_gradient, strict=True))

    def moved(self, accepted: Tensor, there: "State") -> "State":
        """The state `there` for chains whose trajectory is accepted, (chains, batch), and this one for the others."""

        def choose(here: Tensor, other: Tensor) -> Tensor:
            return torch.where(_over(accepted, here), other, here)

        def choose_each(here: Latents, other: Latents) -> Latents:
            return tuple(map(choose, here, other))

        return State(
            choose_each(self.z, there.z),
            choose(self.start, there.start),
            choose(self.end, there.end),
            choose_each(self.start_gradient, there.start_gradient),
            choose_each(self.end_gradient, there.end_gradient),
        )


@dataclass(frozen=True)
class Path:
    """ln f_beta(z) = (1 - beta) ln f_0(z) + beta ln f_1(z), beta from 0 to 1.

    Attributes:
        start: ln f_0, whose integral is 1.
        end: ln f_1.
        start_widths: About the standard deviation of each dimension of z under f_0, (batch, *event) of each group.
        end_widths: The same under f_1.
    """

    start: Density
    end: Density
    start_widths: Latents
    end_widths: Latents

    def state(self, z: Latents) -> State:
        """The states of chains at z."""
        with torch.enable_grad():
            leaves = tuple(part.detach().requires_grad_() for part in z)
            start, end = self.start(leaves), self.end(leaves)
            start_gradient = torch.autograd.grad(start.sum(), leaves)
            end_gradient = torch.autograd.grad(end.sum(), leaves)
        z = tuple(part.detach() for part in leaves)
        return State(z, start.detach().double(), end.detach().double(), start_gradient, end_gradient)

    def widths(self, beta: float) -> Latents:
        """About the standard deviation of z under f_beta; exact where both ends are Gaussian."""
        ends = zip(self.start_widths, self.end_widths, strict=True)
        return tuple(((1 - beta) / a**2 + beta / b**2).rsqrt() for a, b in ends)


def move(
    path: Path, here: State, beta: float, steps: Tensor, leapfrogs: int, generator: torch.Generator
) -> tuple[State, Tensor]:
    """Move each chain by one trajectory, which leaves f_beta invariant.

    With momentum p ~ N(0, I) in units of the widths s: p += e/2 s grad ln f(z); z += e s p; p += e/2 s grad ln f(z),
    `leapfrogs` times over; the end is accepted with probability min(1, exp(H(here) - H(there))), where
    H = |p|^2 / 2 - ln f(z).

    Source: Neal, 2011, arXiv 1206.1901, section 3.2, step sizes as in 3.1 and 4.2.

    Args:
        path: The densities between which f_beta lies.
        here: The states of the chains.
        beta: The inverse temperature.
        steps: e of each row, (batch,), in units of the widths.
        leapfrogs: How many steps a trajectory has.
        generator: Of momenta, step sizes and acceptance.

    Returns:
        The next states, and the acceptance probability of each trajectory (chains, batch).
    """

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)

    def uniform() -> Tensor:
        return torch.rand(here.end.shape, generator=generator, dtype=torch.float64, device=here.end.device)

    reach = steps * (1 + JITTER * (2 * uniform() - 1))
    scales = tuple(_over(reach.to(z.dtype), z) * width for z, width in zip(here.z, path.widths(beta), strict=True))
    momenta = tuple(normal(z) for z in here.z)
    before = here.log_density(beta) - _kinetic(momenta)
    there, gradient = here, here.gradient(beta)
    for number in range(leapfrogs):
        momenta = _step(momenta, scales, gradient, 0.5 if number == 0 else 1.0)
        there = path.state(_step(there.z, scales, momenta, 1.0))
        gradient = there.gradient(beta)
    momenta = _step(momenta, scales, gradient, 0.5)
    gain = there.log_density(beta) - _kinetic(momenta) - before
    acceptance = gain.clamp_max(0).exp().nan_to_num(0.0)  # a trajectory that is not finite is rejected
    return here.moved(uniform() < acceptance, there), acceptance


def retuned(steps: Tensor, acceptance: Tensor) -> Tensor:
    """Step sizes (batch,) nearer to those at which the acceptance probability is the one they are tuned to."""
    return steps * (GAIN * (acceptance.mean(0) - GOAL)).exp()


def _step(values: Latents, scales: Latents, rates: Latents, share: float) -> Latents:
    return tuple(v + share * s * r for v, s, r in zip(values, scales, rates, strict=True))


def _kinetic(momenta: Latents) -> Tensor:
    parts = [0.5 * p.double().square().flatten(2).sum(-1) for p in momenta]
    return torch.stack(parts).sum(0)


def _over(values: Tensor, like: Tensor) -> Tensor:
    """(chains, batch) with as many dimensions as z (chains, batch, *event)."""
    return values.reshape(*values.shape, *[1] * (like.dim() - 2))
