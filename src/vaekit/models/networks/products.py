"""Matrix products by the faster of the kernels that torch carries: chosen by measuring, never by vendor name.

A choice is made once for each shape on each machine. Only single precision on a CPU has one.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.measured import Measured

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]

WORTH_IT = 1.15  # another kernel must be this much faster than torch's own: near ties are not to be decided by noise
CALM = 1.3
ROUNDS, MOST_ROUNDS, MEASURED_FOR = 4, 40, 0.015  # seconds


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


KERNELS: Mapping[str, Kernel] = {"torch": F.linear, "onednn": _onednn}

measured = Measured("kernels")


def has_choice(x: Tensor, weight: Tensor) -> bool:
    """Whether there is more than one kernel for x @ weight.T."""
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    return single and x.numel() > 0 and _has_onednn()


@cache
def _has_onednn() -> bool:
    """Whether this build of torch has it, on this machine."""
    has_product = "mkldnn::_linear_pointwise" in torch._C._dispatch_get_all_op_names()
    return has_product and torch.backends.mkldnn.is_available()


def choose(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[str, str]:
    """The product x @ weight.T + bias by name, with x (m, k) and weight (n, k), and its fastest kernel."""
    name = _name(x, weight, bias)
    if not has_choice(x, weight):
        return name, "torch"
    kernel = measured.get(name)
    if not isinstance(kernel, str) or kernel not in KERNELS:
        kernel = _fastest(x, weight, bias)
        measured.put(name, kernel, keep=is_calm())
    return name, kernel


def remember(choices: Mapping[str, str]) -> None:
    """Go on with choices that were made before."""
    measured.facts.update(choices)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias, (..., n), by the fastest kernel; for calls without gradients."""
    if not has_choice(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    _, kernel = choose(rows, weight, bias)
    return KERNELS[kernel](rows, weight, bias).reshape(*x.shape[:-1], len(weight))


def _name(x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    """What the speed of a product depends on: sizes, which of the factors lie transposed, threads."""
    layout = "".join("t" if t.stride(0) == 1 and t.stride(1) != 1 else "n" for t in (x, weight))
    plus = "" if bias is None else "+bias"
    return f"{x.shape[0]}x{x.shape[1]}x{weight.shape[0]} {layout}{plus} threads={torch.get_num_threads()}"


def bf16_gain() -> float:
    """How many times faster a product in bf16 is than the fastest in single precision, on this CPU."""
    if not (_has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return 0.0
    gain = measured.get(name := f"gain of bf16 threads={torch.get_num_threads()}")
    if not isinstance(gain, float):
        x, weight = torch.ones(256, 512), torch.ones(512, 512)
        (half,) = _seconds([F.linear], x.bfloat16(), weight.bfloat16(), None)
        gain = min(_seconds(KERNELS.values(), x, weight, None)) / half
        measured.put(name, gain, keep=is_calm())
    return gain


def threads_help() -> float:
    """How many times faster a product is on all of torch's threads than on one."""
    threads = torch.get_num_threads()
    x, weight = torch.ones(256, 512), torch.ones(512, 512)
    try:
        torch.set_num_threads(1)
        (alone,) = _seconds([F.linear], x, weight, None)
    finally:
        torch.set_num_threads(threads)
    (together,) = _seconds([F.linear], x, weight, None)
    return alone / together


@cache
def is_calm() -> bool:
    """Whether what this process measures can be trusted: threads gain where cores are free."""
    return torch.get_num_threads() == 1 or threads_help() > CALM


def _fastest(x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    torchs, *others = zip(_seconds(KERNELS.values(), x, weight, bias), KERNELS, strict=True)
    best = min([torchs, *others])
    return best[1] if torchs[0] > WORTH_IT * best[0] else torchs[1]


@torch.no_grad()
def _seconds(kernels: Iterable[Kernel], x: Tensor, weight: Tensor, bias: Tensor | None) -> list[float]:
    """The shortest call of each, of many in turn."""
    kernels = list(kernels)
    best, until = [float("inf")] * len(kernels), time.perf_counter() + MEASURED_FOR
    rounds = 0
    while rounds < ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() < until):
        for number, kernel in enumerate(kernels):
            began = time.perf_counter()
            kernel(x, weight, bias)
            best[number] = min(best[number], time.perf_counter() - began)
        rounds += 1
    return best
