"""A step's mathematics as a program: a flat list of tensor operations, traced once, then run without autograd.

The step stays the readable composition that it is. Tracing runs it once, with its backward pass, and writes down the
tensor operations that took place; whatever did not touch a tensor (distributions, modules, the autograd graph) is gone,
and so are values that nothing needs. A program is as general as the shapes that it was traced for, and no more.
"""

import operator
import re
from collections.abc import Iterator, Sequence
from types import MethodType

import torch
from torch import Tensor, fx

from vaekit import kernels
from vaekit.processes import is_out_of_memory
from vaekit.training.engine.recording import Flat, Form, Untraceable, record

aten = torch.ops.aten
LARGEST_CONSTANT = 1 << 16  # bytes


def trace(function: Flat, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The operations by which `function(*inputs)` comes to its results, a sequence of tensors.

    Raises:
        Untraceable: Python reads a tensor's values, so that another call may do other operations; or torch cannot.
    """
    try:
        program = record(function, inputs)
    except Untraceable:
        raise
    except Exception as error:  # of many kinds; a mistake in the step itself is raised again by the step as it stands
        if is_out_of_memory(error):
            raise
        raise Untraceable(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}") from error
    _fold_constants(program)
    for node in program.graph.nodes:
        if node.op == "call_function" and (simpler := _same_as(node) or _view_of(node)) is not None:
            node.replace_all_uses_with(simpler)
    _own_results(program)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def direct(program: fx.GraphModule) -> Flat:
    """The program's `forward`, without torch's wrapper in Python around each operation.

    Wrappers, and finding each operation by its name, are a twentieth of a small step.
    """
    code = program.graph.python_code("self")
    known = dict(code.globals)

    def named(found: re.Match[str]) -> str:
        operation = operator.attrgetter(found[1])(torch.ops)
        known[name := "call_" + found[1].replace(".", "_")] = operation._op
        return name

    exec(re.sub(r"\btorch\.ops\.(\w+\.\w+\.\w+)", named, code.src), known)
    return MethodType(known["forward"], program)


def _own_results(program: fx.GraphModule) -> None:
    """Copy each result that is an input, a constant, or another result: callers may change what they are given."""
    (output,) = program.graph.find_nodes(op="output")
    found: list[fx.Node] = []
    for result in output.args[0]:
        assert isinstance(result, fx.Node)
        if result.op != "call_function" or result in found:
            with program.graph.inserting_before(output):
                copied = program.graph.call_function(aten.clone.default, (result,))
            copied.meta.update(result.meta)
            result = copied
        found += [result]
    output.args = (found,)


def choose_products(program: fx.GraphModule) -> dict[str, str]:
    """Have each matrix product done by the kernel that is fastest for its shapes; what was chosen, by product."""
    chosen = {}
    for node in list(program.graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
            continue
        *bias, left, right = node.args
        x, weight = _like(left), _like(right).t()
        name, kernel = kernels.choose(x, weight, _like(bias[0]) if bias else None)
        chosen[name] = kernel
        if kernel == "torch":
            continue
        with program.graph.inserting_before(node):
            lies = right.args[0] if right.target is aten.t.default else None
            turned = lies or program.graph.call_function(aten.t.default, (right,))
            product = program.graph.call_function(kernels.KERNELS[kernel], (left, turned, *(bias or [None])))
        product.meta.update(node.meta)
        node.replace_all_uses_with(product)
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.recompile()
    return chosen


_SAME = {aten.detach.default, aten.alias.default, aten.lift_fresh.default}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.permute.default}
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
    if not args or not isinstance(args[0], fx.Node):
        return None
    if node.target in _SAME:
        return args[0]
    if node.target in _VIEWS or (node.target in _IDLE and args[1:] == _IDLE[node.target]):
        return args[0] if _form(args[0]) == _form(node) else None
    if node.target is aten.t.default and args[0].target is aten.t.default:
        return args[0].args[0]  # pyright: ignore[reportReturnType]
    if node.target in (aten.add.Tensor, aten.sub.Tensor) and not node.kwargs:
        for one, other in ((args[0], args[1]), (args[1], args[0])):
            subtracted = node.target is aten.sub.Tensor and one is args[1]
            if not subtracted and _is_zero(other) and isinstance(one, fx.Node) and _form(one) == _form(node):
                return one
    return None


def _view_of(node: fx.Node) -> fx.Node | None:
    """A view in place of an operation that copies, if a dimension of one makes them the same."""
    if node.target is aten.select_backward.default:
        given, sizes, dim, _ = node.args
        target, args = aten.unsqueeze.default, (given, dim)
        fits = sizes[dim] == 1  # pyright: ignore
    elif node.target in (aten.sum.dim_IntList, aten.mean.dim) and len(node.args) > 1 and not node.kwargs:
        given, dims, *keep = node.args
        target, args = aten.squeeze.dims, (given, dims)
        fits = dims and not any(keep) and all(_form(given).shape[dim] == 1 for dim in dims)  # pyright: ignore
    else:
        return None
    if not fits:
        return None
    with node.graph.inserting_before(node):
        view = node.graph.call_function(target, args)
    view.meta["form"] = Form.of(target(_form(given).empty(), *args[1:]))
    return view


def _form(node: object) -> Form:
    assert isinstance(node, fx.Node)
    return node.meta["form"]


def _is_zero(node: object) -> bool:
    return isinstance(node, fx.Node) and node.meta.get("zero", False)


_MADE = {aten.scalar_tensor.default, aten.full.default, aten.zeros.default, aten.ones.default, aten.arange.default}


def _fold_constants(program: fx.GraphModule) -> None:
    """Compute once what depends on no input: torch's backward passes begin with a good many such."""
    written = set(_written(program))
    found: dict[fx.Node, Tensor] = {}
    for node in program.graph.nodes:
        target, given = node.target, node.all_input_nodes
        if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable or node in written:
            continue
        if target in (aten.zeros_like.default, aten.ones_like.default):
            found[node] = torch.full_like(_form(node).empty(), target is aten.ones_like.default)
        elif target in _MADE or (given and all(node in found for node in given) and not _is_random(target)):
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


def _is_random(target: torch._ops.OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags


def _written(program: fx.GraphModule) -> Iterator[fx.Node]:
    """Everything that an operation in place may write into."""
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            into = node
            while into.op == "call_function" and into.args and isinstance(into.args[0], fx.Node):
                into = into.args[0]
                yield into


def _like(node: fx.Node) -> Tensor:
    """Numbers of the form that a node gives."""
    return _form(node).empty().fill_(1)
