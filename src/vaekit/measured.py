"""What was measured on this machine, kept in the user's cache folder.

So it is measured once and not in each process anew: results must not change with how long something takes.
"""

import json
import platform
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from vaekit.files import parse_json, read_regular, write_whole

MOST_BYTES = 1 << 24  # of a cache; one with more is begun anew
CALM = 1.3
ROUNDS, MOST_ROUNDS, MEASURED_FOR = 4, 40, 0.015  # seconds


class Measured:
    """Facts by name, each a JSON value, of this machine with this version of torch.

    Only a cache: it may be deleted, and where it cannot be written, facts last as long as the process.
    """

    def __init__(self, name: str):
        self.name = name
        self.facts: dict[str, object] = {}
        self.read = False

    def get(self, fact: str) -> object | None:
        """None where it is not known."""
        if not self.read:
            self.facts = {**_load(self._path()), **self.facts}
            self.read = True
        return self.facts.get(fact)

    def put(self, fact: str, value: object) -> None:
        """Note a fact, for other processes too unless this machine is too busy for what it measures to be trusted."""
        self.facts[fact] = value
        if not is_calm():
            return
        path = self._path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock", timeout=1):
                write_whole(path, json.dumps({**_load(path), fact: value}, indent=1, sort_keys=True).encode())
        except (OSError, Timeout):
            return

    def _path(self) -> Path:
        return user_cache_path("vaekit") / self.name / f"{_machine()}.json"


def _load(path: Path) -> dict[str, object]:
    try:
        found = parse_json(read_regular(path, MOST_BYTES, follow=True))
    except (OSError, ValueError):  # none yet, or damaged
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _machine() -> str:
    """Processor and versions, as a file's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about = [line.partition(":")[2].strip() for line in lines if line.startswith(("model", "cpu family"))]
    except OSError:
        about = [platform.processor()]
    text = " ".join([platform.machine(), *about[:3], "torch", torch.__version__])
    return "".join(c if c.isalnum() else "-" for c in text)


@torch.no_grad()
def shortest_calls(functions: Iterable[Callable[..., object]], *given: object) -> list[float]:
    """Seconds of the shortest call of each function, of many in turn."""
    functions = list(functions)
    best, until = [float("inf")] * len(functions), time.perf_counter() + MEASURED_FOR
    rounds = 0
    while rounds < ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() < until):
        for number, function in enumerate(functions):
            began = time.perf_counter()
            function(*given)
            best[number] = min(best[number], time.perf_counter() - began)
        rounds += 1
    return best


def threads_help() -> float:
    """How many times faster a product is on all of torch's threads than on one."""
    threads = torch.get_num_threads()
    x, weight = torch.ones(256, 512), torch.ones(512, 512)
    try:
        torch.set_num_threads(1)
        (alone,) = shortest_calls([F.linear], x, weight, None)
    finally:
        torch.set_num_threads(threads)
    (together,) = shortest_calls([F.linear], x, weight, None)
    return alone / together


@cache
def is_calm() -> bool:
    """Whether what this process measures can be trusted: threads gain where cores are free."""
    return torch.get_num_threads() == 1 or threads_help() > CALM
