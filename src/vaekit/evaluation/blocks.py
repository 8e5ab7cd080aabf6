"""Rows in blocks of a fixed size, each with noise of its own, divided among processes, as evaluation takes them.

So a row's result does not depend on how many rows follow it, nor on how many processes there are; and of data on disk,
no more than a block is in memory.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows, array_of
from vaekit.data.rows import observed_log_scale
from vaekit.files import inside, parse_json, read_regular, written
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator

BLOCK = 100  # rows
MOST_CACHED = 1 << 22  # bytes that are read of the cached results of a block
Data = Tensor | np.ndarray | Rows | StreamedRows


@dataclass(frozen=True)
class Block:
    """Some of the rows, and what goes with them.

    Attributes:
        x: (rows, *data).
        context: Of these rows, or None.
        mask: True where a cell of x is observed, (rows, *data); None where all are.
        generator: Of their noise.
        first: Number of the first row.
    """

    x: Tensor
    context: Tensor | None
    mask: Tensor | None
    generator: torch.Generator
    first: int = 0

    @property
    def masked(self) -> dict[str, Any]:
        """The mask as an argument, where there is one: models that take none are called without."""
        return {} if self.mask is None else {"mask": self.mask}


PerBlock = Callable[[Block], tuple[Tensor, ...]]


@runtime_checkable
class Weighted(Protocol):
    """A module, as far as it is used here: its mode and its weights."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Enter training mode, or evaluation mode."""
        ...

    def state_dict(self) -> Any:
        """All tensors that are saved, by name."""
        ...


class Blocks:
    """The rows of `data`, as a model takes them: on its device, floating point in its precision.

    Args:
        model: Which takes them.
        data: x (rows, *data), or the rows of a split of a data set.
        seed: Of the noise.
        context: (rows, ...), if the model takes one and the data does not bring it.
        world: The processes that divide the rows.
        mask: (rows, *data), True where a cell of x is observed; None where all are.
    """

    def __init__(
        self,
        model: Weighted,
        data: Any,
        seed: int = 0,
        context: Tensor | None = None,
        world: World | None = None,
        mask: Tensor | None = None,
    ):
        self.data = data if isinstance(data, Data) else array_of(data)
        self.seed, self.context, self.mask, self.world = seed, context, mask, world or World()
        self.model = model
        self.weight = next(iter(model.state_dict().values()), None)
        self._log_scales: dict[int, Tensor | float] = {}  # of the rows of each block, as far as they are known

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
        """The context of the rows of a block: the one given, or else that of the data; None where there is none."""
        rows = slice(number * BLOCK, min((number + 1) * BLOCK, len(self.data)))
        if self.context is None and isinstance(self.data, Rows | StreamedRows):
            return self.data.context_of(rows)
        return None if self.context is None else self.context[rows]

    def mask_of(self, number: int) -> Tensor | None:
        """Which cells of a block are observed: by the mask given, or that of the data; None where all are."""
        rows = slice(number * BLOCK, min((number + 1) * BLOCK, len(self.data)))
        mask = None if self.mask is None else self.mask[rows]
        if self.mask is None and isinstance(self.data, Rows | StreamedRows):
            mask = self.data.mask_of(rows)
        return mask if mask is None or self.weight is None else mask.to(self.weight.device)

    def row_weights(self) -> Tensor | None:
        """How much each row counts, (rows,), as the rows of a data set know it; None where all count alike."""
        if not isinstance(self.data, Rows | StreamedRows) or self.data.weight_of(slice(0, 1)) is None:
            return None
        rows = (slice(start, min(start + BLOCK, len(self.data))) for start in range(0, len(self.data), BLOCK))
        return torch.cat([part for one in rows if (part := self.data.weight_of(one)) is not None])

    def log_scales(self) -> Tensor | float:
        """What a log-density of each row is above that of the row as it is stored, (rows,), or one number of all."""
        if not isinstance(self.data, Rows | StreamedRows) or self.data.log_scales is None:
            return 0.0
        found = []
        for number in range(math.ceil(len(self) / BLOCK)):
            if number not in self._log_scales:
                self._log_scales[number] = observed_log_scale(self.data, self.mask_of(number))
            found.append(self._log_scales[number])
        if not any(isinstance(one, Tensor) for one in found):
            return self.data.log_scale
        sizes = (min(BLOCK, len(self) - number * BLOCK) for number in range(len(found)))
        each = [torch.as_tensor(one, dtype=torch.float64).expand(size) for one, size in zip(found, sizes, strict=True)]
        return torch.cat(each).to("cpu" if self.weight is None else self.weight.device)

    def block(self, number: int) -> Block:
        """A block by its number."""
        x = self.x(number)
        generator = new_generator(self.seed, Purpose.EVALUATE, number, device=x.device)
        mask = self.mask_of(number)
        if isinstance(self.data, Rows | StreamedRows):  # of rows on disk, so that they are read no second time
            self._log_scales[number] = observed_log_scale(self.data, mask)
        return Block(x, self.context_of(number), mask, generator, number * BLOCK)

    def map(self, compute: PerBlock) -> tuple[Tensor, ...]:
        """The results of `compute(block)` for each row, (rows,) each, at every process."""
        every = range(math.ceil(len(self) / BLOCK))
        mine, found = every[self.world.share(len(every))], []
        with evaluating(self.model):
            for number in mine or range(1):  # a process without a block learns from the first what shapes there are
                results = compute(self.block(number))
                found += [results if mine else tuple(result[:0] for result in results)]
        return tuple(self.world.gather(torch.cat(results)) for results in zip(*found, strict=True))


