"""A network in which what is said of a column depends on the columns before it alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Linear):
    """A linear layer of which some weights are 0 for good.

    Args:
        mask: True where there is a weight, (outputs, inputs).
        bias: Whether numbers are added to the outputs.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True):
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * self.mask, self.bias)


class MaskedNetwork(nn.Module):
    """Numbers of each column from those of the columns before it.

    Two hidden layers with a connection around the second, and a linear layer beside them. Each hidden unit belongs to a
    column: it sees inputs up to that, and is seen by outputs of those after it. Outputs are near 0 at first.

    Source: Germain et al., 2015, arXiv 1502.03509 (MADE).

    Args:
        inputs: The column of each input, (inputs,) int64.
        outputs: The column of each output, (outputs,) int64.
        columns: How many there are.
        width: Hidden units of each layer.

    Example:
        >>> network = MaskedNetwork(torch.tensor([0, 1]), torch.tensor([0, 1]), columns=2, width=8)
        >>> network(torch.ones(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(self, inputs: Tensor, outputs: Tensor, columns: int, width: int):
        super().__init__()
        units = torch.arange(width, device=inputs.device) % max(1, columns - 1)
        self.first = MaskedLinear(units[:, None] >= inputs)
        self.second = MaskedLinear(units[:, None] >= units)
        self.last = MaskedLinear(outputs[:, None] > units, bias=False)
        self.skip = MaskedLinear(outputs[:, None] > inputs, bias=False)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.skip.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        hidden = hidden + self.second(hidden).relu()
        return self.last(hidden) + self.skip(x)
