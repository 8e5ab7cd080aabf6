"""Fully connected networks.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that it can be initialised from data.
"""

import itertools
import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaekit import kernels
from vaekit.spec import Several, spec

Shape = tuple[int, ...]

Width = Annotated[int, Field(ge=1, le=65536)]

Widths = Annotated[Several[Width], Field(max_length=64)]

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "softplus"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


@spec
class Mlp:
    """Fully connected layers with an activation after each but the last.

    Args:
        widths: The hidden layers' widths; none makes the network linear.
        activation: The non-linearity between layers; "gated" multiplies each layer by the sigmoid of another.
        skip: Add a linear layer from the input to the output. The network then begins near its output's bias: the
            weights of both of the last layers are a tenth of what they are without.

    Example:
        >>> Mlp((32,)).build((1, 8, 8), 20)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 20])
    """

    widths: Widths = (512, 512)
    activation: Activation | Literal["gated"] = "relu"
    skip: bool = False
    kind: Literal["mlp"] = "mlp"

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> "MlpNetwork":
        """A network from inputs of a shape to `features` numbers."""
        return MlpNetwork(in_shape, (*self.widths, features), self.activation, self.skip)


class Linear(nn.Linear):
    """torch's, with the product of `vaekit.kernels`."""

    def forward(self, input: Tensor) -> Tensor:
        return kernels.linear(input, self.weight, self.bias)


def hidden_layers(sizes: Shape, activation: str) -> list[nn.Module]:
    """Fully connected layers from each size to the next, an activation after each."""
    factor = 2 if activation == "gated" else 1
    pairs = itertools.pairwise(sizes)
    return [part for fan_in, width in pairs for part in (Linear(fan_in, factor * width), non_linearity(activation))]


def non_linearity(activation: str) -> nn.Module:
    """The module of an activation's name; "gated" halves the numbers."""
    return nn.GLU() if activation == "gated" else _ACTIVATIONS[activation]()


class MlpNetwork(nn.Module):
    """The network that `Mlp` builds.

    Args:
        in_shape: Shape of the input.
        widths: Of the hidden layers, and of the output.
        activation: See `Mlp`.
        skip: See `Mlp`.
    """

    def __init__(self, in_shape: Shape, widths: Shape, activation: str, skip: bool = False):
        super().__init__()
        self.in_dims = len(in_shape)
        *hidden, features = widths
        sizes = (math.prod(in_shape), *hidden)
        self.layers = nn.Sequential(*hidden_layers(sizes, activation), Linear(sizes[-1], features))
        self.skip = Linear(sizes[0], features, bias=False) if skip else None
        if self.skip is not None:
            with torch.no_grad():
                self.layers[-1].weight.mul_(0.1)  # pyright: ignore[reportCallIssue, reportArgumentType]
                self.skip.weight.mul_(0.1)

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, (features,)."""
        return self.layers[-1].bias  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.dim() - self.in_dims]
        x = x.reshape(math.prod(lead), math.prod(x.shape[len(lead) :]))
        raw = self.layers(x) if self.skip is None else self.layers(x) + self.skip(x)
        return raw.reshape(*lead, raw.shape[-1])
