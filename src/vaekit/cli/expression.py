"""`vaekit expression` and `vaekit differential`: expression of genes in cells, and how it differs between groups."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaekit.cli.console import print_json, print_table, print_written, progress
from vaekit.cli.console.options import (
    Force,
    Json,
    Out,
    RunPath,
    Weights,
    WholeNumber,
    check_at_least,
    check_one_process,
)
from vaekit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from vaekit.cli.console.writing import Columns
    from vaekit.data import Rows, StreamedRows
    from vaekit.runs import TrainedRun
    from vaekit.uses import DifferentialExpression, Expression

TABLES = (".csv", ".parquet", ".feather")
LISTED = 10  # genes that are printed
Cells = Annotated[str | None, Parameter(help="Cells, by path; by default all of the run's own data.")]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]


def expression(
    run: RunPath,
    data: Cells = None,
    /,
    *,
    out: Out,
    genes: Names = (),
    samples: Annotated[WholeNumber, Parameter(name=["--samples", "-k"])] = 25,
    level: float = 0.9,
    size: float | Literal["observed"] = 10_000.0,
    given: Names = (),
    seed: WholeNumber = 0,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the expression of genes in cells: each gene's share of the rates of p(x|z), times a library size.

    For example:

        vaekit expression runs/cells-1 --out expression.h5ad
        vaekit expression runs/cells-1 new.h5ad --genes mec-17 flp-8 --out expression.csv
        vaekit expression runs/cells-1 --given batch=b2 --size observed --out expression.parquet

    Args:
        out: File to write: .h5ad (X, the mean over q(z|x), and layers lower and upper), .npz (mean, lower, upper,
            name, label), or .csv, .parquet, .feather (row, name, label, a column for each gene, and with --genes its
            lower and upper end besides). Cells have the names that they have in the data.
        genes: Those that are wanted; by default all.
        samples: Draws of z for each cell.
        level: Of the central intervals from lower to upper.
        size: Library size, in counts, that all cells get; observed leaves each its own.
        given: Columns of the context, as column=value, that the decoder is given in place of those of each cell.
        seed: Of the noise.
    """
    from vaekit.cli.console.context import context_given, values_given
    from vaekit.cli.console.h5ad import H5AD, write_h5ad
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import check_apart, check_out, write_rows
    from vaekit.runs import open_rows
    from vaekit.uses import expression_blocks
    from vaekit.uses.expression import genes_of

    check_one_process("expression")
    check_at_least(1, samples=samples)
    check_at_least(0, seed=seed)
    _check_share(level=level)
    if size != "observed" and not 0 < size < float("inf"):
        raise ConfigError(f"--size is {size}: give a library size above 0, or observed", field="size", value=size)
    ending = out.suffix.lower()
    check_out(out, (H5AD, ".npz", *TABLES), force)
    trained, device = open_on_device(run, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    context_given(trained, given, None)
    rows = open_rows(trained, data or trained.settings.data.source).to(device)
    with progress("expression", len(rows)) as advance:
        blocks = expression_blocks(
            trained,
            rows,
            genes=genes,
            samples=samples,
            level=level,
            size=None if size == "observed" else size,
            given=values_given(given),
            seed=seed,
            progress=advance,
        )
        found, names = _of_cells(trained, rows, blocks), genes or genes_of(trained.schema)
        if ending == H5AD:
            write_h5ad(out, found, len(rows), names, "mean")
        elif ending == ".npz":
            write_rows(out, ({name: block[name] for name in block if name != "row"} for block in found), len(rows))
        else:
            write_rows(out, (_by_gene(block, names, bool(genes)) for block in found), len(rows))
    of = "at the library size of each" if size == "observed" else f"in counts of a cell of {size:g}"
    print_written(json, out, len(rows), f"expression {of}, {level:.0%} intervals of {samples} draws, seed {seed}")


def differential(
    run: RunPath,
    data: Cells = None,
    /,
    *,
    out: Out,
    group1: Names,
    group2: Names = (),
    groupby: str | None = None,
    pairs: WholeNumber = 2000,
    delta: float = 0.25,
    level: float = 0.9,
    seed: WholeNumber = 0,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write how the expression of each gene differs between two groups of cells, by draws for pairs of cells.

    For example:

        vaekit differential runs/cells-1 --group1 "Touch receptor neurons" --out touch.csv
        vaekit differential runs/cells-1 --groupby cell_type --group1 A --group2 B --out genes.csv

    Args:
        out: File to write, .csv, .parquet or .feather. Of each gene: change, the mean of the log2 fold change from
            group 2 to group 1, with lower and upper; probability, that its size is above delta; false_discovery_rate,
            the expected share of genes that do not differ, of this one and all more probable ones; mean_1 and mean_2,
            the mean expression in counts of a cell of 10,000.
        group1: Labels of the cells of the first group.
        group2: Those of the second; by default all others.
        groupby: What the labels are, a column of obs; by default the run's own labels.
        pairs: Draws, each of a cell of either group, of one batch where the run has batches as context.
        delta: Log2 fold change from which on a gene counts as different.
        level: Of the central intervals from lower to upper.
        seed: Of the cells and of the noise.
    """
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import check_apart, check_out, write_rows
    from vaekit.runs import open_rows
    from vaekit.uses import differential_expression

    check_one_process("differential")
    check_at_least(1, pairs=pairs)
    check_at_least(0, seed=seed)
    _check_share(level=level)
    if not 0 <= delta < float("inf"):
        raise ConfigError(f"--delta is {delta}: it should be at least 0", field="delta", value=delta)
    check_out(out, TABLES, force)
    trained, device = open_on_device(run, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    trained = trained if groupby is None else trained.with_label(groupby)
    rows = open_rows(trained, data or trained.settings.data.source).to(device)
    first, second = _groups(trained, rows, group1, group2)
    with progress("drawing pairs of cells, twice", 2 * pairs) as advance:
        found = differential_expression(
            trained, first, second, pairs=pairs, delta=delta, level=level, seed=seed, progress=advance
        )
    columns = {
        "gene": _texts(found.genes),
        "change": found.change,
        "lower": found.lower,
        "upper": found.upper,
        "probability": found.probability,
        "false_discovery_rate": found.false_discovery_rate,
        "mean_1": found.first,
        "mean_2": found.second,
    }
    write_rows(out, [columns], len(found.genes))
    what = (
        f"genes; {len(first)} cells of {' or '.join(group1)} against {len(second)} of "
        f"{' or '.join(group2) or 'all others'}, {pairs} pairs, delta {delta:g}, seed {seed}"
    )
    if json:
        return print_json(
            {
                "out": str(out),
                "rows": len(found.genes),
                "what": what,
                "pseudocount": found.pseudocount,
                "genes": [
                    {name: value[row].item() for name, value in columns.items()} for row in _most_probable(found)
                ],
            }
        )
    console = Console(highlight=False)
    console.print(f"Wrote [bold]{escape(str(out))}[/]: {len(found.genes)} {escape(what)}", soft_wrap=True)
    _print_genes(console, found)


def _check_share(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise ConfigError(f"--{name} is {value}: it should lie between 0 and 1", field=name, value=value)


def _of_cells(
    trained: "TrainedRun", rows: "Rows | StreamedRows", blocks: "Iterator[Expression]"
) -> "Iterator[Columns]":
    """Blocks of cells, `mean`, `lower` and `upper` (cells, genes), and what is known of each cell."""
    from vaekit.cli.console.writing import about_rows

    start = 0
    for part in blocks:
        index = slice(start, start + len(part.mean))
        of_genes = {"mean": part.mean, "lower": part.lower, "upper": part.upper}
        yield about_rows(rows, index, trained.schema.classes) | of_genes
        start = index.stop


def _by_gene(block: "Columns", genes: "Sequence[str]", intervals: bool) -> "dict[str, np.ndarray]":
    """The columns of a table."""
    columns = {name: values for name, values in block.items() if values.ndim == 1}
    for place, gene in enumerate(genes):
        columns[gene] = block["mean"][:, place]
        if intervals:
            columns |= {f"{gene} {end}": block[end][:, place] for end in ("lower", "upper")}
    return columns


def _groups(
    trained: "TrainedRun", rows: "Rows | StreamedRows", group1: tuple[str, ...], group2: tuple[str, ...]
) -> "tuple[Rows, Rows]":
    """The cells of both groups, by their labels."""
    import torch

    from vaekit.data.columns import listing, nearest

    classes = trained.schema.classes
    if rows.labels is None or classes is None:
        raise ConfigError("these cells have no labels: name a column of obs with --groupby", field="groupby")
    for option, names in (("group1", group1), ("group2", group2)):
        if unknown := [name for name in names if name not in classes]:
            raise ConfigError(
                f"--{option} is {unknown[0]}{nearest(unknown[0], classes)}: labels are {listing(classes)}",
                field=option,
                value=unknown[0],
            )
    if both := sorted({*group1} & {*group2}):
        raise ConfigError(f"{both[0]} is in both groups: leave it out of one", field="group2", value=both[0])
    in_first = torch.isin(rows.labels, torch.tensor([classes.index(name) for name in group1], device=rows.device))
    numbers = torch.tensor([classes.index(name) for name in group2], device=rows.device)
    in_second = torch.isin(rows.labels, numbers) if group2 else ~in_first
    for option, chosen in (("group1", in_first), ("group2", in_second)):
        if not chosen.any():
            raise ConfigError(f"no cell is of --{option}: name labels that occur", field=option)
    first, second = (rows.at(chosen.nonzero().flatten()) for chosen in (in_first, in_second))
    return first, second


def _texts(names: tuple[str, ...]) -> "np.ndarray":
    import numpy as np

    return np.array(names, dtype=str)


def _most_probable(found: "DifferentialExpression") -> list[int]:
    """The genes that most probably differ, and of these those that change most first."""
    import numpy as np

    return np.lexsort((-np.abs(found.change), -found.probability))[:LISTED].tolist()


def _print_genes(console: Console, found: "DifferentialExpression") -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("gene", no_wrap=True)
    for title in ("log2 fold change", "interval", "probability", "mean 1", "mean 2"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in _most_probable(found):
        table.add_row(
            escape(found.genes[row]),
            f"{found.change[row]:.2f}",
            f"{found.lower[row]:.2f} to {found.upper[row]:.2f}",
            f"{found.probability[row]:.3f}",
            f"{found.first[row]:.3g}",
            f"{found.second[row]:.3g}",
        )
    print_table(console, table)
