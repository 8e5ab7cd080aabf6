"""In which precision networks compute; what they give out, and everything else, stays as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_half: ContextVar[bool] = ContextVar("networks in bf16", default=False)


@contextmanager
def networks_in_bf16(on: bool = True) -> Iterator[None]:
    """Within, products and convolutions of networks are in bfloat16; densities, KL and weights keep theirs."""
    token = _half.set(on)
    try:
        yield
    finally:
        _half.reset(token)


def run_network(network: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """network(x, ...), in bfloat16 within `networks_in_bf16`, and else in the precision of x."""
    if not _half.get():
        return network(x, *others)
    with torch.autocast(x.device.type, torch.bfloat16):
        return network(x, *others).to(x.dtype)
