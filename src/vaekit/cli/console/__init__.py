"""What commands share. This file prints: JSON, tables of estimates, notices of what was written, progress bars."""

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaekit.terminal import shows_bars
from vaekit.words import counted

if TYPE_CHECKING:
    from vaekit.data import Schema
    from vaekit.evaluation import Estimate

LISTED = 64  # KL of dimensions, the largest
NAMED = 3  # estimates that one warning names


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    print(json.dumps(_finite(value), indent=2))


def print_next_steps(console: Console, run: Path, schema: "Schema") -> None:
    """The commands that are useful after training on such data, each with what it gives."""
    quoted = shlex.quote(str(run))
    samples = "-n 1000 --out samples.csv" if schema.kind == "table" else "-n 64 --out samples.png"
    console.print(f"\nThe run is in [bold]{escape(str(run))}[/]. Next:")
    steps = {
        f"vaekit evaluate {quoted}": "the log-likelihood of held-out rows, with errors",
        f"vaekit report {quoted}": "curves, pictures and numbers in one page",
        f"vaekit sample {quoted} {samples}": "new rows from the prior",
        f"vaekit encode {quoted} --out codes.npz": "codes of the test rows",
    }
    width = max(map(len, steps))
    for command, what in steps.items():
        console.print(f"  {escape(command.ljust(width))}  [dim]{what}[/]", soft_wrap=True)


def print_written(as_json: bool, out: Path, n: int, what: str) -> None:
    """One line, or one JSON object, that names the file that was written."""
    if as_json:
        return print_json({"out": str(out), "rows": n, "what": what})
    Console(highlight=False).print(
        f"Wrote [bold]{escape(str(out))}[/]: {counted(n, 'row')}, {escape(what)}", soft_wrap=True
    )


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr, where that is a terminal.

    Args:
        what: The words beside the bar.
        total: How many steps there are; None where that is unknown, and the bar only moves.

    Yields:
        A function to call with the number of steps done since the last call.
    """
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not shows_bars()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def print_listing(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts, at least 80 columns wide: a narrower terminal wraps its lines."""
    table = _table(*titles, numbers=False)
    for row in rows:
        table.add_row(*row)
    width = max(Console(highlight=False).width, 80)
    Console(highlight=False, width=width).print(table)


def print_facts(console: Console, facts: Mapping[str, Any], with_samples: bool = True) -> None:
    """The lines above a table: which run, on which rows, with which weights."""
    samples = f", K = {facts['samples']}" if with_samples else ""
    run, data = escape(str(facts["run"])), escape(str(facts["data"]))
    console.print(f"[bold]{run}[/]: {data}, {counted(facts['rows'], 'row')}{samples}", soft_wrap=True)
    for text in (f"{facts['protocol']}; {facts['weights']['weights']} weights", *facts["provenance"]):
        console.print(f"  {text}", style="dim", soft_wrap=True, markup=False)
    if "log_scale" in facts:
        from vaekit.evaluation.results import units_in_words

        console.print(f"  {units_in_words(facts['log_scale'])}", style="dim", soft_wrap=True)


def print_estimates(console: Console, estimates: "Mapping[str, Estimate]", counts: bool = False) -> None:
    """A table with a line for each estimate; below its name where the terminal is too narrow for both.

    Args:
        console: Where it is printed.
        estimates: By name.
        counts: Whether to show the n of each.
    """
    from vaekit.evaluation.results import title_of

    table = _table("", "value", "± s.e.")
    table.add_column("unit")
    if counts:
        table.add_column("n", justify="right")
    for name, estimate in estimates.items():
        number = [str(estimate.n)] if counts else []
        table.add_row(title_of(name), *estimate.numbers(), escape(estimate.unit), *number)
    if _width(console, table) <= console.width:
        return console.print(table)
    for name, estimate in estimates.items():
        n = f", n = {estimate.n}" if counts else ""
        value, error = estimate.numbers()
        number = f"{value} ± {error}" if error else value
        unit = "" if estimate.value is None else f" {escape(estimate.unit)}"
        console.print(f"{title_of(name).strip()}\n    {number}{unit}{n}", soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """A table at its full width: what a terminal is too narrow for goes on in its next line, and nothing is cut."""
    wide = max(console.width, _width(console, table))
    wider = Console(highlight=False, width=wide, file=console.file, quiet=console.quiet)  # rich cuts what is wider
    wider.print(table, crop=False, no_wrap=True)


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def cross_tables(estimates: "Mapping[str, Estimate]", width: int) -> list[Table]:
    """Tables of estimates named COLUMN.LINE, as many as it takes for each to be at most so wide.

    A table has a line for each LINE and a column for each COLUMN that has a value.
    """
    from vaekit.evaluation.results import title_of

    lines = list(dict.fromkeys(name.split(".")[1] for name in estimates))
    columns = dict.fromkeys(name.split(".")[0] for name, found in estimates.items() if found.value is not None)
    first = ["", *map(title_of, lines)]
    left, shown = max(map(len, first)), []
    for column in columns:
        numbers = [estimates[f"{column}.{line}"].numbers() for line in lines]
        cells = [title_of(column), *(f"{value} ± {error}" if error else value for value, error in numbers)]
        across = max(map(len, cells)) + 2
        if not shown or shown[-1][0] + across > width:
            shown += [(left, [])]
        shown[-1] = (shown[-1][0] + across, [*shown[-1][1], cells])
    return [_of_columns(first, *table) for _, table in shown]


def _of_columns(first: Sequence[str], *others: Sequence[str]) -> Table:
    table = _table(first[0], *(cells[0] for cells in others))
    for row in list(zip(first, *others, strict=True))[1:]:
        table.add_row(*row)
    return table


def print_kl(console: Console, kl: "Sequence[Estimate]") -> None:
    """The KL of each dimension, the largest first, in one line."""
    from vaekit.evaluation.results import label_of, unit_of

    largest = sorted((e.value or 0.0 for e in kl), reverse=True)
    listed = " ".join(f"{value:.2f}" for value in largest[:LISTED])
    more = f" and {len(largest) - LISTED} more" if len(largest) > LISTED else ""
    console.print(f"{label_of('kl_dimension')}, {unit_of('kl_dimension')}: {listed}{more}", soft_wrap=True)


def print_warnings(console: Console, estimates: "Mapping[str, Estimate]") -> None:
    """Each warning once, after what it is about."""
    about: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate.warning:
            about.setdefault(estimate.warning, []).append(name)
    for warning, names in about.items():
        console.print(f"[yellow]{_listed(names, estimates)}:[/] {escape(warning)}", soft_wrap=True)


def _listed(names: Sequence[str], estimates: "Mapping[str, Estimate]") -> str:
    """Labels of some names; those of a whole column of a cross table by the column alone."""
    from vaekit.evaluation.results import title_of

    words: dict[str, None] = {}
    for name in names:
        column, _, line = name.partition(".")
        whole = all(other in names for other in estimates if other.startswith(f"{column}."))
        words[title_of(column) if whole else f"{title_of(line)}, {title_of(column)}"] = None
    found = list(words)
    if len(found) > NAMED:
        found = [*found[: NAMED - 1], f"and {len(found) - NAMED + 1} more"]
    return "; ".join(found)


def _table(first: str, *columns: str, numbers: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=not numbers)
    for column in columns:
        table.add_column(column, justify="right" if numbers else "left")
    return table


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
