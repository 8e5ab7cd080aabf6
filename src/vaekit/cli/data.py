"""`vaekit data`: the data sets known by name, or a description of one of them or of a file."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vaekit.cli.console import print_json, print_listing
from vaekit.cli.options import Json, Words

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.models.families import LikelihoodFamily

WIDTH = 100
MOST_SHOWN = 40  # columns of a table


def data(data: str | None = None, /, *settings: Words, json: Json = False) -> None:
    """List the data sets that are known by name, or describe one, or a file.

    For example:

        vaekit data
        vaekit data table.csv data.label=species

    Args:
        data: A name or a path.
        settings: Settings, as for `vaekit train`.
    """
    if data is not None:
        return _describe(data, settings, json)
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


def _describe(data: str, settings: Sequence[str], as_json: bool) -> None:
    """Read a data set as training would, and print its facts."""
    from vaekit import runs
    from vaekit.runs.factory import open_data

    run, dataset = open_data(runs.run(data, *settings))
    schema, likelihood = dataset.schema, run.model.likelihood
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
        "protocol": schema.protocol,
        "fingerprint": schema.fingerprint,
    }
    columns = _columns(dataset, likelihood)
    if as_json:
        return print_json({**facts, "columns": columns, "notices": list(schema.notices)})
    console = Console(highlight=False)
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"{name:>22}  {text}", soft_wrap=True, markup=False)
    if columns:
        _print_columns(console, columns)
    for notice in schema.notices:
        console.print(f"note: {notice}", markup=False)
    console.print(f"\nNext: vaekit train {shlex.join((data, *settings))}", soft_wrap=True, markup=False)


def _columns(dataset: "Dataset", likelihood: "LikelihoodFamily | None") -> list[dict[str, Any]]:
    """Of each column of a table of several kinds: what it is, its values in some rows, and its likelihood."""
    import numpy as np

    from vaekit.models.protocols import OverFields
    from vaekit.runs.factory import events_of

    schema, rows = dataset.schema, dataset.valid
    if not schema.fields or len(rows) == 0:
        return []
    heads: Sequence[Any] = [likelihood] * len(schema.fields)
    if isinstance(likelihood, OverFields):
        heads = list(likelihood.of_fields(events_of(schema)).heads)
    given = rows.inputs(slice(None))
    stored = schema.to_stored(given["x"].numpy().astype(np.float64))
    if "mask" in given:
        stored = np.where(given["mask"].numpy(), stored, np.nan)
    found = []
    for field, head, cells in zip(schema.fields, heads, stored.T, strict=True):
        known = cells[~np.isnan(cells)]
        counts = np.bincount(known.astype(int), minlength=len(field.categories)) if field.categories else None
        found.append(
            {
                "name": field.name,
                "kind": field.kind,
                "lowest": float(known.min()) if counts is None and len(known) else None,
                "highest": float(known.max()) if counts is None and len(known) else None,
                "categories": None if counts is None else [field.categories[at] for at in counts.argsort()[::-1]],
                "missing": 1 - len(known) / len(cells),
                "likelihood": getattr(head, "kind", ""),
            }
        )
    return found


def _print_columns(console: Console, columns: Sequence[Mapping[str, Any]]) -> None:
    """A table with a line for each column, at most 100 wide; the values of a narrow one go on in the next line."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("column", "kind", "validation rows", "missing", "likelihood"):
        table.add_column(title, overflow="fold", justify="right" if title == "missing" else "left")
    for column in columns[:MOST_SHOWN]:
        table.add_row(
            escape(column["name"]),
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
        ends = [column["lowest"], column["highest"]]
        return (
            "none" if None in ends else " to ".join(f"{end:.0f}" if end == int(end) else f"{end:.6g}" for end in ends)
        )
    listed = ", ".join(names[:3])
    return listed if len(names) <= 3 else f"{len(names)}: {listed}, ..."
