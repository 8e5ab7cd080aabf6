"""What `vaekit evaluate` prints: facts, tables of estimates, and the warnings below them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaekit.evaluation import Estimate
from vaekit.evaluation.units import units_in_words

LISTED = 64  # KL of dimensions, the largest
NAMED = 3  # estimates that one warning names


def print_facts(console: Console, facts: Mapping[str, Any], with_samples: bool = True) -> None:
    samples = f", K = {facts['samples']}" if with_samples else ""
    run, data = escape(str(facts["run"])), escape(str(facts["data"]))
    console.print(f"[bold]{run}[/]: {data}, {facts['rows']} rows{samples}", soft_wrap=True)
    for text in (f"{facts['protocol']}; {facts['weights']['weights']} weights", *facts["provenance"]):
        console.print(f"  {text}", style="dim", soft_wrap=True, markup=False)
    if "log_scale" in facts:
        console.print(f"  {units_in_words(facts['log_scale'])}", style="dim", soft_wrap=True)


def print_numbers(console: Console, estimates: Mapping[str, Estimate], counts: bool = False) -> None:
    """An estimate a line; below its name where a line is too narrow for both. counts: with the n of each."""
    table = _table("", "value", "± s.e.")
    table.add_column("unit")
    if counts:
        table.add_column("n", justify="right")
    for name, estimate in estimates.items():
        number = [str(estimate.n)] if counts else []
        table.add_row(label_of(name), *estimate.numbers(), escape(estimate.unit), *number)
    if _width(console, table) <= console.width:
        return console.print(table)
    for name, estimate in estimates.items():
        n = f", n = {estimate.n}" if counts else ""
        value, error = estimate.numbers()
        number = f"{value} ± {error}" if error else value
        unit = "" if estimate.value is None else f" {escape(estimate.unit)}"
        console.print(f"{label_of(name).strip()}\n    {number}{unit}{n}", soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """A table at its full width: what a terminal is too narrow for goes on in its next line, and nothing is cut."""
    wide = max(console.width, _width(console, table))
    console.print(table, width=wide, crop=False, no_wrap=True)


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def cross_tables(estimates: Mapping[str, Estimate], width: int) -> list[Table]:
    """Of estimates named COLUMN.LINE: a line for each LINE, and a column for each COLUMN that has a value; as many
    tables as it takes for each to be at most so wide."""
    lines = list(dict.fromkeys(name.split(".")[1] for name in estimates))
    columns = dict.fromkeys(name.split(".")[0] for name, found in estimates.items() if found.value is not None)
    first = ["", *map(label_of, lines)]
    left, shown = max(map(len, first)), []
    for column in columns:
        numbers = [estimates[f"{column}.{line}"].numbers() for line in lines]
        cells = [label_of(column), *(f"{value} ± {error}" if error else value for value, error in numbers)]
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


def print_kl(console: Console, kl: Sequence[Estimate]) -> None:
    """The KL of each dimension, the largest first, in one line."""
    largest = sorted((e.value or 0.0 for e in kl), reverse=True)
    listed = " ".join(f"{value:.2f}" for value in largest[:LISTED])
    more = f" and {len(largest) - LISTED} more" if len(largest) > LISTED else ""
    console.print(f"KL of each latent dimension, nats: {listed}{more}", soft_wrap=True)


def print_warnings(console: Console, estimates: Mapping[str, Estimate]) -> None:
    """Each warning once, after what it is about."""
    about: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate.warning:
            about.setdefault(estimate.warning, []).append(name)
    for warning, names in about.items():
        console.print(f"[yellow]{_listed(names, estimates)}:[/] {escape(warning)}", soft_wrap=True)


def label_of(name: str) -> str:
    """The words for the name that an estimate has in JSON."""
    base, number = name, ""
    if (match := re.fullmatch(r"(.+)_(\d+)", name)) is not None:
        base, number = match.groups()
    return LABELS.get(base, base.replace("_", " ")).format(number)


def _listed(names: Sequence[str], estimates: Mapping[str, Estimate]) -> str:
    """Labels of some names; those of a whole column of a cross table by the column alone."""
    words: dict[str, None] = {}
    for name in names:
        column, _, line = name.partition(".")
        whole = all(other in names for other in estimates if other.startswith(f"{column}."))
        words[label_of(column) if whole else f"{label_of(line)}, {label_of(column)}"] = None
    found = list(words)
    if len(found) > NAMED:
        found = [*found[: NAMED - 1], f"and {len(found) - NAMED + 1} more"]
    return "; ".join(found)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


LABELS = {
    "elbo": "ELBO",
    "log_likelihood": "log-likelihood (importance-weighted)",
    "bits_per_dim": "bits per dimension",
    "rate": "rate, KL(q(z|x) || p(z))",
    "distortion": "distortion, -E ln p(x|z)",
    "effective_samples": "effective samples",
    "active_units": "active units, by KL",
    "active_units_by_variance": "active units, by variance",
    "baseline": "baseline: independent dimensions, no z",
    "bound": "importance-weighted bound, K = {}",
    "effective_samples_of": "effective samples, K = {}",
    "bound_on_annealed_rows": "bound, K = {}, same rows as AIS",
    "annealed_lower": "AIS: lower bound",
    "annealed_acceptance": "AIS: acceptance",
    "annealed_effective_chains": "AIS: effective chains",
    "bidirectional_lower": "BDMC: lower bound",
    "bidirectional_upper": "BDMC: upper bound",
    "bidirectional_gap": "BDMC: gap",
    "bidirectional_acceptance": "BDMC: acceptance",
    "bidirectional_effective_chains": "BDMC: effective chains",
    "kl_group": "KL of group {}",
    "kl_dimension": "KL of each dimension",
    "sampled_rate": "rate, sampled at one z of each row",
    "mutual_information": "mutual information I(x; z)",
    "marginal_kl": "KL(q(z) || p(z))",
    "total_correlation": "total correlation of q(z)",
    "dimension_wise_kl": "KL of each q(z_j), summed",
    "training_rows": "training rows",
    "frechet_distance": "Frechet distance",
    "kid": "KID",
    "mig": "MIG",
    "sap": "SAP",
    "disentanglement": "DCI disentanglement",
    "completeness": "DCI completeness",
    "informativeness": "DCI informativeness",
    "factor_vae": "FactorVAE score",
    "linear_codes": "linear probe on codes",
    "linear_pca": "linear probe on principal components",
    "linear_raw": "linear probe on raw values",
    "neighbours_codes": "nearest neighbours on codes",
    "neighbours_pca": "nearest neighbours on components",
    "neighbours_raw": "nearest neighbours on raw values",
    "linear_codes_time": "  time, from x to label",
    "linear_pca_time": "  time, from x to label",
    "linear_raw_time": "  time, from x to label",
    "neighbours_codes_time": "  time, from x to label",
    "neighbours_pca_time": "  time, from x to label",
    "neighbours_raw_time": "  time, from x to label",
}
