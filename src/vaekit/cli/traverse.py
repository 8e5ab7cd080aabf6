"""`vaekit traverse`, `vaekit manifold` and `vaekit interpolate`: what lines and planes of z decode to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vaekit.cli.console import print_written
from vaekit.cli.console.options import Force, Json, Out, RunPath, Weights, WholeNumber, check_one_process

if TYPE_CHECKING:
    import numpy as np

    from vaekit.runs import TrainedRun

RowsOf = Annotated[
    str | None, Parameter(help="Data whose rows are meant, by name or path; by default the run's test rows.")
]


def traverse(
    run: RunPath,
    data: RowsOf = None,
    /,
    *,
    out: Out,
    dimensions: Annotated[tuple[WholeNumber, ...] | None, Parameter(consume_multiple=True, negative=())] = None,
    steps: WholeNumber = 11,
    reach: float = 3.0,
    row: WholeNumber | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Decode z along one dimension after another, the others fixed: latent traversals.

    For example:

        vaekit traverse runs/digits-1 --out traversals.png
        vaekit traverse runs/digits-1 --dimensions 3 0 --row 5 --out from-row-5.png
        vaekit traverse runs/table-1 --steps 5 --out lines.csv

    Args:
        out: File to write: .png (a line of pictures for each dimension), .npy, .npz, .csv, .parquet or .feather (rows
            as the data is stored, the steps of one dimension after those of another).
        dimensions: Of z, counted from 0; by default the ten of the largest KL, the largest first.
        steps: Values of each dimension, evenly spaced.
        reach: The values are from -reach to reach.
        row: The row whose code the other dimensions have, counted from 0; by default they are 0.
    """
    from vaekit.uses import traverse as traversed

    trained = _opened("traverse", run, data, weights, out, force)
    found = traversed(trained, dimensions, steps=steps, reach=reach, row=row, data=data)
    kl = [""] * len(found.dimensions) if found.kl is None else [f" ({nats:.2f} nats)" for nats in found.kl]
    names = [f"z{number}{text}" for number, text in zip(found.dimensions, kl, strict=True)]
    where = "0" if row is None else f"those of the mean of q(z|x) of row {row}"
    what = f"means of p(x|z), each dimension from {-reach:g} to {reach:g} in {steps} steps, the others {where}"
    _write(trained, out, found.x, names, what)
    print_written(json, out, len(names) * steps, f"{what}; {', '.join(names)}")


def manifold(
    run: RunPath,
    data: RowsOf = None,
    /,
    *,
    out: Out,
    dimensions: Annotated[tuple[WholeNumber, WholeNumber] | None, Parameter(negative=())] = None,
    steps: WholeNumber = 15,
    spacing: Literal["quantile", "linear"] = "quantile",
    reach: float = 3.0,
    row: WholeNumber | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Decode z over a grid of two dimensions, the others fixed: the manifold that the decoder has learned.

    For example:

        vaekit manifold runs/digits-1 --out manifold.png
        vaekit manifold runs/digits-1 --dimensions 3 0 --steps 20 --out manifold.png
        vaekit manifold runs/table-1 --spacing linear --out grid.csv

    Args:
        out: File to write: .png, .npy, .npz, .csv, .parquet or .feather (rows as the data is stored, line by line from
            the top).
        dimensions: The one across and the one up, counted from 0; by default the two of the largest KL.
        steps: Values of each dimension.
        spacing: Of the values: quantiles of N(0, 1), from 0.02 to 0.98, or linear from -reach to reach.
        reach: Of linear spacing.
        row: The row whose code the other dimensions have, counted from 0; by default they are 0.
    """
    from vaekit.uses import manifold as over_plane

    trained = _opened("manifold", run, data, weights, out, force)
    found = over_plane(trained, dimensions, steps=steps, spacing=spacing, reach=reach, row=row, data=data)
    across, up = found.dimensions
    where = "0" if row is None else f"those of the mean of q(z|x) of row {row}"
    what = (
        f"means of p(x|z), z{across} across and z{up} up from {found.values[0]:.3g} to {found.values[-1]:.3g}, the "
        f"others {where}"
    )
    _write(trained, out, found.x, [""] * steps, what)
    print_written(json, out, steps * steps, what)


def interpolate(
    run: RunPath,
    data: RowsOf = None,
    /,
    *,
    out: Out,
    rows: Annotated[tuple[WholeNumber, WholeNumber], Parameter(negative=())] = (0, 1),
    steps: WholeNumber = 9,
    path: Literal["linear", "spherical"] = "linear",
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Decode z on the way from the code of one row to that of another.

    For example:

        vaekit interpolate runs/digits-1 --out between.png
        vaekit interpolate runs/digits-1 --rows 3 17 --steps 15 --path spherical --out between.png

    Args:
        out: File to write: .png, .npy, .npz, .csv, .parquet or .feather (rows as the data is stored).
        rows: The two rows, counted from 0.
        steps: How many z, both ends among them, evenly spaced.
        path: Of z: linear, or spherical, along a great circle.
    """
    from vaekit.uses import interpolate as between

    trained = _opened("interpolate", run, data, weights, out, force)
    x = between(trained, *rows, steps=steps, path=path, data=data)
    what = f"means of p(x|z), z on a {path} path from the mean of q(z|x) of row {rows[0]} to that of row {rows[1]}"
    _write(trained, out, x[None], [""], what)
    print_written(json, out, len(x), what)


def _opened(command: str, run: Path, data: str | None, weights: str | None, out: Path, force: bool) -> "TrainedRun":
    """The run, once it is known that the file can be written."""
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import ARRAYS, bad_out, check_apart, check_out

    check_one_process(command)
    check_out(out, (".png", *ARRAYS), force)
    trained, _ = open_on_device(run, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    if out.suffix.lower() == ".png" and trained.schema.kind not in ("image", "sequence"):
        raise bad_out(out, f", and rows of {trained.schema.name} are no pictures or sequences: give .csv or .npy")
    return trained


def _write(trained: "TrainedRun", out: Path, x: "np.ndarray", names: Sequence[str], what: str) -> None:
    """Write x (lines, steps, *shape) as a picture, or as rows."""
    from vaekit.cli.console.writing import write_picture, write_x
    from vaekit.report import captioned, traversal_picture

    if out.suffix.lower() == ".png":
        return write_picture(out, captioned(traversal_picture(x, names, trained.schema), what))
    flat = x.reshape(-1, *trained.schema.shape)
    write_x(out, trained, [flat], len(flat))
