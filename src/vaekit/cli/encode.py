"""`vaekit encode`: codes in arrays and tables, and Parquet written part by part by several processes."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vaekit.cli.output import progress, say_done
from vaekit.cli.request import open_on_device
from vaekit.cli.writing import ARRAYS, PARQUET, Columns, check_apart, check_out, write_rows
from vaekit.data import Rows, StreamedRows
from vaekit.distributed import World
from vaekit.errors import ConfigError, VaekitError
from vaekit.files import sweep, sync_folder, temporary
from vaekit.models.generative import BLOCK, in_blocks
from vaekit.runs import TrainedRun, check_same_run, open_rows, posterior_moments

AT_A_TIME = 4 * BLOCK  # rows read and shown to the model
CODES = (*ARRAYS, PARQUET)
KEPT = {  # what goes into a file by its ending, and the names that it has there
    ".npy": {"mean": "mean"},
    ".npz": {"mean": "mean", "scale": "scale", "label": "label"},
    ".csv": {"mean": "z", "label": "label"},
    PARQUET: {"row": "row", "mean": "z", "scale": "scale", "label": "label"},
}


def encode_command(
    folder: Path, data: str | None, out: Path, weights: str | None, as_json: bool, force: bool = False
) -> None:
    world = World.join()
    _check(out, world, force)
    opened, device = open_on_device(folder, weights)
    check_apart(out, opened.folder.path, opened.run.data.source, data)
    rows = open_rows(opened, data).to(device)
    check_same_run(world, opened, None if data is None else rows)
    mine = world.share(len(rows), AT_A_TIME)
    with progress("encoding", mine.stop - mine.start) as advance:
        names = KEPT[out.suffix.lower()]
        blocks = (
            {names[name]: values for name, values in block.items() if name in names}
            for block in _codes(opened, rows, mine, advance)
        )
        if world.size > 1:
            _write_parts(out, blocks, mine.stop - mine.start, world)
        else:
            write_rows(out, blocks, len(rows))
    world.wait()
    if world.leads:
        say_done(as_json, out, len(rows), f"q(z|x), {sum(map(math.prod, opened.latent_shapes))} latents")


def _check(out: Path, world: World, force: bool) -> None:
    """Refuse what cannot be written, before any work is done."""
    if world.size == 1:
        return check_out(out, CODES, force)
    if os.path.lexists(out):
        raise ConfigError(
            f"--out is {out}, which exists, and {world.size} processes write a folder of parts: remove it, or give "
            "another name"
        )
    check_out(out, CODES)
    if out.suffix.lower() != PARQUET:
        raise ConfigError(
            f"--out is {out}: {world.size} processes write a Parquet part each, into a folder; end its name in .parquet"
        )


def _codes(
    opened: TrainedRun, rows: Rows | StreamedRows, part: slice, advance: Callable[[int], object]
) -> Iterator[Columns]:
    """Row numbers, posterior means (of a discrete z the most probable value) and scales, and labels where there are
    any, a block at a time."""
    for start in range(part.start, part.stop, AT_A_TIME):
        index = slice(start, min(start + AT_A_TIME, part.stop))
        told = rows.context_of(index)
        mean, scale = in_blocks(
            partial(posterior_moments, opened.model), rows.batch(index), *(() if told is None else (told,))
        )
        columns = {"row": np.arange(index.start, index.stop), "mean": mean.cpu().numpy(), "scale": scale.cpu().numpy()}
        if rows.labels is not None:
            columns["label"] = rows.labels[index].cpu().numpy()
        yield columns
        advance(index.stop - index.start)


def _write_parts(out: Path, blocks: Iterator[Columns], rows: int, world: World) -> None:
    """A folder with a part of each process: whole or not at all."""
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
