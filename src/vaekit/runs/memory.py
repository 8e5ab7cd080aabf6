"""How much memory a model needs, found before it is allocated."""

import math
import os

import torch
from torch import nn

from vaekit.data import Schema
from vaekit.errors import ConfigError
from vaekit.free_memory import free_bytes
from vaekit.models import VAE, HierarchicalVAE
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.factory import assemble
from vaekit.runs.tree import Run
from vaekit.words import counted

BYTES_PER_WEIGHT = 32  # single precision: weight, gradient, two moments; of the last good state 3; the best weight
BYTES_PER_WEIGHT_READ = 12  # single precision: a file's bytes, the tensors in it, the weight
BYTES_PER_ACTIVATION = 8  # single precision, forward and backward


def check_memory(run: Run, schema: Schema, model: VAE | HierarchicalVAE | None = None, training: bool = True) -> None:
    """Refuse a model whose weights, moments and activations cannot fit, before they are allocated.

    Args:
        run: Its settings.
        schema: Of its data.
        model: The untrained model. Without it, only what the weights take is known; with it, activations count, too.
        training: Whether the model is to be trained; else it is only to be used, a row at a time at least, and
            `limit.memory_gb`, which is for training, does not count.

    Raises:
        ConfigError: It needs more memory than is allowed or free.
    """
    rows, numbers = min(run.train.batch_size, run.limit.train or run.train.batch_size) * run.objective.samples, 0
    if model is None:
        weights = _count_weights(run, schema)
    else:
        weights = sum(p.numel() for p in model.parameters())
        numbers = activations_per_sample(model, schema)
    if not training:
        rows, numbers = 1, math.prod(schema.shape)
    each = BYTES_PER_WEIGHT if training else BYTES_PER_WEIGHT_READ
    needed = (weights * each + rows * numbers * BYTES_PER_ACTIVATION) / 1e9
    allowed = min((run.limit.memory_gb if training else None) or _physical_memory_gb() / 2, free_bytes() / 1e9)
    if needed > allowed:
        model_is = f"{weights:,} weights, {run.model.summary}"
        if not training:
            raise ConfigError(
                f"it needs about {needed:.1f} GB ({model_is}), and {allowed:.1f} GB is allowed here",
                field="model",
                value=run.model,
            )
        raise ConfigError(
            f"this model needs about {needed:.1f} GB to train ({model_is}, {counted(rows, 'sample')} of z at a "
            f"time), and {allowed:.1f} GB is allowed, and free: make model.latent or the networks smaller, lower "
            "train.batch_size, or raise limit.memory_gb",
            field="limit.memory_gb",
            value=run.limit.memory_gb,
        )


def _count_weights(run: Run, schema: Schema) -> int:
    """How many numbers a model keeps, without allocating it."""
    try:
        with torch.device("meta"):
            model = assemble(run, schema)
    except (RuntimeError, OverflowError, MemoryError):  # of sizes that no computer counts to
        raise ConfigError(
            f"this model ({run.model.summary}) has a layer with more weights than can be counted: make model.latent or "
            "the networks smaller",
            field="model",
            value=run.model,
        ) from None
    return sum(values.numel() for values in (*model.parameters(), *model.buffers()))


@torch.no_grad()
def activations_per_sample(model: VAE | HierarchicalVAE, schema: Schema) -> int:
    """How many numbers the layers of a model give out for one row and one z, z and its density included.

    A layer is a module that calls no other one.

    Args:
        model: On the CPU.
        schema: Of its data.
    """
    counts: list[int] = []
    called: set[nn.Module] = set()

    def count(module: nn.Module, inputs: object, output: object) -> None:
        is_layer = called.isdisjoint(part for part in module.modules() if part is not module)
        if is_layer and isinstance(output, torch.Tensor):
            counts.append(output.numel())
        called.add(module)

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    context = None if schema.context is None else torch.zeros(1, len(schema.context.names))
    x, trial = torch.zeros(1, *schema.shape), new_generator(0, Purpose.TRIAL)
    draw = model.draw(x, context=context, generator=trial, check=False)  # of any values: 0 may be outside the support
    for hook in hooks:
        hook.remove()
    return sum(counts) + 4 * sum(latent.z.numel() for latent in draw.latents)


def _physical_memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return float("inf")
