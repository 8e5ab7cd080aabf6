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
        """ln p of each code given those before it, (..., positions, classes), for codes as one-hot vectors.

        shift: what the context adds to every position, (batch, width), for codes (..., batch, positions, classes).
        """
        ...


class Autoregressive(Unchecked):
    """p(z) = prod_i p(z_i | z_1, ..., z_{i-1}), over codes.

    like: a tensor on its device, of its type.
    shift: see `CausalNetwork.log_probs`; none where there is no context.
    """

    has_rsample = False

    def __init__(self, network: CausalNetwork, space: CodeSpace, like: Tensor, shift: Tensor | None = None):
        self.network, self.space, self.like, self.shift = network, space, like, shift
        size = space.z_of(torch.zeros(space.positions, dtype=torch.int64, device=like.device)).shape
        super().__init__(torch.Size() if shift is None else shift.shape[:-1], size)

    @property
    def noise_shape(self) -> torch.Size:
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
        for place in range(self.space.positions):
            log_p = self.network.log_probs(codes, self.shift)[..., place, :]
            chosen = (log_p + noise[..., place, :]).argmax(-1, keepdim=True)
            codes[..., place, :] = torch.zeros_like(noise[..., place, :]).scatter(-1, chosen, 1.0)
        return self.space.z_of(codes.argmax(-1)).to(noise.dtype)
