"""Several processes: how the step is wrapped for them, and how its tensors are put together.

What torch has for this takes a second to import, so each function does that for itself, where there are several.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from vaekit.models.networks.convolutional import FASTEST_FORMATS
from vaekit.processes import World


def shard(step: nn.Module, world: World) -> None:
    """Divide the step's parameters among the processes, in place: fully sharded data parallel, version 2.

    Only parts that map tensors to tensors are divided on their own: the networks of `Conditional`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    convert_conv2d_weight_memory_format(step, torch.contiguous_format)  # no other can be divided
    convert_conv3d_weight_memory_format(step, torch.contiguous_format)
    mesh = init_device_mesh(next(step.parameters()).device.type, (world.size,))
    for module in list(step.modules()):
        network = getattr(module, "network", None)
        if isinstance(network, nn.Module):
            fully_shard(network, mesh=mesh)
    fully_shard(step, mesh=mesh)


def wrap(step: nn.Module, world: World) -> nn.Module:
    """The step as it is called in training: its gradients are averaged over the processes."""
    if world.size == 1:
        return step
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(step, FSDPModule):
        return step
    device = next(step.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(step, device_ids=ids, broadcast_buffers=False)


@contextmanager
def syncing(engine: nn.Module, now: bool) -> Iterator[None]:
    """Average gradients over processes in this backward pass, or only add them up here."""
    if not dist.is_initialized():
        yield
        return
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(engine, FSDPModule):
        engine.set_requires_gradient_sync(now)
    context: AbstractContextManager[None] = nullcontext()
    if isinstance(engine, DistributedDataParallel) and not now:
        context = engine.no_sync()
    with context:
        yield


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be divided; called by all processes."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A new tensor with these values, on the device of `like`.

    It is laid out and divided as `like` is, where shapes agree.
    """
    moved = tensor.to(like.device, copy=True)
    memory_format = FASTEST_FORMATS.get(moved.dim())
    if memory_format and moved.shape == like.shape and like.is_contiguous(memory_format=memory_format):
        moved = moved.contiguous(memory_format=memory_format)
    if not dist.is_initialized():
        return moved
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(like, DTensor) and moved.shape == like.shape:
        return distribute_tensor(moved, like.device_mesh, like.placements)
    return moved
