"""A step's mathematics as a program: a flat list of tensor operations, traced once, then run without autograd.

The step stays the readable composition that it is. Tracing runs it once, with its backward pass, and writes down the
tensor operations that took place; whatever did not touch a tensor (distributions, modules, the autograd graph) is gone,
and so are values that nothing needs. A program is as general as the shapes that it was traced for, and no more.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from vaekit import products

aten = torch.ops.aten
Flat = Callable[..., Sequence[Tensor]]


class Untraceable(Exception):
    """A step that cannot be a program; the message says why."""


def trace(function: Flat, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The operations by which `function(*inputs)` comes to its results, a sequence of tensors.

    Raises:
        Untraceable: Python decides something by a tensor's values (`if loss > 0`), or uses what torch cannot trace.
    """
    try:
        program = make_fx(function, decomposition_table=_SIMPLER)(*inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds; a mistake in the step itself is raised again by the step as it stands
        raise Untraceable(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    for node in program.graph.nodes:
        if (same := _same_as(node)) is not None:
            node.replace_all_uses_with(same)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def choose_products(program: fx.GraphModule) -> dict[str, str]:
    """Have each matrix product done by the kernel that is fastest for its shapes; what was chosen, by product."""
    chosen = {}
    for node in list(program.graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default):
            continue
        *bias, left, right = node.args
        x, weight = _like(left), _like(right).t()
        name, kernel = products.choose(x, weight, _like(bias[0]) if bias else None)
        chosen[name] = kernel
        if kernel == "torch":
            continue
        with program.graph.inserting_before(node):
            lies = right.args[0] if right.target is aten.t.default else None
            turned = lies or program.graph.call_function(aten.t.default, (right,))
            product = program.graph.call_function(products.KERNELS[kernel], (left, turned, *(bias or [None])))
        product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.recompile()
    return chosen


def _select_backward(gradient: Tensor, sizes: Sequence[int], dim: int, index: int) -> Tensor:
    """The gradient of what was picked out of a dimension of one: torch fills zeros and copies, and a view will do."""
    return gradient.unsqueeze(dim) if sizes[dim] == 1 else NotImplemented


_SIMPLER = {aten.select_backward.default: _select_backward}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default}
_SCALINGS = {aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar}


def _same_as(node: fx.Node) -> fx.Node | None:
    """The node that gives the same as this one, if this one does nothing."""
    if not node.args or not isinstance(given := node.args[0], fx.Node):
        return None
    if node.target in (aten.detach.default, aten.alias.default):
        return given
    if node.target is aten.t.default and given.target is aten.t.default:
        return given.args[0]  # pyright: ignore[reportReturnType]
    idle = node.target in _VIEWS or (node.target in _SCALINGS and node.args[1] in (1, 1.0))
    return given if idle and _form(given) == _form(node) else None


def _form(node: fx.Node) -> tuple:
    val = node.meta["val"]
    return val.shape, val.stride(), val.dtype


def _like(node: fx.Node) -> Tensor:
    """Numbers with the shape, strides and device of what a node gives."""
    val = node.meta["val"]
    return torch.empty_strided(val.shape, val.stride(), dtype=val.dtype, device=val.device).normal_()
