"""Matrix products by the faster of the kernels that torch carries: chosen by measuring, never by vendor name.

A choice is made once for each shape on each machine. Only single precision on a CPU has one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.measured import Measured, shortest_calls

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]

WORTH_IT = 1.15  # another kernel must be this much faster than torch's own: near ties are not to be decided by noise


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


KERNELS: Mapping[str, Kernel] = {"torch": F.linear, "onednn": _onednn}

measured = Measured("kernels")


def has_choice(x: Tensor, weight: Tensor) -> bool:
    """Whether there is more than one kernel for x @ weight.T."""
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    return single and x.numel() > 0 and has_onednn()


@cache
def has_onednn() -> bool:
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
        measured.put(name, kernel)
    return name, kernel


def remember(choices: Mapping[str, str]) -> None:
    """Go on with choices that were made before."""
    measured.facts.update(choices)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias, (..., n): as torch's own, by the fastest kernel where no gradient is to be computed."""
    plain = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type) or torch.compiler.is_exporting()
    if plain or not has_choice(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    _, kernel = choose(rows, weight, bias)
    return KERNELS[kernel](rows, weight, bias).reshape(*x.shape[:-1], len(weight))


def _name(x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    """What the speed of a product depends on: sizes, which of the factors lie transposed, threads."""
    layout = "".join("t" if t.stride(0) == 1 and t.stride(1) != 1 else "n" for t in (x, weight))
    plus = "" if bias is None else "+bias"
    return f"{x.shape[0]}x{x.shape[1]}x{weight.shape[0]} {layout}{plus} threads={torch.get_num_threads()}"


def _fastest(x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    torchs, *others = zip(shortest_calls(KERNELS.values(), x, weight, bias), KERNELS, strict=True)
    best = min([torchs, *others])
    return best[1] if torchs[0] > WORTH_IT * best[0] else torchs[1]


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that tensors of these shapes have together.

    torch's function imports sympy, which takes a second; NumPy's makes the rows of an exported graph a fixed number.
    """
    broadcast = torch.broadcast_shapes if torch.compiler.is_exporting() else np.broadcast_shapes
    return tuple(broadcast(*shapes))
