"""`vaekit presets` and `vaekit data`: what there is."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vaekit.cli.output import print_json, table_console
from vaekit.runs import make_run, preset, presets, to_tree, to_yaml
from vaekit.runs import run as words_to_run


def presets_command(name: str | None, as_json: bool) -> None:
    if name is None:
        known = {key: make_run(tree).about for key, tree in presets().items()}
        return print_json(known) if as_json else _table(("preset", "what it is"), list(known.items()))
    run = preset(name)
    if as_json:
        return print_json(to_tree(run))
    print(to_yaml(run), end="")


def data_command(data: str | None, settings: Sequence[str], as_json: bool) -> None:
    from vaekit.data import names, where

    if data is None:
        rows = [(name, about, where(name)) for name, about in names().items()]
        if as_json:
            return print_json({name: {"about": about, "where": place} for name, about, place in rows})
        _table(("data", "what it is", "where"), rows)
        return Console(highlight=False).print(
            "\nA path works as well: .npy, .npz, .csv, Parquet, IDX, a folder of pictures or of Parquet files. "
            "`vaekit data NAME` describes one."
        )
    describe(data, settings, as_json)


def describe(data: str, settings: Sequence[str], as_json: bool) -> None:
    """Read a data set as training would, and say what it is."""
    from vaekit.runs.factory import open_data

    run, dataset = open_data(words_to_run(data, *settings))
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


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, title in enumerate(titles):
        table.add_column(title, no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    table_console().print(table)
