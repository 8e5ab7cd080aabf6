"""What commands print: JSON, next steps, what was written, progress. What they write in files is in `writing`."""

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    print(json.dumps(_finite(value), indent=2))


def next_steps(console: Console, run: Path) -> None:
    """Name the commands that are useful after training."""
    quoted = shlex.quote(str(run))
    console.print(f"\nThe run is in [bold]{escape(str(run))}[/]. Next:")
    steps = {
        f"vaekit evaluate {quoted}": "the log-likelihood of held-out rows, with errors",
        f"vaekit report {quoted}": "curves, pictures and numbers in one page",
        f"vaekit sample {quoted} -n 64 --out samples.png": "new rows from the prior",
        f"vaekit encode {quoted} --out codes.npz": "codes of the test rows",
    }
    width = max(map(len, steps))
    for command, what in steps.items():
        console.print(f"  {escape(command.ljust(width))}  [dim]{what}[/]", soft_wrap=True)


def say_done(as_json: bool, out: Path, n: int, what: str) -> None:
    """One line, or one JSON object, that names the file that was written."""
    if as_json:
        return print_json({"out": str(out), "rows": n, "what": what})
    Console(highlight=False).print(f"Wrote [bold]{escape(str(out))}[/]: {n} rows, {escape(what)}", soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, where that is a terminal; yields what to call with the number done.

    total: how many there are; None where nobody knows, and the bar only moves.
    """
    with Progress(console=Console(stderr=True), transient=True, disable=not shows_bars()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def shows_bars() -> bool:
    """Whether stderr is a screen that a bar can be drawn on again and again.

    Not by the word of the environment: notebooks ask for colour (FORCE_COLOR) where every frame would be a line.
    """
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_console() -> Console:
    """Stdout, at least wide enough for a table of numbers: a narrow screen wraps lines rather than cutting figures."""
    console = Console(highlight=False)
    return Console(highlight=False, width=max(console.width, 80))
