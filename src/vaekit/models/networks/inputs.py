"""What an encoder sees of a row: its counts as shares, its direction, with numbers hidden at random in training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from vaekit.models.parameters import Shape, floating
from vaekit.models.protocols import Measured, Reshaping

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


class Dropout(nn.Module, ABC):
    """Hides a part of the encoder's input at random, in steps of training alone. Abstract.

    Without noise it hides nothing. The noise is that of the step, a function of the seed and the step's number.

    Args:
        transform: What the encoder sees of x if nothing is hidden.
        rate: The probability of being hidden.
    """

    def __init__(self, transform: nn.Module, rate: float):
        super().__init__()
        self.transform = transform
        self.rate = rate
        self.noise: Tensor | None = None

    @abstractmethod
    def shape_of_noise(self, x: Tensor) -> Shape:
        """Of one row, from rows x (n, *data)."""

    def measure(self, x: Tensor) -> None:
        """Have the transform take its constants from rows x (n, *data)."""
        if isinstance(self.transform, Measured):
            self.transform.measure(x)

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


class InputDropout(Dropout):
    """Hides numbers of the encoder's input, and scales up the others.

    Source: Liang et al., 2018, arXiv 1802.05814 (after Srivastava et al., 2014).

    Args:
        transform: Applied to x first; none for nothing.
        rate: The probability that a number is hidden.
    """

    def __init__(self, transform: nn.Module | None, rate: float):
        super().__init__(nn.Identity() if transform is None else transform, rate)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.transform(x)
        if self.noise is None:
            return seen
        return seen / (1 - self.rate) * (self.noise >= self.rate).to(seen.dtype)  # faster than a choice by `where`

    def shape_of_noise(self, x: Tensor) -> Shape:
        return tuple(self.transform(x).shape[1:])


class CellDropout(Dropout):
    """Hides cells of x from the encoder, which takes them for missing, as others that are.

    An encoder that is trained so gives q(z|x_observed) for rows with more missing cells than those of training.

    Args:
        transform: What the encoder sees of x and its mask, and the shape of that.
        rate: The probability that a cell is hidden.

    Attributes:
        seen_shape: Of what a network sees of one row.
    """

    def __init__(self, transform: Reshaping, rate: float):
        super().__init__(cast(nn.Module, transform), rate)
        self.seen_shape = transform.seen_shape

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.noise is not None:
            kept = self.noise >= self.rate
            mask = kept if mask is None else mask & kept
        return self.transform(x, mask)

    def shape_of_noise(self, x: Tensor) -> Shape:
        return tuple(x.shape[1:])
