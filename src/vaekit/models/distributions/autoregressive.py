"""Codes drawn one position after the other."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vaekit.models.distributions.base import Unchecked
from vaekit.models.distributions.codes import CodeSpace, gumbel


@runtime_checkable
class CausalNetwork(Protocol):
    """What gives each code's log-probabilities from those before it."""

    def log_probs(self, codes: Tensor, shift: Tensor | None = None) -> Tensor:
        """The log-probability of each code given those before it.

        Args:
            codes: One-hot vectors, (..., positions, classes); with a context (..., batch, positions, classes).
            shift: What the context adds to every position, (batch, width).

        Returns:
            ln p, (..., positions, classes), in nats.
        """
        ...


class Autoregressive(Unchecked):
    """p(z) = prod_i p(z_i | z_1, ..., z_{i-1}), over codes.

    Args:
        network: Of the log-probabilities.
        space: What z is made of.
        like: A tensor on its device, of its type.
        shift: See `CausalNetwork.log_probs`; none where there is no context.
    """

    has_rsample = False

    def __init__(self, network: CausalNetwork, space: CodeSpace, like: Tensor, shift: Tensor | None = None):
        self.network, self.space, self.like, self.shift = network, space, like, shift
        size = space.z_of(torch.zeros(space.positions, dtype=torch.int64, device=like.device)).shape
        super().__init__(torch.Size() if shift is None else shift.shape[:-1], size)

    @property
    def noise_shape(self) -> torch.Size:
        """Of the uniform noise of a draw: (*batch, positions, classes)."""
        return torch.Size((*self.batch_shape, self.space.positions, self.space.classes))

    def log_prob(self, value: Tensor) -> Tensor:
        codes = self.space.one_hot(value)
        return (codes * self.network.log_probs(codes, self.shift)).sum((-1, -2))

    def sample(self, sample_shape=()) -> Tensor:
        shape = (*sample_shape, *self.noise_shape)
        return self.from_uniform(torch.rand(shape, dtype=self.like.dtype, device=self.like.device))

    @torch.no_grad()
    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Samples from noise (*samples, positions, classes) uniform on [0, 1), one position after the other."""
        noise = gumbel(uniform)
        codes = torch.zeros_like(noise)
        for position in range(self.space.positions):
            log_p = self.network.log_probs(codes, self.shift)[..., position, :]
            chosen = (log_p + noise[..., position, :]).argmax(-1, keepdim=True)
            codes[..., position, :] = torch.zeros_like(noise[..., position, :]).scatter(-1, chosen, 1.0)
        return self.space.z_of(codes.argmax(-1)).to(noise.dtype)
