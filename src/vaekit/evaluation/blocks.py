"""Rows in blocks of a fixed size, each with noise of its own, divided among processes: what evaluation works on.

So a row's result does not depend on how many rows follow it, nor on how many processes there are; and of data on disk,
no more than a block is in memory.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.distributed import World
from vaekit.files import inside, parse_json, read_regular, written
from vaekit.randomness import Purpose, new_generator

BLOCK = 100  # rows
MOST_KEPT = 1 << 22  # bytes that are read of what was kept of a block
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
            x = self.data.batch(rows, new_generator(self.seed, Purpose.EVALUATED_ROWS, number, device=device))
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


def kept(compute: PerBlock, folder: str | Path | None, model: Weighted, *asked: object) -> PerBlock:
    """`compute`, with its results read from a folder where that holds them, and else written there if possible.

    What is read was computed from the same weights, rows and context, and `asked` the same things, and its numbers have
    the checksum that stands beside them; anything else in the folder is passed over, and computed anew.
    """
    if folder is None:
        return compute
    place, common = Path(folder), f"{fingerprint(model)} {asked}"

    def of_block(x: Tensor, context: Tensor | None, generator: torch.Generator, first: int) -> tuple[Tensor, ...]:
        key = hashlib.sha256(f"{common} {first} {_hash([x])} {_hash([] if context is None else [context])}".encode())
        name = f"{place.name}/{first}.npz"
        found = _read_block(place.parent, name, key.hexdigest(), len(x))
        if found is not None:
            return tuple(part.to(x.device) for part in found)
        found = compute(x, context, generator, first)
        with suppress(OSError):  # of a full disk, say, which costs no more than going on later
            inside(place.parent, place.name).mkdir(parents=True, exist_ok=True)
            about = {"format_version": 1, "of": key.hexdigest(), "sha256": _hash(found)}
            with written(inside(place.parent, name)) as file:
                np.savez(file, *(part.cpu().numpy() for part in found), about=np.array(json.dumps(about)))
        return found

    return of_block


def fingerprint(model: Weighted) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's weights."""
    weights = sorted(model.state_dict().items())
    return hashlib.sha256(f"{[name for name, _ in weights]} {_hash([w for _, w in weights])}".encode()).hexdigest()


def _read_block(above: Path, name: str, key: str, rows: int) -> list[Tensor] | None:
    """What was kept under a key: numbers for each of so many rows; None if it is not that, whatever it is."""
    try:
        content = read_regular(inside(above, name), MOST_KEPT)
        if sum(part.file_size for part in ZipFile(io.BytesIO(content)).infolist()) > MOST_KEPT:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = [torch.from_numpy(arrays[part]) for part in arrays.files if part != "about"]
            about = parse_json(str(arrays["about"]))
        asked = {"format_version": 1, "of": key, "sha256": _hash(found)}
        fits = all(part.shape == (rows,) and part.is_floating_point() for part in found)
        return found if fits and about == asked else None
    except Exception:  # a damaged archive ends in one of a dozen, and is only a cache
        return None


def _hash(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
