"""`vaekit encode`: codes in arrays and tables, and a Parquet part from each of several processes."""

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.cli.console import print_written, progress
from vaekit.cli.console.options import Data, Force, Json, Out, RunPath, Weights
from vaekit.cli.console.pipes import piped
from vaekit.errors import VaekitError
from vaekit.words import counted

if TYPE_CHECKING:
    from vaekit.cli.console.writing import Columns
    from vaekit.data import Rows, StreamedRows
    from vaekit.processes import World
    from vaekit.runs import TrainedRun

NAMES = {  # what goes into a file by its ending, and the names that it has there
    ".npy": {"mean": "mean"},
    ".npz": {"mean": "mean", "scale": "scale", "name": "name", "label": "label"},
    ".csv": {"row": "row", "name": "name", "mean": "z", "label": "label"},
    ".parquet": {"row": "row", "name": "name", "mean": "z", "scale": "scale", "label": "label"},
    ".feather": {"row": "row", "name": "name", "mean": "z", "scale": "scale", "label": "label"},
    ".h5ad": {"row": "row", "name": "name", "mean": "mean", "scale": "scale", "label": "label"},
}


def encode(
    run: RunPath, data: Data = None, /, *, out: Out, weights: Weights = None, force: Force = False, json: Json = False
) -> None:
    """Write the code of each row: mean and standard deviation of q(z|x), and the label where there is one.

    For example:

        vaekit encode runs/digits-1 --out codes.npz
        vaekit encode runs/digits-1 other.csv --out codes.csv
        vaekit encode runs/table-1 - --out - < new.csv > codes.csv
        torchrun --nproc-per-node 4 -m vaekit encode runs/big images/ --out codes.parquet

    Args:
        out: File to write: .npz (mean, scale, name, label), .csv (columns row, name, z0, z1, ..., label), .npy (the
            means alone), .parquet or .feather (row, name, z0, ..., scale0, ..., label; several processes write a folder
            of Parquet parts), or .h5ad (X, the means, and the layer scale). Rows are counted from 0, names are those of
            cells in the data, and labels are text.
    """
    with piped(data, out, json) as (data, out):
        _encode(run, data, out, weights, json, force)


def _encode(folder: Path, data: str | None, out: Path, weights: str | None, as_json: bool, force: bool) -> None:
    from vaekit.cli.console.h5ad import H5AD, write_h5ad
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import AT_A_TIME, check_apart, write_rows
    from vaekit.processes import World
    from vaekit.runs import check_same_run

    world = World.join()
    _check_out(out, world, force)
    trained, device = open_on_device(folder, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    rows = trained.rows_to_encode(data).to(device)
    check_same_run(world, trained, None if data is None else rows)
    share, latents = world.share(len(rows), AT_A_TIME), sum(map(math.prod, trained.latent_shapes))
    with progress("encoding", share.stop - share.start) as advance:
        names = NAMES[out.suffix.lower()]
        blocks = (
            {called: block[name] for name, called in names.items() if name in block}
            for block in codes_of(trained, rows, share, advance)
        )
        if world.size > 1:
            _write_parts(out, blocks, share.stop - share.start, world)
        elif out.suffix.lower() == H5AD:
            write_h5ad(out, blocks, len(rows), [f"z{place}" for place in range(latents)], "mean")
        else:
            write_rows(out, blocks, len(rows))
    world.wait()
    if world.leads:
        print_written(as_json, out, len(rows), f"q(z|x), {counted(latents, 'latent')}")


def codes_of(
    trained: "TrainedRun", rows: "Rows | StreamedRows", share: slice, advance: Callable[[int], object]
) -> "Iterator[Columns]":
    """The columns of a file of codes, a block of rows at a time.

    Args:
        trained: The run whose encoder is used.
        rows: As the model takes them.
        share: Which of them.
        advance: Called with the number of rows done since the last call.

    Yields:
        `mean` and `scale` (n, latents) of q(z|x), the most probable value of a discrete z in place of its mean; and
        what `about_rows` says of each row.
    """
    from vaekit.cli.console.writing import AT_A_TIME, about_rows
    from vaekit.models.generative import in_blocks
    from vaekit.runs import posterior_moments

    for start in range(share.start, share.stop, AT_A_TIME):
        index = slice(start, min(start + AT_A_TIME, share.stop))
        mean, scale = in_blocks(partial(posterior_moments, trained.model), **rows.inputs(index))
        about = about_rows(rows, index, trained.schema.classes)
        yield about | {"mean": mean.cpu().numpy(), "scale": scale.cpu().numpy()}
        advance(index.stop - index.start)


def _check_out(out: Path, world: "World", force: bool) -> None:
    """Refuse what cannot be written, before any work is done."""
    from vaekit.cli.console.writing import PARQUET, bad_out, check_out

    if world.size == 1:
        return check_out(out, tuple(NAMES), force)
    if os.path.lexists(out):
        raise bad_out(
            out, f", which exists, and {world.size} processes write a folder of parts: remove it, or give another name"
        )
    check_out(out, tuple(NAMES))
    if out.suffix.lower() != PARQUET:
        raise bad_out(
            out, f": {world.size} processes write a Parquet part each, into a folder; end its name in .parquet"
        )


def _write_parts(out: Path, blocks: "Iterator[Columns]", rows: int, world: "World") -> None:
    """Write a folder with a part of each process, whole or not at all."""
    import shutil

    from vaekit.cli.console.writing import PARQUET, write_rows
    from vaekit.files import sweep, sync_folder, temporary

    aside = Path(world.agree(str(temporary(out))))  # swept once the leading process has ended
    try:
        if world.leads:
            sweep(out.parent)
            aside.mkdir()
        world.wait()
        if rows:
            write_rows(aside / f"part-{world.rank:05d}-of-{world.size:05d}{PARQUET}", blocks, rows)
        world.wait()
        if world.leads:
            os.rename(aside, out)
            sync_folder(out.parent)
    except OSError as error:
        raise VaekitError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        if world.leads:
            shutil.rmtree(aside, ignore_errors=True)
