"""Units of data: values relative to where and how widely they lie, so that no bound and no step depends on them."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.models.likelihoods.location_scale import moments
from vaekit.models.parameters import Shape

CONSTANT = 1e-6  # a spread of this share of the largest value, or less, is rounding


SharedScale = Literal["none", "channel", "event"]


class Units(nn.Module):
    """x = loc + scale u, with a loc for each value of an event. 0 and 1 until measured; saved with the weights.

    Args:
        event_shape: Of x, (columns,) or (channels, *sides).
        shared: Which values have one scale: none, as the columns of a table, those of a channel, as in a sequence whose
            channels are different quantities, or all of an event, as the pixels of an image.
        standardised: Whether x is standardised already, so that a column that hardly varies beside 1 is constant.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, event_shape: Shape, shared: SharedScale = "none", standardised: bool = False):
        super().__init__()
        self.shared: SharedScale = shared
        self.least = 1.0 if standardised else 0.0
        self.register_buffer("loc", torch.zeros(event_shape))
        self.register_buffer("scale", torch.ones(event_shape))

    def forward(self, x: Tensor) -> Tensor:
        """u of x (..., *event), in the precision of the units."""
        return (x.to(self.scale.dtype) - self.loc) / self.scale

    @torch.no_grad()
    def measure(self, x: Tensor, best: Callable[[Tensor], tuple[Tensor, Tensor]] = moments) -> None:
        """Take the units from rows.

        Args:
            x: Rows, (n, *event).
            best: From rows to the location and scale of each column, as a family has them; by default the mean and the
                standard deviation.
        """
        loc, scale = (part.reshape(self.loc.shape) for part in best(x))
        size = x.abs().amax(0).double().clamp_min(self.least)
        if self.shared != "none":
            dims = tuple(range(0 if self.shared == "event" else 1, scale.dim()))
            scale = scale.square().mean(dims, keepdim=True).sqrt().expand_as(scale)
            size = size.amax(dims, keepdim=True).expand_as(size)
        scale = torch.where(scale > CONSTANT * size, scale, size).to(self.scale.dtype)  # of a constant, its own size
        self.loc.copy_(loc)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))
