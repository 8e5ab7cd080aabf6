"""The size of a row of counts, by which its rates are multiplied: of a cell, how much of it was read."""

from dataclasses import dataclass

from torch import Tensor

from vaekit.models.distributions.gamma import wide


@dataclass(frozen=True)
class SizeFactor:
    """Where the context holds ln of the size of each row: it is loc + scale times one of the context's numbers.

    Attributes:
        index: Of that number.
        loc: ln of the size where the number is 0.
        scale: What one unit of the number adds to it.
    """

    index: int
    loc: float = 0.0
    scale: float = 1.0

    def log_size(self, context: Tensor) -> Tensor:
        """ln of the size of each row, (batch,), of their context (batch, width)."""
        return wide(context[..., self.index]) * self.scale + self.loc
