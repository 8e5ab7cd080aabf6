"""`vaekit score`: how probable rows are, which are odd, and by which cells."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaekit.cli.console import print_json, print_table, progress
from vaekit.cli.console.options import (
    Data,
    Force,
    Json,
    Out,
    RunPath,
    Weights,
    WholeNumber,
    check_at_least,
    check_one_process,
)
from vaekit.cli.console.pipes import piped
from vaekit.errors import ConfigError
from vaekit.words import counted

if TYPE_CHECKING:
    import numpy as np

    from vaekit.uses import Scores

ENDINGS = (".csv", ".npz", ".parquet", ".feather")
LISTED = 10  # odd rows that are printed


def score(
    run: RunPath,
    data: Data = None,
    /,
    *,
    out: Out,
    samples: Annotated[WholeNumber, Parameter(name=["--samples", "-k"])] = 100,
    level: float | None = None,
    contamination: float | None = None,
    given: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    statistic: Literal["auto", "bound", "composite"] = "auto",
    seed: WholeNumber = 0,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Score rows by how probable they are, rank them among the run's rows, and name the cells that are odd.

    For example:

        vaekit score runs/table-1 new.csv --out scores.csv --level 0.01
        vaekit score runs/table-1 --out scores.csv --contamination 0.05
        vaekit score runs/table-1 new.csv --out scores.csv --given age sex

    Args:
        out: File to write, .csv, .npz, .parquet or .feather; - is a table on stdout. Of each row: its number, counted
            from 0; name, of cells that have some; score, the importance-weighted bound on ln p(x) in nats; error, of K
            samples; oddness, by the statistic, in nats; p_value, its rank among the rows of the run; flagged, 0 or 1,
            where there is a threshold; and three times cell, the oddest, with below, by how much E[ln p(x_j|z)] is
            below its mean over the validation rows, and given_rest, ln p(x_j|x_-j), of flagged rows.
        samples: K, samples of z for each row.
        level: Flag rows whose p-value is at most this, as that of this share of ordinary rows is.
        contamination: Flag this share of the rows, the oddest.
        given: Columns B that the score is conditional on: it is then ln p(x_A|x_B) of all others, A.
        statistic: What rows are ranked by. The bound is the score itself, ranked among the validation rows. The
            composite adds what densities of single columns say, which odd training rows mislead less, and ranks among
            training and validation rows, those that seem to be odd left out; auto takes it for tables of at most 256
            columns, without a context and without --given.
        seed: Of the noise.
    """
    with piped(data, out, json) as (data, out):
        _score(run, data, out, samples, level, contamination, given, statistic, seed, weights, json, force)


