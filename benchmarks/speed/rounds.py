"""Contenders at work in turns: workers, slices of about a second, and what came out, round by round."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from facts import table
from speed.common import ROWS

HERE = Path(__file__).parents[1]
PLAIN, AUTO, PYTHAE = "vaekit, fp32, not compiled", "vaekit as shipped", "pythae"
JAX, PROGRAM, EAGER, LIMIT = "JAX and optax", "the tutorial's program", "PyTorch, eager", "limit"
BEFORE = "vaekit before"
MODULES = {
    PLAIN: "of_vaekit",
    AUTO: "of_vaekit",
    BEFORE: "of_vaekit",
    PYTHAE: "of_pythae",
    JAX: "of_jax",
    PROGRAM: "of_program",
    EAGER: "of_eager",
    LIMIT: "of_limit",
}
OTHERS_PYTHON = (PYTHAE, JAX)


@dataclass(frozen=True)
class Bench:
    """peers: Python with JAX and pythae; plain: vaekit's settings for PLAIN and BEFORE; target: an ELBO to reach;
    before: another checkout of vaekit.
    """

    peers: Path
    rounds: int
    quick: bool
    plain: tuple[str, ...]
    target: float
    before: Path | None = None

    @property
    def slice_seconds(self) -> float:
        return 0.02 if self.quick else 1.0


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True)
class Rounds:
    """What each contender gave in each round."""

    values: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def ratio(self, name: str, to: str) -> Spread:
        """One contender's number to another's in the same round."""
        return Spread.of([a / b for a, b in zip(self.values[name], self.values[to], strict=True)])

    def spread(self, name: str) -> Spread:
        return Spread.of(self.values[name])

    def times(self, factor: float) -> "Rounds":
        return Rounds({name: [factor * value for value in values] for name, values in self.values.items()})


class Worker:
    """A contender in a process of its own, blocked on its input when it has nothing to do."""

    def __init__(self, bench: Bench, name: str, noise: TextIO, environment: Mapping[str, str]):
        python = bench.peers if name in OTHERS_PYTHON else sys.executable
        self.name, self.noise, self.arguments = name, noise, {}
        if MODULES[name] == "of_vaekit":
            self.arguments["settings"] = bench.plain if name in (PLAIN, BEFORE) else ()
        checkout = bench.before if name == BEFORE else None
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [python, "-m", "speed.worker", MODULES[name]],
            env=surroundings(checkout, **environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        )

    def send(self, do: str, **arguments) -> None:
        with suppress(BrokenPipeError):  # it died, which `receive` tells
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            self.noise.seek(0)
            raise SystemExit(f"{self.name} died:\n{self.noise.read()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise SystemExit(f"{self.name} failed:\n{answer['error']}")
        return answer["value"]

    def request(self, do: str, **arguments):
        self.send(do, **{**self.arguments, **arguments})
        return self.receive()

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self.began

    def peak_memory(self) -> float:
        """In GB."""
        self.send("peak_memory", of="common")
        return self.receive()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def at_work(bench: Bench, name: str, **environment: str) -> Iterator[Worker]:
    with tempfile.TemporaryFile("w+") as noise:
        worker = Worker(bench, name, noise, environment)
        try:
            yield worker
        finally:
            worker.close()


def surroundings(checkout: Path | None = None, **more: str) -> dict[str, str]:
    """The environment of a contender: on the CPU, unless it says otherwise; this vaekit, or that of a checkout."""
    theirs = [] if checkout is None else [str(checkout.resolve() / part) for part in ("src", "benchmarks")]
    path = os.pathsep.join(filter(None, [*theirs, str(HERE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", **more}


@contextmanager
def team(bench: Bench, names: Iterable[str]) -> Iterator[dict[str, Worker]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(at_work(bench, name)) for name in names}


@contextmanager
def pair(bench: Bench, name: str) -> Iterator[Callable[..., float]]:
    """Two processes of one run with half the threads each, started together; the longer time counts."""
    threads = str(max(1, torch.get_num_threads() // 2))
    group = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": threads,
    }
    with ExitStack() as stack:
        workers = [stack.enter_context(at_work(bench, name, RANK=rank, LOCAL_RANK=rank, **group)) for rank in "01"]

        def request(do: str, **arguments) -> float:
            for worker in workers:
                worker.send(do, **worker.arguments, **arguments)
            return max([worker.receive() for worker in workers])

        yield request


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def rates(bench: Bench, calls: Mapping[str, Callable[[int], float]], probe: int, most: int) -> Rounds:
    """Units per second. A call does so many units, says how many seconds they took, and is called for a second's worth.

    probe: units of a first trial; most: units at once.
    """
    sizes = {}
    for name, call in calls.items():
        call(probe)  # prepares
        sizes[name] = min(most, max(1, round(bench.slice_seconds * probe / call(probe))))
    return in_turns(bench, {name: lambda n=name: sizes[n] / calls[n](sizes[n]) for name in calls})


def training_rates(
    bench: Bench, requests: Mapping[str, Callable[..., float]], net: str, batch: int, epochs: int = 1
) -> Rounds:
    """Samples per second in training; a slice is so many epochs at most, and some contenders can do only one."""
    calls = {
        name: lambda steps, a=request: a("train", net=net, batch=batch, steps=steps)
        for name, request in requests.items()
    }
    return rates(bench, calls, probe=max(8, 2048 // batch), most=epochs * ROWS // batch).times(batch)


def in_turns(bench: Bench, calls: Mapping[str, Callable[[], float]]) -> Rounds:
    """A round to warm up, then those that count."""
    found = {name: [] for name in calls}
    for number in range(1 if bench.quick else 0, bench.rounds + 1):
        for name, call in calls.items():
            value = call()
            if number:
                found[name] += [value]
    return Rounds(found)


def comparison(found: Rounds, unit: str, against: dict[str, str]) -> str:
    """A table: each contender's median, and its ratio to others in the same round.

    against: what the column is called, and the contender whose number divides.
    """
    rows = [
        [name, f"{found.median(name):,.3g}" if found.median(name) < 100 else f"{found.median(name):,.0f}"]
        + ["" if name == other else f"{found.ratio(name, other):.2f}" for other in against.values()]
        for name in found.values
    ]
    return table(["", unit, *against], rows)
