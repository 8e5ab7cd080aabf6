"""A job that a trained model does: the methods that are compared at it, and what came out of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from facts import mean_and_error, table
from sections import Section


@dataclass(frozen=True)
class Method:
    """One contender.

    call: `module:function` of a function (case, seed) -> numbers by name. It is run in a process of its own, whose
        seconds and memory are measured, by this Python or by that of a peer.
    peer: name of a requirements file in uses/peers/, whose Python runs the function; none is vaekit's own.
    seeds: how many of the seeds it is given at most, by case, or in each; none for all.
    cases: the cases that it is given; None for all.
    """

    call: str
    peer: str = ""
    seeds: int | Mapping[str, int] | None = None
    cases: Sequence[str] | None = None

    def seeds_of(self, case: str, seeds: Sequence[int]) -> Sequence[int]:
        """The first of the seeds, as many as it is given in a case."""
        most = self.seeds.get(case) if isinstance(self.seeds, Mapping) else self.seeds
        return seeds[:most] if self.cases is None or case in self.cases else ()


@dataclass(frozen=True)
class Cell:
    """What one method measured on one case with one seed, and where and when."""

    job: str
    case: str
    method: str
    seed: int
    numbers: Mapping[str, float]
    cpu_seconds: float
    seconds: float
    peak_gb: float
    date: str
    machine: str
    threads: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.case, self.method, self.seed


@dataclass(frozen=True)
class Measured:
    """All cells of a job."""

    cells: Sequence[Cell] = field(default_factory=list)

    def of(self, method: str, case: str | None = None) -> list[Cell]:
        return [cell for cell in self.cells if cell.method == method and case in (None, cell.case)]

    def values(self, method: str, name: str, case: str | None = None) -> list[float]:
        """One number per seed: that of the case, or the mean over the cases."""
        cells = self.of(method, case)
        seeds = sorted({cell.seed for cell in cells})
        by_seed = [[number(cell, name) for cell in cells if cell.seed == seed] for seed in seeds]
        return [sum(values) / len(values) for values in by_seed]

    def mean(self, method: str, name: str, case: str | None = None) -> float:
        """nan where nothing was measured."""
        return mean_and_error(self.values(method, name, case) or [float("nan")])[0]

    def shown(self, method: str, name: str, case: str | None = None, digits: int = 3) -> str:
        """`mean ± standard error over seeds`."""
        values = self.values(method, name, case)
        if not values:
            return ""
        mean, error = mean_and_error(values)
        return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if len(values) > 1 else "")

    def table(self, methods: Iterable[str], names: Mapping[str, int], case: str | None = None) -> str:
        """One line per method. names: numbers, and their decimals; `cpu_seconds` and `peak_gb` are numbers, too."""
        lines = [
            [method, *(self.shown(method, name, case, digits) for name, digits in names.items())] for method in methods
        ]
        return table(["", *(name.replace("_", " ") for name in names)], lines)


def number(cell: Cell, name: str) -> float:
    """A measured number, or one of the process."""
    return cell.numbers[name] if name in cell.numbers else float(getattr(cell, name))


@dataclass(frozen=True)
class Job:
    """section: the part of the page, from what was measured."""

    name: str
    cases: Sequence[str]
    methods: Mapping[str, Method]
    section: Callable[[Measured], Section]