def cached(compute: PerBlock, folder: str | Path | None, model: Weighted, *settings: object) -> PerBlock:
    """`compute` with a cache: results are read from a folder where it holds them, and else written there if possible.

    Args:
        compute: What gives the results of a block.
        folder: Of the cache; None for none.
        model: Whose weights are part of the key, as rows, context and mask are.
        settings: Whatever else the results depend on.

    Returns:
        A function like `compute`. What is damaged or has another key is computed anew.
    """
    if folder is None:
        return compute
    cache, common = Path(folder), f"{fingerprint(model)} {settings}"

    def of_block(block: Block) -> tuple[Tensor, ...]:
        x, first = block.x, block.first
        others = [_hash([] if part is None else [part]) for part in (block.context, block.mask)]
        key = hashlib.sha256(f"{common} {first} {_hash([x])} {' '.join(others)}".encode())
        name = f"{cache.name}/{first}.npz"
        found = _read_block(cache.parent, name, key.hexdigest(), len(x))
        if found is not None:
            return tuple(part.to(x.device) for part in found)
        found = compute(block)
        with suppress(OSError):  # a full disk, say, costs no more than the cache
            inside(cache.parent, cache.name).mkdir(parents=True, exist_ok=True)
            about = {"format_version": 1, "of": key.hexdigest(), "sha256": _hash(found)}
            with written(inside(cache.parent, name)) as file:
                np.savez(file, *(part.cpu().numpy() for part in found), about=np.array(json.dumps(about)))
        return found

    return of_block


def fingerprint(model: Weighted) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's weights."""
    weights = sorted(model.state_dict().items())
    return hashlib.sha256(f"{[name for name, _ in weights]} {_hash([w for _, w in weights])}".encode()).hexdigest()


def _read_block(above: Path, name: str, key: str, rows: int) -> list[Tensor] | None:
    """The cached results of a key, (rows,) each; None where there are none, or they are damaged."""
    try:
        content = read_regular(inside(above, name), MOST_CACHED)
        if sum(part.file_size for part in ZipFile(io.BytesIO(content)).infolist()) > MOST_CACHED:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = [torch.from_numpy(arrays[part]) for part in arrays.files if part != "about"]
            about = parse_json(str(arrays["about"]))
        expected = {"format_version": 1, "of": key, "sha256": _hash(found)}
        fits = all(part.shape == (rows,) and part.is_floating_point() for part in found)
        return found if fits and about == expected else None
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
