"""`vaekit encode`, and codes read back: arrays, tables, and Parquet written part by part by several processes."""

import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import torch
from pyarrow import csv, parquet

from vaekit.apps.asked import open_on_device
from vaekit.apps.output import ARRAYS, check_out, progress, say_done, write_array
from vaekit.data import Rows, StreamedRows
from vaekit.errors import ConfigError, DataError
from vaekit.models import Model
from vaekit.models.blocks import BLOCK, in_blocks
from vaekit.models.codes import centre
from vaekit.runs import Opened, open_rows
from vaekit.world import World

AT_A_TIME = 4 * BLOCK  # rows read and shown to the model
PARQUET = ".parquet"
CODES = (*ARRAYS, PARQUET)
Columns = dict[str, np.ndarray]


def encode_command(folder: Path, data: str | None, out: Path, weights: str | None, as_json: bool) -> None:
    world = World.join()
    _check(out, data, world)
    opened, device = open_on_device(folder, weights)
    rows = open_rows(opened, data).to(device)
    mine = world.share(len(rows), AT_A_TIME)
    with progress("encoding", mine.stop - mine.start) as advance:
        parts = _codes(opened, rows, mine, advance)
        if out.suffix.lower() == PARQUET:
            _write_parquet(out, parts, world)
        else:
            parts = list(parts)
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "row"}
            if out.suffix.lower() == ".csv":
                columns = {"z": columns.pop("mean")} | {k: v for k, v in columns.items() if k == "label"}
            write_array(out, columns)
    world.wait()
    if world.leads:
        say_done(as_json, out, len(rows), f"q(z|x), {sum(map(math.prod, opened.latent_shapes))} latents")


def read_latents(path: Path, size: int) -> np.ndarray:
    """z (rows, size) as float32, from the files that `encode` writes.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        z = np.asarray(_read(path), dtype=np.float32)
    except (OSError, ValueError, TypeError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        give = "give a .npy, .npz, .csv or .parquet of numbers"
        raise DataError(f"cannot read latents from {path}: {reason}; {give}") from None
    if z.ndim != 2 or z.shape[1] != size or len(z) == 0:
        raise DataError(f"{path} holds an array of shape {z.shape}; this model's z needs (rows, {size})")
    if not np.isfinite(z).all():
        row = int(np.argwhere(~np.isfinite(z))[0][0])
        raise DataError(f"{path} holds a value that is not finite, first in row {row}")
    return z


def read_labels(path: Path) -> np.ndarray | None:
    """The labels (rows,) by number that `encode` writes beside codes, where a file that `read_latents` took has any."""
    match path.suffix.lower():
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return arrays.get("label")
        case ".csv" | ".parquet" as ending:
            table = csv.read_csv(path) if ending == ".csv" else parquet.read_table(path)
            return table["label"].to_numpy() if "label" in table.column_names else None
        case _:
            return None


def _read(path: Path) -> np.ndarray:
    match path.suffix.lower():
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return next(arrays[name] for name in ("mean", "z", *arrays.files) if name in arrays)
        case ".csv":
            table = csv.read_csv(path)
            return np.stack([table[name].to_numpy() for name in table.column_names if name != "label"], 1)
        case ".parquet":
            table = parquet.read_table(path)
            return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("z")], 1)
        case _:
            return np.load(path, allow_pickle=False)


def _check(out: Path, data: str | None, world: World) -> None:
    """Refuse what cannot be written, before any work is done."""
    if data is not None and out.exists() and Path(data).exists() and out.samefile(data):
        raise ConfigError(f"--out is {out}, which is the data: give another name")
    if world.size == 1:
        return check_out(out, CODES)
    check_out(out.with_name(f"{out.stem}-parts{out.suffix}"), CODES)  # a folder of parts may be replaced by another
    if out.suffix.lower() != PARQUET:
        raise ConfigError(
            f"--out is {out}: {world.size} processes write a Parquet part each, into a folder; end its name in .parquet"
        )
    if out.exists() and not (out.is_dir() and all(p.match("part-*.parquet") for p in out.iterdir())):
        raise ConfigError(
            f"--out is {out}, which is there and is not a folder of parts, as {world.size} processes write it: give "
            "another name"
        )


def _codes(
    opened: Opened, rows: Rows | StreamedRows, part: slice, advance: Callable[[int], object]
) -> Iterator[Columns]:
    """Row numbers, posterior means (of a discrete z the most probable value) and scales, and labels where there are
    any, a block at a time."""
    for start in range(part.start, part.stop, AT_A_TIME):
        index = slice(start, min(start + AT_A_TIME, part.stop))
        told = rows.context_of(index)
        mean, scale = in_blocks(partial(_moments, opened.model), rows.batch(index), *(() if told is None else (told,)))
        columns = {"row": np.arange(index.start, index.stop), "mean": mean.cpu().numpy(), "scale": scale.cpu().numpy()}
        if rows.labels is not None:
            columns["label"] = rows.labels[index].cpu().numpy()
        yield columns
        advance(index.stop - index.start)


def _moments(model: Model, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    posteriors = model.encode(x, context).posteriors
    mean, scale = (
        torch.cat([part.flatten(1) for part in parts], 1)
        for parts in ([centre(q) for q in posteriors], [q.stddev for q in posteriors])
    )
    return mean, scale


def _write_parquet(out: Path, blocks: Iterator[Columns], world: World) -> None:
    """One file, or with several processes a folder with a part of each: whole or not at all."""
    token = world.agree(secrets.token_hex(4))
    aside = out.with_name(f".{out.name}.{token}.tmp")
    part = aside
    if world.size > 1:
        part = aside / f"part-{world.rank:05d}-of-{world.size:05d}.parquet"
        if world.leads:
            aside.mkdir()
        world.wait()
    try:
        writer = None
        for block in blocks:
            table = _table(block)
            writer = writer or parquet.ParquetWriter(part, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
        world.wait()
    except BaseException:
        part.unlink(missing_ok=True)
        if world.leads:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    if world.leads:
        _replace(aside, out)


def _replace(aside: Path, out: Path) -> None:
    """Put a file or a folder in the place of an older one."""
    if aside.is_dir() and out.exists():
        old = out.with_name(f"{aside.name}.old")
        os.rename(out, old)
        os.rename(aside, out)
        shutil.rmtree(old)
    else:
        os.replace(aside, out)


def _table(columns: Columns) -> pyarrow.Table:
    plain = {"row": columns["row"]}
    for name, prefix in (("mean", "z"), ("scale", "scale")):
        plain |= {f"{prefix}{i}": column for i, column in enumerate(columns[name].reshape(len(columns[name]), -1).T)}
    if "label" in columns:
        plain["label"] = columns["label"]
    return pyarrow.table({name: np.ascontiguousarray(values) for name, values in plain.items()})
