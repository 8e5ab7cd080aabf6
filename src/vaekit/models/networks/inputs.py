"""What an encoder sees of a row: its counts as shares, its direction, with numbers hidden at random in training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaekit.models.conditional import takes_mask
from vaekit.models.parameters import Shape, floating
from vaekit.models.protocols import Measured

EACH = 10_000  # counts of a row, as it is seen


class Log1pOfShares(nn.Module):
    """ln (1 + 10,000 x / sum x): what a network sees of counts, whatever the size of their row."""

    def forward(self, x: Tensor) -> Tensor:
        total = floating(x).flatten(1).sum(1).clamp_min(1)
        return (EACH * floating(x) / total.reshape(-1, *[1] * (x.dim() - 1))).log1p()


class UnitLength(nn.Module):
    """x / |x|: the direction of a row; of a row of zeros, zeros.

    Source: Liang et al., 2018, arXiv 1802.05814.
    """

    def forward(self, x: Tensor) -> Tensor:
        length = floating(x).flatten(1).norm(dim=1)
        return floating(x) / torch.where(length > 0, length, 1).reshape(-1, *[1] * (x.dim() - 1))


class InputDropout(nn.Module):
    """Hides numbers of the encoder's input at random, in steps of training alone, and scales up the others.

    Without noise it hides nothing. The noise is that of the step, a function of the seed and the step's number.

    Source: Liang et al., 2018, arXiv 1802.05814 (after Srivastava et al., 2014).

    Args:
        transform: Applied to x first; none for nothing.
        rate: The probability that a number is hidden.
    """

    def __init__(self, transform: nn.Module | None, rate: float):
        super().__init__()
        self.transform = nn.Identity() if transform is None else transform
        self.rate = rate
        self.noise: Tensor | None = None
        self._takes_mask = takes_mask(self.transform)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = self.transform(x, mask=mask) if self._takes_mask else self.transform(x)
        if self.noise is None:
            return seen
        return seen / (1 - self.rate) * (self.noise >= self.rate).to(seen.dtype)  # faster than a choice by `where`

    def measure(self, x: Tensor) -> None:
        """Have the transform take its constants from rows x (n, *data)."""
        if isinstance(self.transform, Measured):
            self.transform.measure(x)

    def shape_of_noise(self, x: Tensor) -> Shape:
        """Of one row, from rows x (n, *data)."""
        return tuple(self.transform(x).shape[1:])

    @contextmanager
    def hiding(self, noise: Tensor | None) -> Iterator[None]:
        """Within, hide what has noise below the rate.

        Args:
            noise: Uniform on [0, 1), (batch, *shape); None hides nothing.
        """
        self.noise = noise
        try:
            yield
        finally:
            self.noise = None
