"""`vaekit impute`: missing cells, filled from what is observed of each row."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaekit.cli.console import print_json, print_table, progress
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
from vaekit.cli.console.pipes import PIPE, piped
from vaekit.errors import ConfigError, DataError
from vaekit.words import counted

if TYPE_CHECKING:
    import numpy as np

    from vaekit.data import Rows, StreamedRows
    from vaekit.runs import TrainedRun
    from vaekit.uses import HiddenCells, Imputed

COVERED = 0.9  # the level of intervals whose coverage is measured, where none is named


def impute(
    run: RunPath,
    data: Annotated[
        str | None,
        Parameter(help="Rows with holes, by name or path, or - for a table on stdin; by default the run's own data."),
    ] = None,
    /,
    *,
    out: Out,
    draws: WholeNumber = 0,
    level: float | None = None,
    samples: Annotated[WholeNumber, Parameter(name=["--samples", "-k"])] = 1000,
    hide: float = 0.2,
    seed: WholeNumber = 0,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fill missing cells with what the model expects of them, given the observed cells of their row.

    For example:

        vaekit impute runs/table-1 --out filled.csv
        vaekit impute runs/table-1 new.csv --out filled.csv --draws 20 --level 0.9

    Numbers get the mean of p(x_missing|x_observed), categories the most probable one, by importance-weighted samples of
    q(z|x_observed). Of a CSV file, all that stands in other cells is kept byte for byte. Observed cells of validation
    rows (of training rows, where every row trains) are hidden and imputed, too: the error on them is printed, beside
    that of each column's mean or most frequent category.

    Args:
        out: File to write: .csv, .parquet, .feather, .npy or .npz; - is a table on stdout.
        draws: How many more files to write, out-1, out-2, ..., each with a draw from p(x_missing|x_observed) in place
            of its mean: multiple imputation.
        level: Write out-lower and out-upper, too, the ends of intervals that hold each number with this probability;
            categories without an order stay missing there.
        samples: K, samples of z for each row.
        hide: Share of the observed cells of at most 200 validation rows that is hidden to measure the error; 0 for
            none.
        seed: Of the noise.
    """
    with piped(data, out, json) as (data, path):
        _impute(run, data, path, out == PIPE, draws, level, samples, hide, seed, weights, json, force)


def _impute(
    folder: Path,
    data: str | None,
    out: Path,
    to_pipe: bool,
    draws: int,
    level: float | None,
    samples: int,
    hide: float,
    seed: int,
    weights: str | None,
    as_json: bool,
    force: bool,
) -> None:
    from vaekit.cli.console.request import check_samples, open_on_device
    from vaekit.cli.console.writing import ARRAYS, check_apart, check_out
    from vaekit.evaluation.estimate import mean_of
    from vaekit.evaluation.results import unit_of
    from vaekit.uses.impute import impute_rows

    check_one_process("impute")
    check_samples(samples)
    check_at_least(0, draws=draws, seed=seed)
    _check_share("level", level)
    _check_share("hide", hide or None)
    if to_pipe and (draws or level is not None):
        raise ConfigError("--out - is one table, and --draws and --level write more: name a file", field="out")
    names = [*map(str, range(1, draws + 1)), *(() if level is None else ("lower", "upper"))]
    beside = {name: out.with_name(f"{out.stem}-{name}{out.suffix}") for name in names}
    for path in (out, *beside.values()):
        check_out(path, ARRAYS, force)
    trained, device = open_on_device(folder, weights)
    source = _source(trained, data)
    for path in (out, *beside.values()):
        check_apart(path, trained.folder.path, trained.settings.data.source, data)
    rows = trained.rows(source).to(device)
    with progress("imputing", len(rows)) as advance:
        found = impute_rows(trained, rows, source, samples, draws, level or COVERED, seed=seed, progress=advance)
    for path, values in (
        (out, found.values),
        *zip(beside.values(), (*found.drawn, found.low, found.high), strict=False),
    ):
        _write(path, trained, source, rows, found, values)
    hidden, why = _hidden(trained, hide, samples, level or COVERED, seed)
    what = f"{len(found.values)} missing cells filled from p(x_missing|x_observed), K = {samples}, seed {seed}"
    notices = [text for text in (found.warning, why, _of_unseen(trained, source)) if text]
    if as_json:
        import torch

        ess = mean_of(torch.from_numpy(found.effective_samples), unit_of("effective_samples", samples))
        return print_json(
            {
                "out": str(out),
                "rows": len(rows),
                "cells": len(found.values),
                "what": what,
                "beside": {name: str(path) for name, path in beside.items()},
                "samples": samples,
                "level": level,
                "seed": seed,
                "weights": trained.weights,
                "effective_samples": ess.as_dict() if len(found.effective_samples) else None,
                "hidden": {name: _as_json(one) for name, one in hidden.items()},
                "notices": notices,
            }
        )
    console = Console(highlight=False)
    console.print(f"Wrote [bold]{escape(str(out))}[/]: {counted(len(rows), 'row')}, {escape(what)}", soft_wrap=True)
    if beside:
        console.print(f"and beside it {escape(', '.join(path.name for path in beside.values()))}", soft_wrap=True)
    _print_hidden(console, hidden, hide, level or COVERED)
    for text in notices:
        console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)


def _check_share(option: str, value: float | None) -> None:
    if value is not None and not 0 < value < 1:
        raise ConfigError(f"--{option} is {value}: it should lie between 0 and 1, as 0.2", field=option, value=value)


