"""The processes that work on one run together: started by torchrun, or one alone.

Everything that several processes share is divided by `World.share`, so each process knows its part without
communication. One process alone is a world of size 1, in which every method here costs nothing.
"""

import atexit
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from vaekit.errors import ConfigError

_shared: list[PrefixStore] = []  # where processes read one another's errors, once they are connected
ERROR_WAIT = timedelta(seconds=5)
PATIENCE = timedelta(minutes=10)  # for a process that does not answer; one that died is noticed at once


@dataclass(frozen=True)
class World:
    """rank: of this process, from 0; size: how many there are; local: rank of this process on its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> "World":
        """The processes that torchrun started with this one, connected; without torchrun, this one alone.

        Raises:
            ConfigError: The variables that torchrun sets, or another launcher, make no sense.
        """
        local = _check_variables()
        if local is None:
            return cls()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            if local < torch.cuda.device_count():
                torch.cuda.set_device(local)
            store, rank, size = next(rendezvous("env://"))
            # After a restart the addresses of processes that have died are still in the store.
            attempt = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
            _shared.append(PrefixStore("errors", attempt))
            dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=PATIENCE)
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size(), local)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> slice:
        """This process's part of n things, contiguous, in whole units of `unit`; the parts' sizes are nearly equal."""
        units = math.ceil(n / unit)
        start, stop = (units * rank // self.size for rank in (self.rank, self.rank + 1))
        return slice(min(n, start * unit), min(n, stop * unit))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all processes, in the order of ranks; each may have another n."""
        if self.size == 1:
            return rows
        counts = torch.zeros(self.size, dtype=torch.int64, device=rows.device)
        counts[self.rank] = len(rows)
        most = int(self.sum(counts).max())
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts.tolist(), strict=True)])

    def agree(self, value: Any) -> Any:
        """The value that rank 0 has, at every process: any plain object."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def tell(self, value: Any) -> list[Any]:
        """The values of all processes, at every process, in the order of ranks: any plain objects."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def differing(self, value: Any) -> tuple[int, Any, Any] | None:
        """The first process whose value is not that of process 0, and the values of both; None where all are equal."""
        found = self.tell(value)
        rank = next((rank for rank in range(self.size) if found[rank] != found[0]), None)
        return None if rank is None else (rank, found[0], found[rank])

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def _check_variables() -> int | None:
    """The rank of this process on its machine by the variables of its launcher; None where it is alone."""
    given = {name: os.environ[name] for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in os.environ}
    fix = "start vaekit with torchrun, or unset WORLD_SIZE, RANK and LOCAL_RANK"
    for name, text in given.items():
        if not (text.isascii() and text.isdigit() and len(text) < 8):
            raise ConfigError(
                f"the variable {name} is {text[:60]!r}, and should be a whole number: {fix}", field=name, value=text
            )
    size, rank, local = (
        int(given.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    if size < 1 or rank >= size or local >= size:
        raise ConfigError(
            f"the variables WORLD_SIZE={size}, RANK={rank}, LOCAL_RANK={local} name no process: {fix}",
            field="WORLD_SIZE",
            value=size,
        )
    if size == 1:
        return None
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"the variable WORLD_SIZE is {size}, and {', '.join(missing)} not set: {fix}", field=missing[0]
        )
    port = os.environ["MASTER_PORT"]
    if not (port.isascii() and port.isdigit() and 0 < int(port[:8]) < 65536):
        raise ConfigError(
            f"the variable MASTER_PORT is {port[:60]!r}, and should be a port, 1 to 65535: {fix}",
            field="MASTER_PORT",
            value=port,
        )
    return local


def is_said_by_leader(text: str) -> bool:
    """Whether the leading process ends with the same error, so that this one need not say it, too.

    The others wait a little for it, so that it is printed before a launcher ends them all.
    """
    if not _shared:
        # before the processes of torchrun are connected, all fail alike
        return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
    with suppress(RuntimeError):  # the store went with the process that held it, or nothing is said
        if dist.get_rank() == 0:
            _shared[0].set("0", text)
            return False
        _shared[0].wait(["0"], ERROR_WAIT)
        return _shared[0].get("0").decode() == text
    return False


def lost_a_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run does not answer any more."""
    known = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
    return known and dist.is_initialized()


def is_out_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for GPUs, and a text for CPUs."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(
        words in str(error) for words in ("can't allocate memory", "bad_alloc", "Cannot allocate memory")
    )


def _leave() -> None:
    """Leave the other processes, once gloo's threads, which outlive this, have let go of the last tensors.

    For that they need the interpreter; if they ask for it while it is being finalised, Python ends the thread and C++
    then the process, by SIGABRT (seen in one of twelve exits on a machine with more work than cores).
    """
    time.sleep(0.1)
    if dist.is_initialized():
        dist.destroy_process_group()
