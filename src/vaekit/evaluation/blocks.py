"""Rows in blocks of a fixed size, each with noise of its own, divided among processes: what evaluation works on.

So a row's result does not depend on how many rows follow it, nor on how many processes there are; and of data on disk,
no more than a block is in memory.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.models.noise import Purpose, new_generator
from vaekit.world import World

BLOCK = 100  # rows
Data = Tensor | np.ndarray | Rows | StreamedRows
PerBlock = Callable[[Tensor, Tensor | None, torch.Generator, int], tuple[Tensor, ...]]


@runtime_checkable
class Weighted(Protocol):
    """A module, as far as it is asked here."""

    training: bool

    def train(self, mode: bool = True) -> Any: ...

    def state_dict(self) -> Any: ...


class Blocks:
    """The rows of `data`, as a model takes them: on its device, floating point in its precision."""

    def __init__(
        self, model: Weighted, data: Data, seed: int = 0, context: Tensor | None = None, world: World | None = None
    ):
        self.data, self.seed, self.context, self.world = data, seed, context, world or World()
        self.model = model
        self.weight = next(iter(model.state_dict().values()), None)

    def __len__(self) -> int:
        return len(self.data)

    def x(self, number: int) -> Tensor:
        """The rows of a block."""
        rows = slice(number * BLOCK, min((number + 1) * BLOCK, len(self.data)))
        if isinstance(self.data, Rows | StreamedRows):
            device = self.data.device
            x = self.data.batch(rows, new_generator(self.seed, Purpose.BINARISE, number, device=device))
        else:
            x = torch.as_tensor(self.data[rows])
        like = x if self.weight is None else self.weight
        return x.to(like.device, like.dtype if x.is_floating_point() and like.is_floating_point() else x.dtype)

    def context_of(self, number: int) -> Tensor | None:
        """What the model is told of the rows of a block beside x: what was given, or what the data says."""
        rows = slice(number * BLOCK, min((number + 1) * BLOCK, len(self.data)))
        if self.context is None and isinstance(self.data, Rows | StreamedRows):
            return self.data.context_of(rows)
        return None if self.context is None else self.context[rows]

    def map(self, compute: PerBlock) -> tuple[Tensor, ...]:
        """What `compute(x, context, generator, first row)` gives for each row, at every process."""
        every = range(math.ceil(len(self) / BLOCK))
        mine, found = every[self.world.share(len(every))], []
        with evaluating(self.model):
            for number in mine or range(1):  # a process without a block learns from the first what shapes there are
                x, context = self.x(number), self.context_of(number)
                generator = new_generator(self.seed, Purpose.EVALUATE, number, device=x.device)
                parts = compute(x, context, generator, number * BLOCK)
                found += [parts if mine else tuple(part[:0] for part in parts)]
        return tuple(self.world.gather(torch.cat(parts)) for parts in zip(*found, strict=True))


def kept(compute: PerBlock, folder: str | Path | None) -> PerBlock:
    """`compute`, with its results read from a folder where that holds them, and else written there if possible."""
    if folder is None:
        return compute
    place = Path(folder)

    def of_block(x: Tensor, context: Tensor | None, generator: torch.Generator, first: int) -> tuple[Tensor, ...]:
        path = place / f"{first}.npz"
        damaged = (EOFError, ValueError, BadZipFile)
        with suppress(OSError, *damaged), path.open("rb") as file, np.load(file) as arrays:
            return tuple(torch.from_numpy(arrays[name]).to(x.device) for name in arrays)
        found = compute(x, context, generator, first)
        with suppress(OSError):  # of a full disk, say, which costs no more than going on later
            place.mkdir(parents=True, exist_ok=True)
            whole = place / f"{first}.{os.getpid()}.part.npz"
            np.savez(whole, *(part.cpu().numpy() for part in found))
            whole.replace(path)
        return found

    return of_block


@contextmanager
def evaluating(model: Weighted) -> Iterator[None]:
    """The model in evaluation mode, without gradients; put back as it was afterwards."""
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
