"""What our distributions share."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints


class Unchecked(Distribution):
    """A distribution that leaves it to its maker that its arguments are right. Abstract."""

    def __init__(self, batch_shape: Sequence[int], event_shape: Sequence[int] = ()):
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}


class Mass(Unchecked):
    """A distribution over integers that computes its log-mass in double precision. Abstract.

    The log-mass is a small difference of large numbers.

    Args:
        like: One of its parameters, (*batch).
        dtype: Of its log-densities, samples and moments; by default that of the parameter.
    """

    def __init__(self, like: Tensor, dtype: torch.dtype | None = None):
        self.dtype = like.dtype if dtype is None else dtype
        super().__init__(like.shape)

    @abstractmethod
    def log_mass(self, value: Tensor) -> Tensor:
        """ln of the probability of each value, in double precision where the device has it."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_mass(value).to(self.dtype)


class Summed(td.Independent):
    """torch's Independent, which adds up the values of a `Mass` before they are rounded to single precision."""

    def log_prob(self, value: Tensor) -> Tensor:
        if not isinstance(self.base_dist, Mass) or self.reinterpreted_batch_ndims == 0:
            return super().log_prob(value)
        return self.base_dist.log_mass(value).flatten(-self.reinterpreted_batch_ndims).sum(-1).to(self.base_dist.dtype)


def independent(base: Distribution, event_dims: int) -> Distribution:
    """Read the last `event_dims` batch dimensions of base as one event: their log-densities are summed."""
    return Summed(base, event_dims, validate_args=False)


def unwrapped(p: Distribution) -> Distribution:
    """The distribution of each value, of one whose values are independent; else the distribution itself."""
    while isinstance(p, td.Independent):
        p = p.base_dist
    return p