def _score(
    folder: Path,
    data: str | None,
    out: Path,
    samples: int,
    level: float | None,
    contamination: float | None,
    given: tuple[str, ...],
    statistic: Literal["auto", "bound", "composite"],
    seed: int,
    weights: str | None,
    as_json: bool,
    force: bool,
) -> None:
    from vaekit.cli.console.request import check_samples, open_on_device
    from vaekit.cli.console.writing import check_apart, check_out, numbers_and_names, write_rows
    from vaekit.runs import open_rows
    from vaekit.uses.score import score_rows

    check_one_process("score")
    check_samples(samples)
    check_at_least(0, seed=seed)
    if level is not None and contamination is not None:
        raise ConfigError(
            f"--level is {level} and --contamination {contamination}, and each sets the threshold: give one",
            field="contamination",
            value=contamination,
        )
    for option, value in (("level", level), ("contamination", contamination)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"--{option} is {value}: it should lie between 0 and 1", field=option, value=value)
    check_out(out, ENDINGS, force)
    trained, device = open_on_device(folder, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    rows = open_rows(trained, data).to(device)
    if unknown := [name for name in given if name not in (trained.schema.columns or ())]:
        known = ", ".join(trained.schema.columns or ()) or "none"
        raise ConfigError(
            f"--given is {unknown[0]}, which is no column that is modelled: these are {known}",
            field="given",
            value=unknown[0],
        )
    with progress("scoring", len(rows) + len(trained.data().valid)) as advance:
        found = score_rows(
            trained, rows, samples, level, contamination, given, statistic=statistic, seed=seed, progress=advance
        )
    write_rows(out, [numbers_and_names(rows, slice(0, len(rows))) | _columns(found)], len(rows))
    what = f"the bound on {_what(given)}, K = {samples}, seed {seed}"
    if as_json:
        return print_json(
            {
                "out": str(out),
                "rows": len(rows),
                "what": what,
                **_facts(found),
                "seed": seed,
                "weights": trained.weights,
            }
        )
    console = Console(highlight=False)
    console.print(f"Wrote [bold]{escape(str(out))}[/]: {counted(len(rows), 'row')}, {escape(what)}", soft_wrap=True)
    if found.flagged is not None:
        count = int(found.flagged.sum())
        console.print(
            f"{counted(count, 'row is', 'rows are')} flagged, of an oddness ({found.statistic}) of at least "
            f"{found.threshold:.2f} nats",
            soft_wrap=True,
        )
    _print_odd(console, found)
    for text in found.notices:
        console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)


def _what(given: tuple[str, ...]) -> str:
    return f"ln p of the other columns given {', '.join(given)}" if given else "ln p(x)"


def _columns(found: "Scores") -> "dict[str, np.ndarray]":
    """What is written of each row, by name."""
    import numpy as np

    columns = {
        "score": found.score,
        "error": found.error,
        "oddness": found.oddness,
        "p_value": found.p_value,
    }
    if found.flagged is not None:
        columns["flagged"] = found.flagged.astype(np.int64)
    for rank in range(found.cells.shape[1]):
        columns |= {
            f"cell_{rank + 1}": found.names(rank),
            f"below_{rank + 1}": found.below[:, rank],
            f"given_rest_{rank + 1}": found.given_rest[:, rank],
        }
    return columns


def _facts(found: "Scores") -> dict[str, Any]:
    import numpy as np
    import torch

    from vaekit.evaluation.estimate import mean_of
    from vaekit.evaluation.results import NATS

    order = np.argsort(-found.oddness, kind="stable")[:LISTED].tolist()
    return {
        "score": mean_of(torch.from_numpy(found.score), NATS).as_dict(),
        "statistic": found.statistic,
        "held_out_rows": len(found.held_out),
        "flagged": None if found.flagged is None else int(found.flagged.sum()),
        "threshold": found.threshold,
        "odd": [
            {
                "row": row,
                "score": float(found.score[row]),
                "oddness": float(found.oddness[row]),
                "p_value": float(found.p_value[row]),
                "cells": [
                    {"name": str(found.names(rank)[row]), "below": float(found.below[row, rank])}
                    | {"given_rest": float(found.given_rest[row, rank])}
                    for rank in range(found.cells.shape[1])
                    if found.cells[row, rank] >= 0
                ],
            }
            for row in order
        ],
        "complexity": found.complexity,
        "notices": list(found.notices),
    }


def _print_odd(console: Console, found: "Scores") -> None:
    """The oddest rows, one in each line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("row", "score", "± error", "oddness", "p-value"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("odd by (nats below held-out rows)", no_wrap=True)
    for one in _facts(found)["odd"]:
        row = one["row"]
        cells = [f"{escape(cell['name'])} ({cell['below']:.1f})" for cell in one["cells"] if cell["below"] > 0]
        error = found.error[row]
        table.add_row(
            str(row),
            f"{one['score']:.2f}",
            f"{error:.2f}" if math.isfinite(error) else "",
            f"{one['oddness']:.2f}",
            f"{one['p_value']:.2g}",
            ", ".join(cells),
        )
    print_table(console, table)
