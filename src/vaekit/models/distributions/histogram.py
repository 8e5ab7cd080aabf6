"""Numbers by the probabilities of intervals, of single values, and of two tails."""

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from vaekit.models.distributions.base import Unchecked

_NEVER = -1e4  # ln of the probability of a part that is not there, and of a number beside all parts: finite to add up


class Histogram(Unchecked):
    """Numbers of which each is uniform in one of several intervals, or a single value, or in a tail beyond them.

    A tail's density falls as the fourth power of the distance, in units of `spread`, so that its variance is finite. A
    single value has the density of a narrow cell around it, and is drawn as it is. Of counts, intervals and tails are
    those of the numbers that are rounded to them: edges lie halfway between counts.

    Args:
        logits: Of the lower tail, the intervals, the upper tail and the single values, (..., parts, columns).
        edges: Of the intervals, increasing, (intervals + 1, columns).
        values: The single ones, (values, columns).
        cell: How wide a single value's cell is, (columns,).
        spread: Of the tails, (columns,).
        whole: Whether numbers are counts, of which every cell has width 1.
    """

    def __init__(
        self, logits: Tensor, edges: Tensor, values: Tensor, cell: Tensor, spread: Tensor, whole: bool = False
    ):
        self.log_probs = logits.log_softmax(-2)
        self.edges, self.values, self.cell, self.spread, self.whole = edges, values, cell, spread, whole
        self.dtype = logits.dtype
        super().__init__((*logits.shape[:-2], logits.shape[-1]))

    @property
    def support(self) -> constraints.Constraint:
        return constraints.nonnegative_integer if self.whole else constraints.real

    def log_prob(self, value: Tensor) -> Tensor:
        x, intervals = value.to(self.edges.dtype), len(self.edges) - 1
        part = (x.unsqueeze(-2) >= self.edges).sum(-2, keepdim=True)  # 0 below, intervals + 1 above
        shape = torch.broadcast_shapes(part.shape, (*self.log_probs.shape[:-2], 1, self.log_probs.shape[-1]))
        log_probs = self.log_probs.expand(*shape[:-2], *self.log_probs.shape[-2:])
        of_part = log_probs.gather(-2, part.expand(shape)).squeeze(-2)
        widths = (self.edges[1:] - self.edges[:-1]).clamp_min(torch.finfo(x.dtype).tiny).log()
        width = widths.expand(*part.shape[:-2], -1, -1).gather(-2, (part - 1).clamp(0, intervals - 1)).squeeze(-2)
        beyond = torch.maximum(self.edges[0] - x, x - self.edges[-1]).clamp_min(0)
        inside = (part.squeeze(-2) > 0) & (part.squeeze(-2) <= intervals)
        spread = of_part + torch.where(inside, -width, self._of_tail(beyond))
        near = (x.unsqueeze(-2) - self.values).abs() * 2 < self.cell
        single = log_probs[..., intervals + 2 :, :].masked_fill(~near, _NEVER).amax(-2) - self.cell.log()
        return torch.logaddexp(spread, single).to(self.dtype)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            intervals, shape = len(self.edges) - 1, Size((*sample_shape, *self.log_probs.shape))
            noise = torch.rand(shape, dtype=self.dtype, device=self.log_probs.device)
            tiny = torch.finfo(self.dtype).tiny
            part = (self.log_probs - (-noise.clamp_min(tiny).log()).clamp_min(tiny).log()).argmax(-2, keepdim=True)
            uniform = torch.rand(part.shape, dtype=self.dtype, device=part.device)

            def of(parts: Tensor, index: Tensor) -> Tensor:
                return parts.expand(*index.shape[:-2], -1, -1).gather(-2, index.clamp(0, len(parts) - 1))

            low, high = of(self.edges[:-1], part - 1), of(self.edges[1:], part - 1)
            far = self.spread * ((1 - uniform) ** (-1 / 3) - 1)
            found = torch.where(part == 0, self.edges[0] - far, low + uniform * (high - low))
            found = torch.where(part == intervals + 1, self.edges[-1] + far, found)
            found = found.round().clamp_min(0) if self.whole else found
            if len(self.values):
                found = torch.where(part > intervals + 1, of(self.values, part - intervals - 2), found)
            return found.squeeze(-2).to(self.dtype)

    @property
    def mean(self) -> Tensor:
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments()
        return (square - mean**2).clamp_min(0)

    def _of_tail(self, beyond: Tensor) -> Tensor:
        """ln of a tail's density, or of its mass of a count, at a distance from where it begins."""
        t = 1 + beyond / self.spread
        if not self.whole:
            return (3 / self.spread).log() - 4 * t.log()
        t = 1 + (beyond - 0.5).clamp_min(0) / self.spread
        return -3 * t.log() + torch.log(-torch.expm1(-3 * torch.log1p(1 / (self.spread * t))))

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Means of the number and of its square; rounding to counts changes neither by more than a twelfth."""
        low, high = self.edges[:-1], self.edges[1:]
        least, most, s = self.edges[:1], self.edges[-1:], self.spread
        first = torch.cat([least - s / 2, (low + high) / 2, most + s / 2, self.values])
        of_tail = [edge**2 + side * edge * s + s**2 for edge, side in ((least, -1), (most, 1))]
        second = torch.cat([of_tail[0], (low**2 + low * high + high**2) / 3, of_tail[1], self.values**2])
        probs = self.log_probs.exp()
        return (probs * first).sum(-2), (probs * second).sum(-2)
