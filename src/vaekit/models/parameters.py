"""From the raw numbers of a network to bounded parameters."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vaekit.words import counted

Shape = tuple[int, ...]


@runtime_checkable
class Scales(Protocol):
    """Units of data; see `Units`."""

    loc: Tensor
    scale: Tensor


LOG_VARIANCE_BOUND = 20.0

_TAIL = 0.25


def soft_bound(raw: Tensor, ratio: float = 1.0) -> Tensor:
    """Raw numbers within ±20 / ratio as they are, and a logarithm of them beyond.

    It is finite for every float, and its slope falls as 1/|raw|.

    Args:
        raw: Numbers of a network.
        ratio: 1 for the logarithm of a variance, 2 for that of a standard deviation.
    """
    inner = raw.clamp(-LOG_VARIANCE_BOUND / ratio, LOG_VARIANCE_BOUND / ratio)
    tail = _TAIL / ratio
    beyond = ((raw - inner).abs() / tail).clamp_max(torch.finfo(raw.dtype).max)
    return inner + tail * raw.sign() * torch.log1p(beyond)


def unpack(raw: Tensor, count: int, event_shape: Shape | None) -> Tensor:
    """Raw (..., count * prod(event)) as (..., count, *event), a view; a flat event if no shape is given."""
    if event_shape is None:
        event_shape = (raw.shape[-1] // count,)
    if raw.shape[-1] != count * math.prod(event_shape):
        raise ValueError(
            f"the network gives {counted(raw.shape[-1], 'number')}, but {count} for each of {math.prod(event_shape)} "
            f"values (event shape {event_shape}) makes {count * math.prod(event_shape)}: give its last layer that width"
        )
    return raw.reshape(*raw.shape[:-1], count, *event_shape)


def parameters(raw: Tensor, count: int, event_shape: Shape | None) -> tuple[Tensor, ...]:
    """The `count` parameters that raw holds, (..., *event) each."""
    packed, dim = unpack(raw, count, event_shape), -1 - (1 if event_shape is None else len(event_shape))
    return (packed.squeeze(dim),) if count == 1 else packed.unbind(dim)


def floating(x: Tensor) -> Tensor:
    """x in floating point, where it is integers."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())
