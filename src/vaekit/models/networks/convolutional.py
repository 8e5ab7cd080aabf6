"""Convolutional networks, with and without residual blocks.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that it can be initialised from data.
"""

import itertools
import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vaekit.models.networks.mlp import _ACTIVATIONS, Activation, Linear, Shape, Width, Widths, non_linearity
from vaekit.spec import spec


@spec
class Conv:
    """Convolutions: strided downwards from an image, resize and convolution upwards to one (no checkerboard).

    Over images (channels, height, width) and sequences (channels, length) of any size, and along the columns of a table
    in their order, as in a table of series; each stage halves the size, rounding up, and the way up retraces the same
    sizes. Upwards, each pixel has a bias of its own.

    Args:
        channels: Of each stage, from the image inwards.
        hidden: Width of the fully connected layer between the stages and the vector.
        activation: The non-linearity between layers.
    """

    channels: Annotated[Widths, Field(min_length=1)] = (32, 64)
    hidden: Width = 256
    activation: Activation = "relu"
    kind: Literal["conv"] = "conv"

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> "ConvEncoder | ConvDecoder":
        """A decoder to `out_shape` from a vector, else an encoder."""
        return _convolutional(self, 0, in_shape, features, out_shape)


@spec
class ResNet:
    """`Conv` with residual blocks, after each stage inwards, before each upwards (He et al., 2016, arXiv 1603.05027).

    A block is two convolutions, an activation before each, added to its input.

    Args:
        channels: See `Conv`.
        hidden: See `Conv`.
        activation: See `Conv`.
        blocks: Residual blocks at each stage.
    """

    channels: Annotated[Widths, Field(min_length=1)] = (32, 64)
    blocks: Annotated[int, Field(ge=1, le=256)] = 2
    hidden: Width = 256
    activation: Activation = "silu"
    kind: Literal["resnet"] = "resnet"

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> "ConvEncoder | ConvDecoder":
        """A decoder to `out_shape` from a vector, else an encoder."""
        return _convolutional(self, self.blocks, in_shape, features, out_shape)


def _convolutional(
    net: Conv | ResNet, blocks: int, in_shape: Shape, features: int, out_shape: Shape | None
) -> "ConvEncoder | ConvDecoder":
    if out_shape is None or len(in_shape) > 1:
        return ConvEncoder(in_shape, _as_image(in_shape), features, net, blocks)
    return ConvDecoder(math.prod(in_shape), features, _as_image(out_shape), net, blocks)


def _as_image(shape: Shape) -> Shape:
    """The shape with its channels: a row of values is a sequence of one."""
    image = shape if len(shape) > 1 else (1, *shape)
    if len(image) not in _CONVOLUTIONS:
        raise ValueError(
            "a convolutional network needs an image (channels, height, width), a sequence (channels, length) or a row "
            f"of values, not shape {shape}: use Mlp"
        )
    return image


_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {2: nn.Conv1d, 3: nn.Conv2d}  # by dimensions of the image


