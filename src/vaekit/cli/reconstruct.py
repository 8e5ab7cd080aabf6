"""`vaekit reconstruct`: rows, encoded and decoded again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaekit.cli.console import print_written, progress
from vaekit.cli.console.options import (
    Data,
    Force,
    Json,
    Out,
    RunPath,
    Weights,
    check_at_least,
    check_one_process,
    whole_number,
)
from vaekit.cli.console.pipes import piped

if TYPE_CHECKING:
    import numpy as np


def reconstruct(
    run: RunPath,
    data: Data = None,
    /,
    *,
    out: Out,
    n: Annotated[int | None, Parameter(name=["-n", "--number"], converter=whole_number)] = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Encode rows and decode them again: the mean of q(z|x), then the mean of p(x|z).

    For example:

        vaekit reconstruct runs/digits-1 --out pairs.png
        vaekit reconstruct runs/digits-1 other.npy --out reconstructions.npy

    Args:
        out: File to write: .png (originals over reconstructions), .npy, .npz, .csv, .parquet or .feather.
        n: How many rows; by default 16 for a picture, and all for a file of numbers.
    """
    with piped(data, out, json) as (data, out):
        _reconstruct(run, data, out, n, weights, json, force)


def _reconstruct(
    folder: Path, data: str | None, out: Path, n: int | None, weights: str | None, as_json: bool, force: bool
) -> None:
    from vaekit import report
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import (
        ARRAYS,
        AT_A_TIME,
        check_apart,
        check_out,
        check_pictured,
        write_picture,
        write_x,
    )
    from vaekit.report.pictures import reconstructed_at
    from vaekit.runs import open_rows

    check_one_process("reconstruct")
    check_at_least(1, number=n)
    check_out(out, (".png", *ARRAYS), force)
    trained, device = open_on_device(folder, weights)
    model, schema = trained.model, trained.schema
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    rows = open_rows(trained, data).to(device)
    picture = out.suffix.lower() == ".png"
    n = min(n or (16 if picture else len(rows)), len(rows))
    check_pictured(out, 2 * n, schema)
    if picture:
        first = slice(0, n)
        write_picture(out, report.reconstruction_picture(model, schema, **rows.inputs(first)))
    else:

        def blocks(advance: Callable[[int], object]) -> "Iterator[np.ndarray]":
            for start in range(0, n, AT_A_TIME):
                index = slice(start, min(start + AT_A_TIME, n))
                yield report.reconstruct(model, **rows.inputs(index))
                advance(index.stop - start)

        def contexts() -> "Iterator[np.ndarray]":
            for start in range(0, n, AT_A_TIME):
                context = rows.context_of(slice(start, min(start + AT_A_TIME, n)))
                assert context is not None
                yield context.cpu().numpy()

        with progress("reconstructing", n) as advance:
            write_x(out, trained, blocks(advance), n, contexts=None if schema.context is None else contexts())
    first = slice(0, 1)
    at = reconstructed_at(model, **rows.inputs(first))
    print_written(as_json, out, n, f"mean of p(x|z) at {at}")
