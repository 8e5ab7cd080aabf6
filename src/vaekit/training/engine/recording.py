"""Writing down the operations on tensors that a function comes down to, backward passes included."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

Flat = Callable[..., Sequence[Tensor]]

_UNFIT = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class Untraceable(Exception):
    """A function that cannot be written down; the message says why."""


class Form(NamedTuple):
    """What a tensor is, but for its values: kept of each node as `node.meta["form"]`."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> "Form":
        """The form of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def empty(self) -> Tensor:
        """A tensor of this form, with any values."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)


def record(function: Flat, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The operations of one call `function(*inputs)`, in order; the module gives the results of the call as a list.

    Raises:
        Untraceable: Another call may do other operations, since this one depends on a tensor's values.
    """
    recorder = _Recorder(inputs)
    with torch.autograd.set_multithreading_enabled(False), recorder:
        results = function(*inputs)
    recorder.graph.output([recorder.node(result) for result in results])
    return fx.GraphModule(recorder.constants, recorder.graph, "Program")


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]):
        super().__init__()
        self.graph = fx.Graph()
        self.constants = nn.Module()
        self.nodes: dict[int, fx.Node] = {}
        self.alive: list[Tensor] = []  # or a new tensor might get the id of one that is gone
        for number, tensor in enumerate(inputs):
            self._note(tensor, self.graph.placeholder(f"input_{number}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would import its compiler, which takes a second, to keep it away from here."""
        return False

    def node(self, value: Any) -> Any:
        """The node that gives a tensor, which is a constant where no recorded operation made it; else the value."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:
            self.constants.register_buffer(name := f"given_{len(self.nodes)}", value.detach())
            self._note(value, self.graph.create_node("get_attr", name))
        return self.nodes[id(value)]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(tag in func.tags for tag in _UNFIT) and not _picks_by_number(func, args):
            raise Untraceable(f"it depends on the values of a tensor ({func})")
        if isinstance((kwargs or {}).get("generator"), torch.Generator):
            raise Untraceable("it draws from a generator of its own")
        given = map_aggregate((tuple(args), dict(kwargs or {})), self.node)
        results = func(*args, **(kwargs or {}))
        node = self.graph.call_function(func, *given)
        if isinstance(results, Tensor):
            self._note(results, node)
        elif isinstance(results, list | tuple):
            for number, result in enumerate(results):
                if isinstance(result, Tensor):
                    self._note(result, self.graph.call_function(operator.getitem, (node, number)))
        return results

    def _note(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta["form"] = Form.of(tensor)
        self.nodes[id(tensor)] = node
        self.alive += [tensor]


def _picks_by_number(operation: Any, args: Sequence[Any]) -> bool:
    """Whether an indexing is by numbers alone: its result's shape then depends on no values, as it does with masks."""
    if operation is not torch.ops.aten.index.Tensor:
        return False
    return all(index is None or index.dtype not in (torch.bool, torch.uint8) for index in args[1])
