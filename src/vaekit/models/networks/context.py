"""Networks with a context: labels or covariates, (batch, width), given beside their input."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from vaekit.errors import SpecError
from vaekit.models.networks.mlp import Linear, Shape


class WithContext(nn.Module):
    """A network with a context beside its input: more numbers of a vector, or one more channel of an image.

    Args:
        network: Takes the input with the context joined to it.
        in_shape: Shape of the input without the context.
        width: Numbers of the context.
    """

    def __init__(self, network: nn.Module, in_shape: Shape, width: int):
        super().__init__()
        self.network, self.in_shape, self.width = network, in_shape, width
        self.channel = Linear(width, math.prod(in_shape[1:])) if len(in_shape) > 1 else None

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the network's output, (features,)."""
        return cast(nn.Parameter, self.network.output_bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(self.join(x, context))

    def join(self, x: Tensor, context: Tensor | None) -> Tensor:
        """x (..., batch, *in_shape) with the context of each row."""
        if context is None or context.shape[-1] != self.width:
            given = "none was given" if context is None else f"the one given has {context.shape[-1]}"
            raise SpecError(
                f"this model needs a context (rows, {self.width}), and {given}: pass context=", field="context"
            )
        lead = x.shape[: x.dim() - len(self.in_shape)]
        if self.channel is None:
            return torch.cat([x, context.to(x.dtype).expand(*lead, -1)], -1)
        channel = self.channel(context.to(x.dtype)).reshape(-1, 1, *self.in_shape[1:])
        return torch.cat([x, channel.expand(*lead, *channel.shape[1:])], -len(self.in_shape))


class WithoutContext(nn.Module):
    """A network of a model with a context, which does not see it.

    Args:
        network: Takes the input alone.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the network's output, (features,)."""
        return cast(nn.Parameter, self.network.output_bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(x)


def with_context(
    build: Callable[[Shape], nn.Module], in_shape: Shape, width: int, conditioned: bool = True
) -> nn.Module:
    """A network for a model whose rows have `width` numbers of context.

    Args:
        build: Makes the network for the shape of its input.
        in_shape: Shape of the input without the context.
        width: Numbers of the context; 0 for none.
        conditioned: Whether the network sees the context beside its input.
    """
    if width == 0:
        return build(in_shape)
    if not conditioned:
        return WithoutContext(build(in_shape))
    first, *others = in_shape
    return WithContext(build((first + (1 if others else width), *others)), in_shape, width)
