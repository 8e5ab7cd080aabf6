"""The multinomial distribution: how a total is divided among the values of a row."""

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Unchecked
from vaekit.models.distributions.gamma import gamma_rest, nonzero_of_many, wide


class Multinomial(Unchecked):
    """Counts given their sum, p(x | n) with n = sum x, by logits (*batch, *event): each count is one of n draws.

    It is one distribution for each total: of all x of one total, the probabilities add up to 1. Samples, mean and
    variance are those of `total`.

    Args:
        logits: Of the values, (*batch, *event).
        total: Of a sample: one for all, or one for each, (*batch).
        event_dims: Dimensions of the event.
    """

    def __init__(self, logits: Tensor, total: Tensor, event_dims: int = 1):
        self.logits, self.total = logits, total
        shape, dims = logits.shape, logits.dim() - event_dims
        super().__init__(shape[:dims], shape[dims:])

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.nonnegative_integer, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return (self._totals() * self._log_shares().exp()).unflatten(-1, self.event_shape).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        shares = self._log_shares().exp()
        return (self._totals() * shares * (1 - shares)).unflatten(-1, self.event_shape).to(self.logits.dtype)

    def given(self, total: Tensor) -> "Multinomial":
        """The same shares, of other totals."""
        return Multinomial(self.logits, total, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln n! - sum ln x! + sum x ln p, in double precision where the device has it.

        Each x ln p is taken together with the large terms of n! and x!, as x ln (p n / x), which is small where x is
        near its mean.
        """
        logits, x = (part.flatten(-len(self.event_shape)) for part in (self.logits, value))
        total = x.sum(-1, dtype=wide(x[..., :0]).dtype)
        drawn = total.clamp_min(1)
        of_total = torch.where(total > 0, _factorial_rest(drawn), 0.0)
        rows = x.reshape(-1, x.shape[-1])
        place = nonzero_of_many(rows) if logits.shape[logits.dim() - x.dim() :] == x.shape else None
        if place is None:
            expected, x = torch.broadcast_tensors(self._log_shares() + drawn.log()[..., None], wide(x))
            each = torch.where(x > 0, _of_some(x.clamp_min(1), expected), 0.0).sum(-1)
        else:
            row, column = place
            logits = logits.reshape(-1, *rows.shape)
            log_shares = wide(logits[:, row, column]) - _LogTotal.apply(logits)[:, row]
            of_some = _of_some(wide(rows[place]), log_shares + drawn.flatten().log()[row])
            each = of_some.new_zeros(logits.shape[:2]).index_add(1, row, of_some).reshape(self.batch_shape)
        return (each + of_total).to(self.logits.dtype)

    def sample(self, sample_shape=()) -> Tensor:
        """The total is divided in two, then each part, down to single values: by the binomial, which is exact."""
        with torch.no_grad():
            values, lead = self.event_shape.numel(), (*sample_shape, *self.batch_shape)
            levels = (values - 1).bit_length()
            shares = self._log_shares().exp()
            shares = torch.cat([shares, shares.new_zeros(*shares.shape[:-1], 2**levels - values)], -1)
            counts = self._totals().round().expand(*lead, 1)
            for level in range(levels):
                halves = shares.unflatten(-1, (2 ** (level + 1), -1)).sum(-1).unflatten(-1, (-1, 2))
                first, whole = halves[..., 0], halves.sum(-1)
                part = torch.where(whole > 0, first / whole, 0.0).clamp_max(1).expand(*lead, 2**level)
                drawn = torch.binomial(counts.contiguous(), part.contiguous())
                counts = torch.stack([drawn, counts - drawn], -1).flatten(-2)
            return counts[..., :values].unflatten(-1, self.event_shape).to(self.logits.dtype)

    def _log_shares(self) -> Tensor:
        """(*batch, values)."""
        return wide(self.logits).flatten(-len(self.event_shape)).log_softmax(-1)

    def _totals(self) -> Tensor:
        """(*batch, 1), or (1,) for one total."""
        return wide(self.total)[..., None]


_BLOCK = 1 << 17  # numbers, which stay in a processor's cache


class _LogTotal(torch.autograd.Function):
    """ln sum exp over the last axis, in double precision: a few rows at a time, since copies would cost most of it."""

    @staticmethod
    def forward(ctx, logits: Tensor) -> Tensor:
        few = logits.reshape(-1, logits.shape[-1]).split(max(1, _BLOCK // logits.shape[-1]))
        found = torch.cat([wide(rows).logsumexp(-1) for rows in few]).reshape(logits.shape[:-1])
        ctx.save_for_backward(logits, found)
        return found

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        logits, found = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have one itself
            return (gradients[0][..., None] * wide(logits).softmax(-1)).to(logits.dtype)
        slope = torch.empty_like(logits, memory_format=torch.contiguous_format)
        of_rows = (gradients[0][..., None], found[..., None])
        flat, into, outer, total = (each.reshape(-1, each.shape[-1]) for each in (logits, slope, *of_rows))
        some = max(1, _BLOCK // logits.shape[-1])
        for start in range(0, len(flat), some):
            rows = slice(start, start + some)
            into[rows] = (flat[rows] - total[rows]).exp_().mul_(outer[rows])
        return slope


def _of_some(x: Tensor, log_expected: Tensor) -> Tensor:
    """What counts above 0 add to ln p, by ln p n."""
    return x * (log_expected - x.log()) - _factorial_rest(x)


def _factorial_rest(x: Tensor) -> Tensor:
    """ln x! - x ln x + x for x > 0."""
    return gamma_rest(x) + x.log()
