"""The limit: the matrix products of a step, each by the faster of MKL and oneDNN, and one fused Adam."""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from speed.common import CHUNK, LEARNING_RATE, SHAPES, weights

Product = Callable[[], Tensor]
TURNS, TURN_SECONDS = 3, 0.03  # the fastest of so many turns counts


def _faster(left: Tensor, right: Tensor) -> Product:
    """left @ right, by whichever library does it faster."""
    calls: list[Product] = [lambda: torch.mm(left, right)]
    if torch.backends.mkldnn.is_available():
        columns = right.t()
        calls += [lambda: torch.ops.mkldnn._linear_pointwise(left, columns, None, "none", [], "")]
    return min(calls, key=_seconds)


def _seconds(call: Product) -> float:
    call()
    began = time.perf_counter()
    call()
    times = max(3, int(TURN_SECONDS / (time.perf_counter() - began)))
    return min(_seconds_of(call, times) for _ in range(TURNS))


def _seconds_of(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - began


@cache
def _step(batch: int) -> list[Product]:
    """The products of a step: each layer's output, its weights' gradient, and its input's but for the first layer."""
    products = []
    for number, (a, b) in enumerate(SHAPES["mlp"]):
        x, w, gradient = torch.randn(batch, a), torch.randn(b, a), torch.randn(batch, b)
        products += [_faster(x, w.t()), _faster(gradient.t(), x)]
        if number > 0:
            products += [_faster(gradient, w)]
    return products


@cache
def _adam() -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.from_numpy(p)) for pair in weights() for p in pair]
    for p in parameters:
        p.grad = torch.randn_like(p) * 1e-3
    return torch.optim.Adam(parameters, LEARNING_RATE, fused=True)


def train(net: str, batch: int, steps: int) -> float:
    """Seconds for the work of so many steps."""
    products, adam = _step(batch), _adam()

    def step() -> None:
        for product in products:
            product()
        adam.step()

    return _seconds_of(step, steps)


@cache
def _decoder() -> list[Product]:
    shapes = SHAPES["mlp"][len(SHAPES["mlp"]) // 2 :]
    return [_faster(torch.randn(CHUNK, a), torch.randn(b, a).t()) for a, b in shapes]


def iwae(images: int, samples: int) -> float:
    """Seconds for the products of decoding so many samples of z for each image, in chunks."""
    products = _decoder()

    def chunk() -> None:
        for product in products:
            product()

    return _seconds_of(chunk, images * samples // CHUNK)