class ConvEncoder(nn.Module):
    """The encoder that `Conv` and `ResNet` build: from an image to a vector.

    Args:
        in_shape: Shape of the input.
        image: The same with its channels.
        features: Numbers of the output.
        net: The settings.
        blocks: Residual blocks at each stage.
    """

    def __init__(self, in_shape: Shape, image: Shape, features: int, net: Conv | ResNet, blocks: int):
        super().__init__()
        self.in_dims, self.image = len(in_shape), image
        convolution, act = _CONVOLUTIONS[len(image)], _ACTIVATIONS[net.activation]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((image[0], *net.channels)):
            layers += [convolution(fan_in, fan_out, 3, stride=2, padding=1)]
            layers += [Residual(convolution, fan_out, net.activation) for _ in range(blocks)]
            layers += [act()]
        self.stages = nn.Sequential(*layers)
        flat = net.channels[-1] * math.prod(stage_sizes(image, len(net.channels))[-1])
        self.top = nn.Sequential(nn.Flatten(), Linear(flat, net.hidden), act(), Linear(net.hidden, features))

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, (features,)."""
        return self.top[-1].bias  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: -self.in_dims]
        raw = self.top(self.stages(x.reshape(math.prod(lead), *self.image)))
        return raw.reshape(*lead, raw.shape[-1])


class ConvDecoder(nn.Module):
    """The decoder that `Conv` and `ResNet` build: from a vector to the raw numbers of an image.

    Args:
        in_features: Numbers of the input.
        features: Numbers of the output.
        image: Shape of the image.
        net: The settings.
        blocks: Residual blocks at each stage.
    """

    def __init__(self, in_features: int, features: int, image: Shape, net: Conv | ResNet, blocks: int):
        super().__init__()
        convolution, act = _CONVOLUTIONS[len(image)], _ACTIVATIONS[net.activation]
        first, *sizes = stage_sizes(image, len(net.channels))[::-1]
        inwards = net.channels[::-1]
        self.first = (inwards[0], *first)
        self.bottom = nn.Sequential(
            Linear(in_features, net.hidden), act(), Linear(net.hidden, math.prod(self.first)), act()
        )
        widths = itertools.pairwise((*inwards, features // math.prod(image[1:])))
        stages: list[nn.Module] = []
        for left, (fan_in, fan_out), size in zip(range(len(sizes))[::-1], widths, sizes, strict=True):
            stages += [Residual(convolution, fan_in, net.activation) for _ in range(blocks)]
            stages += [Upwards(convolution, fan_in, fan_out, size, bias=left > 0)]
            stages += [act()] if left else []
        self.stages = nn.Sequential(*stages)
        self.output_bias = nn.Parameter(torch.zeros(features))

    def forward(self, z: Tensor) -> Tensor:
        lead = z.shape[:-1]
        first = self.bottom(z.reshape(math.prod(lead), z.shape[-1])).unflatten(-1, self.first)
        raw = self.stages(channels_last(first))
        return (raw.flatten(1) + self.output_bias).reshape(*lead, len(self.output_bias))


class Upwards(nn.Module):
    """To twice the size: each value repeated, then a convolution; cut to `size`, which may be one less.

    Both at once are a transposed convolution of stride 2, whose kernel sums what meets the copies of one value: two
    thirds of the time, and half with the way back. To an image of one channel, the four pixels of a value are faster as
    four channels.
    """

    def __init__(
        self,
        convolution: type[nn.Conv1d] | type[nn.Conv2d],
        fan_in: int,
        fan_out: int,
        size: Shape,
        bias: bool = True,
    ):
        super().__init__()
        self.convolution = convolution(fan_in, fan_out, 3, bias=bias)
        self.size = size
        self.by_pixels = fan_out == 1 and len(size) == 2 and not bias

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.convolution.weight, self.convolution.bias
        if self.by_pixels:
            y = F.pixel_shuffle(F.conv2d(x, channels_last(_of_pixels(weight)), padding=1), 2)
        else:
            transposed = F.conv_transpose1d if len(self.size) == 1 else F.conv_transpose2d
            y = transposed(x, channels_last(_of_copies(weight)), bias, stride=2, padding=1)
        for dim, side in enumerate(self.size, 2):
            y = y.narrow(dim, 0, side)
        return y


def _of_copies(weight: Tensor) -> Tensor:
    """(in, out, 4, ...): a value's part in what is around its copies, from a kernel (out, in, 3, ...)."""
    kernel = weight.transpose(0, 1).flip(*range(2, weight.dim()))
    for dim in range(2, weight.dim()):
        none = torch.zeros_like(kernel.narrow(dim, 0, 1))
        kernel = torch.cat([kernel, none], dim) + torch.cat([none, kernel], dim)
    return kernel


def _of_pixels(weight: Tensor) -> Tensor:
    """(4, in, 3, 3): of a value's four pixels one by one, from a kernel (1, in, 3, 3) over pixels."""
    for dim in (3, 2):
        before, here, after = weight.split(1, dim)
        none = torch.zeros_like(here)
        even, odd = torch.cat([before, here + after, none], dim), torch.cat([none, before + here, after], dim)
        weight = torch.cat([even, odd])
    return weight


def channels_last(x: Tensor) -> Tensor:
    """An image as convolutions take it fastest; what follows keeps to that."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class Residual(nn.Module):
    """A residual block: two convolutions, an activation before each, added to the input.

    Args:
        convolution: Their class.
        channels: Of the input and the output.
        activation: See `Mlp`.
    """

    def __init__(self, convolution: type[nn.Conv1d | nn.Conv2d], channels: int, activation: str):
        super().__init__()
        self.first = convolution(channels, channels, 3, padding=1)
        self.second = convolution(channels, channels, 3, padding=1)
        self.act = non_linearity(activation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.act(self.first(self.act(x))))

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Divide the initial weights of what is added to the input by a factor."""
        self.second.weight.div_(factor)


def stage_sizes(image: Shape, stages: int) -> list[Shape]:
    """Of the image, then of each stage inwards."""
    sizes = [image[1:]]
    for _ in range(stages):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes
