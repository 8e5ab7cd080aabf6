"""What every benchmark says beside its numbers: when, where and how they were measured, and their standard errors."""

import math
import os
import platform
import shlex
import statistics
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import NoReturn

import torch


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def provenance(seeds: Iterable[int], **more: str) -> str:
    """A Markdown list: date, machine, versions, command and seeds of a measurement."""
    command = shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    facts = {
        "Date": date.today().isoformat(),
        "Machine": f"{processor()}, {cores()} cores, {torch.get_num_threads()} threads, no GPU used",
        "Versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "Command": f"`{command}`",
        "Seeds": ", ".join(map(str, seeds)),
        **more,
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and its standard error from the spread of the values; none (nan) from a single one."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def paragraph(text: str) -> str:
    """The text in lines of at most 120 characters; its own line breaks count as spaces."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def finish(page: str, passed: bool, write: Path | None) -> NoReturn:
    """Print a page of results, write it where a file is given, and exit with 1 where something did not hold."""
    print(page)
    if write:
        write.write_text(page)
    raise SystemExit(0 if passed else 1)


def put_into(page: Path, name: str, text: str) -> None:
    """Replace what stands in a page between the marks of a benchmark, and leave the rest."""
    begin, end = f"<!-- what {name} measured -->", "<!-- end -->"
    head, _, rest = page.read_text().partition(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
