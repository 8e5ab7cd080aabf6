"""The categorical distribution over levels, by logits."""

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl

from vaekit.kernels import broadcast_shape
from vaekit.models.distributions.base import Unchecked


class Categorical(Unchecked):
    """Categorical over the levels 0, ..., C-1, whose mean and variance are those of the level.

    Unlike torch's, the logits may hold the levels in any dimension (`dim`, negative), so that those of an image need
    not be moved: with the levels before the pixels, the softmax runs four times as fast on a CPU.
    """

    def __init__(self, logits: Tensor, dim: int = -1):
        self.log_probs = logits.log_softmax(dim)
        self.dim = dim
        super().__init__(_without(logits.shape, dim))

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.log_probs.shape[self.dim] - 1)

    @property
    def probs(self) -> Tensor:
        """(*batch, C)."""
        return self.log_probs.exp().movedim(self.dim, -1)

    @property
    def mean(self) -> Tensor:
        return self.probs @ self._levels()

    @property
    def variance(self) -> Tensor:
        return self.probs @ self._levels() ** 2 - self.mean**2

    def log_prob(self, value: Tensor) -> Tensor:
        shape = broadcast_shape(self.batch_shape, value.shape)
        index = value.long().expand(shape).unsqueeze(self.dim)
        full = list(index.shape)
        full[self.dim] = -1
        log_probs = self.log_probs[(None,) * (len(full) - self.log_probs.dim())]
        return log_probs.expand(full).gather(self.dim, index).squeeze(self.dim)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(self.dim)

    def sample(self, sample_shape=()) -> Tensor:
        uniform = torch.rand(
            (*sample_shape, *self.log_probs.shape), dtype=self.log_probs.dtype, device=self.log_probs.device
        )
        return self.from_uniform(uniform)

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Samples from noise (*samples, *logits) uniform on [0, 1): the arg max of Gumbel noise on the logits."""
        tiny = torch.finfo(uniform.dtype).tiny
        exponential = -uniform.clamp_min(tiny).log()
        return (self.log_probs - exponential.clamp_min(tiny).log()).argmax(self.dim)

    def _levels(self) -> Tensor:
        count = self.log_probs.shape[self.dim]
        return torch.arange(count, dtype=self.log_probs.dtype, device=self.log_probs.device)


def _without(shape: torch.Size, dim: int) -> torch.Size:
    kept = list(shape)
    del kept[dim]
    return torch.Size(kept)


@register_kl(Categorical, Categorical)
def _kl_categorical(p: Categorical, q: Categorical) -> Tensor:
    log_p, log_q = p.log_probs.movedim(p.dim, -1), q.log_probs.movedim(q.dim, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
