"""Networks: specs that build tensor -> tensor modules. No probability in here.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that a model can start from the data's mean.
"""

import itertools
import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vaekit import products
from vaekit.spec import by_kind, spec

Shape = tuple[int, ...]
Width = Annotated[int, Field(ge=1, le=65536)]
Widths = Annotated[tuple[Width, ...], Field(max_length=64)]
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
        widths: the hidden layers' widths; none makes the network linear.
        activation: the non-linearity between layers.

    >>> Mlp((32,)).build((1, 8, 8), 20)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 20])
    """

    widths: Widths = (512, 512)
    activation: Activation = "relu"
    kind: Literal["mlp"] = "mlp"

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> "MlpNetwork":
        return MlpNetwork(in_shape, (*self.widths, features), self.activation)


@spec
class Conv:
    """Convolutions: strided downwards from an image, resize and convolution upwards to one (no checkerboard).

    Any number of channels, height and width; each stage halves the size, rounding up, and the way up retraces the
    same sizes. Upwards, each pixel has a bias of its own.

    Args:
        channels: of each stage, from the image inwards.
        hidden: width of the fully connected layer between the stages and the vector.
        activation: the non-linearity between layers.
    """

    channels: Annotated[Widths, Field(min_length=1)] = (32, 64)
    hidden: Width = 256
    activation: Activation = "relu"
    kind: Literal["conv"] = "conv"

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> "ConvEncoder | ConvDecoder":
        """An encoder if the input is an image (channels, height, width), else a decoder to the image `out_shape`."""
        image = in_shape if len(in_shape) == 3 else out_shape
        if image is None or len(image) != 3:
            raise ValueError(
                f"a convolutional network needs an image (channels, height, width), not shape {image or in_shape}: "
                "use kind: mlp"
            )
        if len(in_shape) == 3:
            return ConvEncoder(in_shape, features, self)
        return ConvDecoder(math.prod(in_shape), features, image, self)


class Linear(nn.Linear):
    """torch's, by the fastest kernel where no gradient is asked for. (Training chooses kernels for whole steps.)"""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        return products.linear(input, self.weight, self.bias)


Network = Annotated[Mlp | Conv, Field(discriminator="kind"), by_kind]


class MlpNetwork(nn.Module):
    def __init__(self, in_shape: Shape, widths: Shape, activation: Activation):
        super().__init__()
        self.in_dims = len(in_shape)
        sizes = (math.prod(in_shape), *widths)
        layers: list[nn.Module] = []
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            layers += [Linear(fan_in, fan_out)]
            if i < len(widths) - 1:
                layers += [_ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    @property
    def output_bias(self) -> nn.Parameter:
        return self.layers[-1].bias  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.dim() - self.in_dims]
        raw = self.layers(x.reshape(math.prod(lead), math.prod(x.shape[len(lead) :])))
        return raw.reshape(*lead, raw.shape[-1])


class ConvEncoder(nn.Module):
    def __init__(self, image: Shape, features: int, net: Conv):
        super().__init__()
        act = _ACTIVATIONS[net.activation]
        sizes = _sizes(image, len(net.channels))
        widths = (image[0], *net.channels)
        self.stages = nn.Sequential(
            *(
                layer
                for fan_in, fan_out in zip(widths, net.channels, strict=False)
                for layer in (nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), act())
            )
        )
        flat = net.channels[-1] * math.prod(sizes[-1])
        self.top = nn.Sequential(nn.Flatten(), Linear(flat, net.hidden), act(), Linear(net.hidden, features))

    @property
    def output_bias(self) -> nn.Parameter:
        return self.top[-1].bias  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-3]
        raw = self.top(self.stages(x.reshape(math.prod(lead), *x.shape[-3:])))
        return raw.reshape(*lead, raw.shape[-1])


class ConvDecoder(nn.Module):
    def __init__(self, in_features: int, features: int, image: Shape, net: Conv):
        super().__init__()
        self.act = _ACTIVATIONS[net.activation]()
        self.sizes = _sizes(image, len(net.channels))[::-1]
        inwards = net.channels[::-1]
        self.first = (inwards[0], *self.sizes[0])
        self.bottom = nn.Sequential(
            Linear(in_features, net.hidden),
            self.act,
            Linear(net.hidden, math.prod(self.first)),
            self.act,
        )
        self.stages = nn.ModuleList(
            nn.Conv2d(fan_in, fan_out, 3, padding=1) for fan_in, fan_out in itertools.pairwise(inwards)
        )
        pixels = math.prod(image[1:])
        self.last = nn.Conv2d(inwards[-1], features // pixels, 3, padding=1, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(features))

    def forward(self, z: Tensor) -> Tensor:
        lead = z.shape[:-1]
        h = self.bottom(z.reshape(math.prod(lead), z.shape[-1])).unflatten(-1, self.first)
        for stage, size in zip(self.stages, self.sizes[1:-1], strict=True):
            h = self.act(stage(F.interpolate(h, size=size)))
        h = self.last(F.interpolate(h, size=self.sizes[-1]))
        return (h.flatten(1) + self.output_bias).reshape(*lead, len(self.output_bias))


def _sizes(image: Shape, stages: int) -> list[tuple[int, int]]:
    """Heights and widths from the image inwards."""
    sizes = [(image[1], image[2])]
    for _ in range(stages):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes
