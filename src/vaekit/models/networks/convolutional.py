"""Convolutional networks, with and without residual blocks.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that it can be initialised from data.
"""

import itertools
import math
from typing import Annotated, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from vaekit.errors import SpecError
from vaekit.models.networks.mlp import _ACTIVATIONS, Activation, Linear, Shape, Width, Widths, non_linearity
from vaekit.spec import spec

M = TypeVar("M", bound=nn.Module)


@spec
class Conv:
    """Convolutions: strided downwards from x, resize and convolution upwards to it (no checkerboard).

    Over sequences (channels, length), images (channels, height, width) and volumes (channels, depth, height, width) of
    any size, and along the columns of a table in their order, as in a table of series; each stage halves the sides,
    rounding up, and the way up retraces the same sizes. Upwards, each value of x has a bias of its own.

    Args:
        channels: Of each stage, from x inwards.
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
        return ConvEncoder(in_shape, _with_channels(in_shape), features, net, blocks)
    return ConvDecoder(math.prod(in_shape), features, _with_channels(out_shape), net, blocks)


def _with_channels(shape: Shape) -> Shape:
    """The shape with its channels: a row of values is a sequence of one."""
    event = shape if len(shape) > 1 else (1, *shape)
    convolution_over(event)
    return event


Convolution = type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]

_CONVOLUTIONS: dict[int, Convolution] = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}

EVENT_DIMS = {convolution: dims for dims, convolution in _CONVOLUTIONS.items()}
"""Dimensions of the events (channels, *sides) that convolutions of each class are over."""

_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

FASTEST_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory formats that convolutions are fastest in, by dimensions of what they take: images, volumes; also weights."""


def convolution_over(event: Shape) -> Convolution:
    """The class of convolutions over events (channels, *sides) of one to three sides.

    Raises:
        SpecError: There are none, or more.
    """
    if len(event) not in _CONVOLUTIONS:
        raise SpecError(
            "a convolutional network needs a sequence (channels, length), an image (channels, height, width), a volume "
            f"(channels, depth, height, width) or a row of values, not shape {event}: use Mlp",
            field="event",
            value=event,
        )
    return _CONVOLUTIONS[len(event)]


class ConvEncoder(nn.Module):
    """The encoder that `Conv` and `ResNet` build: from a sequence, an image or a volume to a vector.

    Args:
        in_shape: Shape of the input.
        event: The same with its channels.
        features: Numbers of the output.
        net: The settings.
        blocks: Residual blocks at each stage.
    """

    def __init__(self, in_shape: Shape, event: Shape, features: int, net: Conv | ResNet, blocks: int):
        super().__init__()
        self.in_dims, self.event = len(in_shape), event
        convolution, act = convolution_over(event), _ACTIVATIONS[net.activation]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((event[0], *net.channels)):
            layers += [convolution(fan_in, fan_out, 3, stride=2, padding=1)]
            layers += [Residual(convolution, fan_out, net.activation) for _ in range(blocks)]
            layers += [act()]
        self.stages = nn.Sequential(*layers)
        flat = net.channels[-1] * math.prod(stage_sizes(event, len(net.channels))[-1])
        self.top = nn.Sequential(nn.Flatten(), Linear(flat, net.hidden), act(), Linear(net.hidden, features))

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, (features,)."""
        return self.top[-1].bias  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: -self.in_dims]
        raw = self.top(self.stages(x.reshape(math.prod(lead), *self.event)))
        return raw.reshape(*lead, raw.shape[-1])


class ConvDecoder(nn.Module):
    """The decoder that `Conv` and `ResNet` build: from a vector to the raw numbers of x.

    Args:
        in_features: Numbers of the input.
        features: Numbers of the output.
        event: Shape of x, with its channels.
        net: The settings.
        blocks: Residual blocks at each stage.
    """

    def __init__(self, in_features: int, features: int, event: Shape, net: Conv | ResNet, blocks: int):
        super().__init__()
        convolution, act = convolution_over(event), _ACTIVATIONS[net.activation]
        first, *sizes = stage_sizes(event, len(net.channels))[::-1]
        inwards = net.channels[::-1]
        self.first = (inwards[0], *first)
        self.bottom = nn.Sequential(
            Linear(in_features, net.hidden), act(), Linear(net.hidden, math.prod(self.first)), act()
        )
        widths = itertools.pairwise((*inwards, features // math.prod(event[1:])))
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
        convolution: Convolution,
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
            y = _TRANSPOSED[len(self.size)](x, channels_last(_of_copies(weight)), bias, stride=2, padding=1)
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
    """Images and volumes (n, channels, *sides) as convolutions take them fastest; what follows keeps to that."""
    memory_format = FASTEST_FORMATS.get(x.dim())
    return x if memory_format is None else x.contiguous(memory_format=memory_format)


def with_weights_channels_last(module: M) -> M:
    """The module, its convolutions' weights in the fastest memory format: a fifth is saved of a step over images.

    Over volumes it is a tenth of a convolution, and a third of the way to twice the size.
    """
    module = convert_conv2d_weight_memory_format(module, torch.channels_last)
    return convert_conv3d_weight_memory_format(module, torch.channels_last_3d)


class Residual(nn.Module):
    """A residual block: two convolutions, an activation before each, added to the input.

    Args:
        convolution: Their class.
        channels: Of the input and the output.
        activation: See `Mlp`.
    """

    def __init__(self, convolution: Convolution, channels: int, activation: str):
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


def stage_sizes(event: Shape, stages: int) -> list[Shape]:
    """The sides of x (channels, *sides), then of each stage inwards."""
    sizes = [event[1:]]
    for _ in range(stages):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes
