"""`vaekit data`: the data sets known by name, or a description of one of them or of a file."""

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import print_json, print_listing, progress
from vaekit.cli.console.options import Force, Json, Words
from vaekit.errors import ConfigError
from vaekit.setting_errors import short
from vaekit.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from vaekit.data import Dataset, DataSpec, Rows, Schema
    from vaekit.report.features import Features

WIDTH = 100
MOST_SHOWN = 40  # columns of a table
FEW_ZEROS = 0.05  # of the cells of a column, which are not worth a word
_AS = {"image": "an image", "sequence": "a sequence"}
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
        from vaekit.report.features import features
        from vaekit.runs.factory import open_data

        if out is not None:
            check_out(out, (".png",), force)
            check_apart(out, None, data)
        run, dataset = open_data(runs.run(data, *settings))
        schema, likelihood = dataset.schema, run.model.likelihood
        some = _some_rows(dataset)
        found = features(schema, some, likelihood)
    rows = {"train": len(dataset.train), "valid": len(dataset.valid), "test": len(dataset.test)}
    facts = {
        "name": schema.name,
        "kind": schema.kind if schema.sound is None else f"spectrogram of audio, as {_AS[schema.kind]}",
        "shape": list(schema.shape),
        "stored": str(schema.stored),
        "scaling": _scaling(schema),
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

            write_picture(out, data_picture(schema, some, found.likelihoods if schema.fields else ()))
    if as_json:
        written = {"path": str(out)} if out is not None else {}
        return print_json({**facts, "columns": found.each(), "notices": list(schema.notices), **written})
    console = Console(highlight=False)
    for name, value in facts.items():
        if value == "":
            continue
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"{name:>22}  {text}", soft_wrap=True, markup=False)
    _print_features(console, found, "column" if schema.kind == "table" else "channel", len(some))
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


def _scaling(schema: "Schema") -> str:
    """How x is made of stored numbers, in words."""
    if schema.loc is None or schema.scale is None:
        return "none"
    kinds = [field.kind for field in schema.fields or ()] if schema.stored.kind == "mixed" else []
    parts = {
        "real": "real columns less their mean, by their deviation",
        "positive": "positive ones by their mean",
    }
    if kinds:
        return "; ".join(text for kind, text in parts.items() if kind in kinds) or "none"
    if len(schema.scale) == 1:
        loc, scale = schema.loc[0], schema.scale[0]
        return f"divided by {scale:.6g}" if loc == 0 else f"less {loc:.6g}, divided by {scale:.6g}"
    return f"each {'column' if schema.kind == 'table' else 'channel'} less its mean, by its deviation"


def _print_features(console: Console, found: "Features", what: str, rows: int) -> None:
    """A line for each column or channel, or, of many of one kind, how these are spread; at most 100 wide."""
    title = counted(rows, "training row")
    if len(found) > MOST_SHOWN and found.of_one_kind:
        return _print_spread(console, found, f"{len(found):,} {what}s, {title}")
    lines = found.each()
    alike = found.of_one_kind
    kind, moments = what == "column", ["mean", "deviation"] if alike else []
    titles = [what, *(["kind"] if kind else []), title, *moments]
    worth = {"missing": 0.0, "zeros": FEW_ZEROS}
    shares = [share for share, least in worth.items() if any((line[share] or 0) > least for line in lines)]
    likelihoods = ["likelihood"] if len({line["likelihood"] for line in lines}) > 1 else []
    table = _table([*titles, *shares, *likelihoods], {"mean", "deviation", *shares})
    for line in lines[:MOST_SHOWN]:
        table.add_row(
            escape(short(line["name"], 40)),
            *([line["kind"]] if kind else []),
            escape(_values(line)),
            *(_number(line[name]) for name in moments),
            *(_share(line[share] or 0) for share in shares),
            *(line["likelihood"] for _ in likelihoods),
        )
    console.print()
    console.print(table, width=min(console.width, WIDTH))
    if len(lines) > MOST_SHOWN:
        console.print(f"and {counted(len(lines) - MOST_SHOWN, f'more {what}')}, which --json lists")


def _print_spread(console: Console, found: "Features", title: str) -> None:
    from vaekit.report.features import QUANTILES

    table = _table([title, *QUANTILES], set(QUANTILES))
    for name, values in found.over_all().items():
        share = name in ("missing", "zeros")
        if any(values) or not share:
            table.add_row(name, *map(_share if share else _number, values))
    console.print()
    console.print(table, width=min(console.width, WIDTH))


def _table(titles: Sequence[str], numbers: Collection[str]) -> "Table":
    """An empty table without lines; numbers: the titles of columns that are set to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", justify="right" if title in numbers else "left")
    return table


def _share(value: float) -> str:
    return "" if value == 0 else f"{value:.1%}" if value >= 5e-4 else "<0.1%"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


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
