"""`vaekit data`: the data sets known by name, or a description of one of them or of a file."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from vaekit.cli.console import print_json, print_listing, progress
from vaekit.cli.console.options import Force, Json, Words
from vaekit.errors import ConfigError
from vaekit.setting_errors import short

if TYPE_CHECKING:
    from vaekit.data import Dataset, DataSpec, Rows, Schema
    from vaekit.models.families import LikelihoodFamily

WIDTH = 100
MOST_SHOWN = 40  # columns of a table
MOST_ROWS, MOST_NUMBERS = 10_000, 20_000_000  # that are looked at


def data(
    data: str | None = None,
    /,
    *settings: Words,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """List the data sets that are known by name, or describe one, or a file.

    For example:

        vaekit data
        vaekit data table.csv data.label=species
        vaekit data table.csv --out table.png

    Args:
        data: A name or a path.
        settings: Settings, as for `vaekit train`.
        out: File to write, .png: a picture of what was understood, with a panel for each column, or examples.
    """
    if data is not None:
        return _describe(data, settings, out, force, json)
    if out is not None:
        raise ConfigError(f"--out is {out}, and no data is given: name some", field="out", value=out)
    from vaekit.data import names, where

    rows = [(name, about, where(name)) for name, about in names().items()]
    if json:
        return print_json({name: {"about": about, "where": location} for name, about, location in rows})
    print_listing(("data", "what it is", "where"), rows)
    return Console(highlight=False).print(
        "\nA path works as well: .npy, .npz (also scipy's sparse ones), .csv, .tsv, .csv.gz, Parquet, Feather, "
        "JSON lines, .h5ad, IDX, a folder of pictures, of recordings or of Parquet files. "
        "`vaekit data NAME` describes one."
    )


def _describe(data: str, settings: Sequence[str], out: Path | None, force: bool, as_json: bool) -> None:
    """Read a data set as training would, print its facts, and draw them."""
    with progress("reading data", None):  # from now on, since imports take long, too
        from vaekit import runs
        from vaekit.cli.console.writing import check_apart, check_out
        from vaekit.runs.factory import open_data

        if out is not None:
            check_out(out, (".png",), force)
            check_apart(out, None, data)
        run, dataset = open_data(runs.run(data, *settings))
        schema, likelihood = dataset.schema, run.model.likelihood
        some = _some_rows(dataset)
        columns = _columns(schema, some, likelihood)
    rows = {"train": len(dataset.train), "valid": len(dataset.valid), "test": len(dataset.test)}
    facts = {
        "name": schema.name,
        "kind": schema.kind,
        "shape": list(schema.shape),
        "stored": str(schema.stored),
        "as the model sees it": str(schema.support),
        "likelihood": likelihood.kind if likelihood else "",
        "rows": rows,
        "labels": len(schema.classes) if schema.classes else 0,
        "context": _context(run.data, schema),
        "protocol": schema.protocol,
        "fingerprint": schema.fingerprint,
    }
    if out is not None:
        with progress("drawing", None):
            from vaekit.cli.console.writing import write_picture
            from vaekit.report.understood import data_picture

            write_picture(out, data_picture(schema, some, [column["likelihood"] for column in columns]))
    if as_json:
        written = {"path": str(out)} if out is not None else {}
        return print_json({**facts, "columns": columns, "notices": list(schema.notices), **written})
    console = Console(highlight=False)
    for name, value in facts.items():
        if value == "":
            continue
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"{name:>22}  {text}", soft_wrap=True, markup=False)
    if columns:
        _print_columns(console, columns, f"{len(some):,} training rows")
    for notice in schema.notices:
        console.print(f"note: {notice}", markup=False)
    if out is not None:
        console.print(f"Wrote {out}: what was understood", soft_wrap=True, markup=False)
    console.print(f"\nNext: vaekit train {shlex.join((data, *settings))}", soft_wrap=True, markup=False)


def _some_rows(dataset: "Dataset") -> "Rows":
    """Some of the training rows, in memory, that stand for all."""
    rows = dataset.train
    return rows.at(rows.some(max(1, min(MOST_ROWS, MOST_NUMBERS // math.prod(rows.shape)))))


def _context(spec: "DataSpec", schema: "Schema") -> str:
    """What the model is conditioned on, and which parts of it; nothing where it is on nothing."""
    context = schema.context
    if context is None:
        return ""
    names = [field.name for field in context.fields] or list(context.given)
    given = [f"the label, {len(context.given)} classes"] if context.kind == "label" else names[:MOST_SHOWN]
    size = [] if context.size is None else [f"the size of each row ({context.size})"]
    more = [f"{len(names) - MOST_SHOWN} more"] if context.kind != "label" and len(names) > MOST_SHOWN else []
    return f"{', '.join([*given, *more, *size])}; given to {', '.join(spec.context_to)}"


def _columns(schema: "Schema", rows: "Rows", likelihood: "LikelihoodFamily | None") -> list[dict[str, Any]]:
    """Of each column of a table of several kinds: what it is, its values in some rows, and its likelihood."""
    import numpy as np

    from vaekit.models.protocols import OverFields
    from vaekit.runs.factory import events_of

    if not schema.fields:
        return []
    heads: Sequence[Any] = [likelihood] * len(schema.fields)
    if isinstance(likelihood, OverFields):
        heads = list(likelihood.of_fields(events_of(schema)).heads)
    given = rows.inputs(slice(None))
    x = given["x"].numpy().astype(np.float64)
    off = np.abs(x).max(0) * np.asarray(schema.scale or 1.0) * float(np.finfo(np.float32).eps)
    stored = schema.to_stored(x)
    if "mask" in given:
        stored = np.where(given["mask"].numpy(), stored, np.nan)
    found = []
    for field, head, cells, lost in zip(schema.fields, heads, stored.T, off.tolist(), strict=True):
        known = cells[~np.isnan(cells)]
        if field.is_number and lost > 0:  # rounded to what single precision, in which x is, has kept
            digits = math.floor(-math.log10(lost)) if field.decimals is None else field.decimals
            known = known.round(digits) + 0.0
        counts = np.bincount(known.astype(int), minlength=len(field.categories)) if field.categories else None
        often = range(len(field.categories)) if counts is None or field.kind == "ordinal" else counts.argsort()[::-1]
        found.append(
            {
                "name": field.name,
                "kind": field.kind,
                "lowest": float(known.min()) if counts is None and len(known) else None,
                "highest": float(known.max()) if counts is None and len(known) else None,
                "categories": None if counts is None else [field.categories[at] for at in often],
                "missing": 1 - len(known) / len(cells),
                "likelihood": getattr(head, "kind", ""),
            }
        )
    return found


def _print_columns(console: Console, columns: Sequence[Mapping[str, Any]], rows: str) -> None:
    """A table with a line for each column, at most 100 wide; the values of a narrow one go on in the next line."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("column", "kind", rows, "missing", "likelihood"):
        table.add_column(title, overflow="fold", justify="right" if title == "missing" else "left")
    for column in columns[:MOST_SHOWN]:
        table.add_row(
            escape(short(column["name"], 40)),
            column["kind"],
            escape(_values(column)),
            f"{column['missing']:.1%}" if column["missing"] else "",
            column["likelihood"],
        )
    console.print()
    console.print(table, width=min(console.width, WIDTH))
    if len(columns) > MOST_SHOWN:
        console.print(f"and {len(columns) - MOST_SHOWN} more columns, which --json lists")


def _values(column: Mapping[str, Any]) -> str:
    names = column["categories"]
    if names is None:
        low, high = column["lowest"], column["highest"]
        if low is None or high is None:
            return "none"
        # So many digits that a thousandth of the range is seen.
        size, span = max(abs(low), abs(high)), high - low
        digits = min(17, max(6, math.ceil(math.log10(size / span)) + 3)) if span > 0 else 6
        return " to ".join(f"{end:.0f}" if end == int(end) else f"{end:.{digits}g}" for end in (low, high))
    if column["kind"] == "ordinal":
        return f"{len(names)}: {short(names[0], 24)} to {short(names[-1], 24)}"
    listed = ", ".join(short(name, 24) for name in names[:3])
    return listed if len(names) <= 3 else f"{len(names)}: {listed}, ..."
