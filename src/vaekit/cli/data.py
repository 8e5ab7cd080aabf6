"""`vaekit data`: the data sets known by name, or a description of one of them or of a file."""

import shlex
from collections.abc import Sequence

from rich.console import Console

from vaekit.cli.console import print_json, print_listing
from vaekit.cli.options import Json, Words


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
    if as_json:
        return print_json(facts)
    console = Console(highlight=False)
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"{name:>22}  {text}", soft_wrap=True, markup=False)
    console.print(f"\nNext: vaekit train {shlex.join((data, *settings))}", soft_wrap=True, markup=False)