def _source(trained: "TrainedRun", data: str | None) -> str:
    """What holds the rows: the data named, or that of the run."""
    source = data if data is not None else trained.settings.data.source
    if source is None:
        raise DataError(f"{trained.folder.path} was trained on rows in memory: name the data to fill", field="data")
    return source


def _write(
    out: Path,
    trained: "TrainedRun",
    source: str,
    rows: "Rows | StreamedRows",
    found: "Imputed",
    values: "np.ndarray",
) -> None:
    """Write rows with values in their missing cells, in the form of their source where `out` can have that."""
    import numpy as np

    from vaekit.cli.console.tables import write_tables
    from vaekit.cli.console.writing import CSV, FEATHER, PARQUET, outgoing, write_x
    from vaekit.uses.filling import in_file, x_filled

    ending, path = out.suffix.lower(), Path(source).expanduser()
    if ending == CSV and (texts := _texts(trained, path, found, values)) is not None:
        with outgoing(out) as file:
            file.writelines(texts)
        return
    original = in_file(path) if path.is_file() and trained.settings.data.rows is None else None
    if isinstance(original, np.ndarray) and ending == ".npy":
        with outgoing(out) as file:
            np.save(file, found.fill(values))
    elif original is not None and not isinstance(original, np.ndarray) and ending in (PARQUET, FEATHER):
        write_tables(out, [found.fill(values)], len(rows), None)
    else:
        write_x(out, trained, x_filled(rows, trained.schema, found.rows, found.cells, values), len(rows))


def _of_unseen(trained: "TrainedRun", source: str) -> str:
    """Which columns of a table the model does not have, so that their missing cells stay so; empty for none."""
    from vaekit.data.dataset import spec_like
    from vaekit.data.formats.csv import column_names
    from vaekit.data.open import CSV, format_of
    from vaekit.uses.filling import columns_in, in_file

    spec, schema, path = trained.settings.data, trained.schema, Path(source).expanduser()
    if not path.is_file() or schema.kind != "table" or spec.rows is not None:
        return ""
    if format_of(path) is CSV:
        names = list(column_names(path, spec_like(str(path), spec, schema)))
    else:
        names = [str(name) for name in getattr(in_file(path), "column_names", ())]
    seen = columns_in(names, schema, spec.label)
    unseen = [name for name in names if name not in seen]
    if not unseen:
        return ""
    some = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
    return f"cells of columns that the model does not have stay as they are, the missing ones, too: {some}"


def _texts(trained: "TrainedRun", path: Path, found: "Imputed", values: "np.ndarray") -> Any:
    """The parts of a CSV file with values in its missing cells; None where the source is no such file."""
    import numpy as np
    import pyarrow as pa

    from vaekit.cli.console.tables import texts_of
    from vaekit.data.dataset import spec_like
    from vaekit.data.formats.csv import column_names, with_texts
    from vaekit.data.open import CSV, format_of, open_table
    from vaekit.data.schema import Dialect
    from vaekit.uses.filling import as_arrow, columns_in

    spec, schema = trained.settings.data, trained.schema
    if not path.is_file() or schema.kind != "table" or spec.rows is not None or format_of(path) is not CSV:
        return None
    spec = spec_like(str(path), spec, schema)
    names = column_names(path, spec)
    dialect = open_table(spec, trained.settings.limit).dialect or Dialect()
    texts: dict[int, dict[int, str]] = {}
    for cell, name in enumerate(columns_in(list(names), schema, spec.label)):
        mine = np.flatnonzero((found.cells == cell) & ~np.isnan(values))
        column = texts_of(pa.chunked_array([as_arrow(schema, cell, values[mine])]), dialect, name) if len(mine) else []
        for row, text in zip(found.rows[mine].tolist(), column, strict=True):
            texts.setdefault(row, {})[names.index(name)] = text
    return with_texts(path, spec, texts)


def _hidden(
    trained: "TrainedRun", share: float, samples: int, level: float, seed: int
) -> "tuple[Mapping[str, HiddenCells], str]":
    """The errors on hidden cells of the run's validation rows, or of training rows; and what limits their meaning."""
    from vaekit.uses import impute_hidden

    if not share:
        return {}, ""
    try:
        with progress("hiding cells of validation rows", None) as advance:
            found = impute_hidden(trained, share=share, samples=samples, level=level, seed=seed, progress=advance)
    except DataError as error:
        return {}, f"no error on hidden cells: {error}"
    seen = "every row trained: the hidden cells are of rows that the model has seen, and the errors are too small"
    return found, "" if trained.settings.data.valid_fraction else seen


def _as_json(one: "HiddenCells") -> dict[str, Any]:
    return {
        "measure": one.measure,
        "imputed": one.imputed.as_dict(),
        "baseline": one.baseline.as_dict(),
        "against": one.against,
        "coverage": None if one.coverage is None else one.coverage.as_dict(),
    }


def _print_hidden(console: Console, hidden: "Mapping[str, HiddenCells]", share: float, level: float) -> None:
    if not hidden:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{share:.0%} of cells hidden", no_wrap=True)
    for title in ("error", "imputed", "baseline", "", f"in {level:.0%}", "n"):
        table.add_column(title, justify="left" if title in ("error", "") else "right", no_wrap=True)
    for name, one in hidden.items():
        imputed, baseline, covered = (
            "" if estimate is None else " ± ".join(text for text in estimate.numbers() if text)
            for estimate in (one.imputed, one.baseline, one.coverage)
        )
        table.add_row(escape(name), one.measure, imputed, baseline, one.against, covered, str(one.imputed.n))
    print_table(console, table)
