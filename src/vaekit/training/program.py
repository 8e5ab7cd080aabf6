"""A step's mathematics as a program: a flat list of tensor operations, traced once, then run without autograd.

The step stays the readable composition that it is. Tracing runs it once, with its backward pass, and writes down the
tensor operations that took place; whatever did not touch a tensor (distributions, modules, the autograd graph) is gone,
and so are values that nothing needs. A program is as general as the shapes that it was traced for, and no more.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from vaekit import products

aten = torch.ops.aten
LARGEST_CONSTANT = 1 << 16  # bytes

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
    _fold_constants(program)
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


def _select_backward(gradient: Tensor, sizes: Sequence[int], dim: int, index: int) -> object:
    """The gradient of what was picked out of a dimension of one: torch fills zeros and copies, and a view will do."""
    return gradient.unsqueeze(dim) if sizes[dim] == 1 else NotImplemented


def _reduce(
    x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> object:
    """A sum or a mean over dimensions of one."""
    if not dims or dtype is not None or any(x.shape[dim] != 1 for dim in dims):
        return NotImplemented
    return x if keepdim else x.squeeze(tuple(dims))


_SIMPLER = {
    aten.select_backward.default: _select_backward,
    aten.sum.dim_IntList: _reduce,
    aten.mean.dim: _reduce,
}
_SAME = {aten.detach.default, aten.alias.default}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
_MADE = {aten.zeros_like.default, aten.ones_like.default, aten.scalar_tensor.default, aten.full.default}
# of operations with these other arguments, the result is the first argument
_IDLE: dict[object, tuple[int, ...]] = {
    aten.mul.Tensor: (1,),
    aten.mul.Scalar: (1,),
    aten.div.Tensor: (1,),
    aten.div.Scalar: (1,),
    aten.pow.Tensor_Scalar: (1,),
}


def _same_as(node: fx.Node) -> fx.Node | None:
    """The node that gives the same as this one, if this one does nothing."""
    args = node.args
    if node.op != "call_function" or not args or not isinstance(args[0], fx.Node):
        return None
    if node.target in _SAME:
        return args[0]
    if node.target in _VIEWS or (node.target in _IDLE and args[1:] == _IDLE[node.target]):
        return args[0] if _form(args[0]) == _form(node) else None
    if node.target is aten.t.default and args[0].target is aten.t.default:
        return args[0].args[0]  # pyright: ignore[reportReturnType]
    if node.target in (aten.add.Tensor, aten.sub.Tensor) and not node.kwargs:
        for one, other in ((args[0], args[1]), (args[1], args[0])):
            subtracts = node.target is aten.sub.Tensor and one is args[1]
            if not subtracts and _is_zero(other) and isinstance(one, fx.Node) and _form(one) == _form(node):
                return one
    return None


def _fold_constants(program: fx.GraphModule) -> None:
    """Compute once what depends on no input: torch's backward pass begins with a good many such."""
    written = set(_written(program))
    found: dict[fx.Node, Tensor] = {}
    for node in program.graph.nodes:
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable or node in written:
            continue
        known = all(given in found for given in node.all_input_nodes)
        if target in (aten.zeros_like.default, aten.ones_like.default):
            val = node.meta["val"]
            found[node] = torch.full_like(_like(node), float(target is aten.ones_like.default), dtype=val.dtype)
        elif target in _MADE or (
            known and node.all_input_nodes and torch.Tag.nondeterministic_seeded not in target.tags
        ):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda given: found[given])
            if isinstance(value := target(*args, **kwargs), Tensor):
                found[node] = value
    for node, value in found.items():
        if value.untyped_storage().nbytes() > LARGEST_CONSTANT or all(user in found for user in node.users):
            continue
        program.register_buffer(name := f"constant_{node.name}", value)
        with program.graph.inserting_before(node):
            constant = program.graph.get_attr(name)
        constant.meta.update(node.meta, zero=not value.any())
        node.replace_all_uses_with(constant)


def _written(program: fx.GraphModule) -> Iterator[fx.Node]:
    """Everything that an operation in place may write into."""
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            into = node
            while into.op == "call_function" and into.args and isinstance(into.args[0], fx.Node):
                into = into.args[0]
                yield into


def _form(node: fx.Node) -> tuple:
    val = node.meta["val"]
    return val.shape, val.stride(), val.dtype


def _is_zero(node: object) -> bool:
    return isinstance(node, fx.Node) and node.meta.get("zero", False)


def _like(node: fx.Node) -> Tensor:
    """Numbers with the shape, strides and device of what a node gives."""
    val = node.meta["val"]
    return torch.empty_strided(val.shape, val.stride(), dtype=val.dtype, device=val.device).normal_()
