"""`vaekit decode`: from latents in a file to rows."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.cli.console import print_written, progress
from vaekit.cli.console.options import Force, Json, Out, RunPath, Weights, check_one_process
from vaekit.cli.console.pipes import piped

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def decode(
    run: RunPath,
    latents: Path,
    /,
    *,
    out: Out,
    label: str | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the mean of p(x|z) for each z in a file.

    For example:

        vaekit decode runs/digits-1 codes.npz --out decoded.png
        vaekit decode runs/labels-1 codes.npz --label 7 --out sevens.png

    Args:
        latents: z as .npy (rows, latent), .npz (its array `mean` or `z`), .csv or .parquet (columns z0, z1, ..., in any
            order).
        out: File to write: .png, .npy, .npz, .csv, .parquet, .feather, or .wav of a
            model of recordings.
        label: The label to condition on, for a model trained with data.context=label; by default the label that the
            file has for each z.
    """
    with piped(str(latents), out, json) as (source, out):
        _decode(run, Path(source or latents), out, label, weights, json, force)


def _decode(
    folder: Path, latents: Path, out: Path, label: str | None, weights: str | None, as_json: bool, force: bool
) -> None:
    import torch

    from vaekit.cli.console.context import context_of_codes, context_of_rows
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import ARRAYS, AT_A_TIME, WAV, check_apart, check_out, check_pictured, write_x
    from vaekit.data import read_codes
    from vaekit.models.generative import in_blocks

    check_one_process("decode")
    check_out(out, (".png", *ARRAYS, WAV), force)
    trained, device = open_on_device(folder, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, latents)
    shapes = trained.latent_shapes
    codes = read_codes(latents, sum(map(math.prod, shapes)), with_labels=trained.schema.context is not None)
    check_pictured(out, len(codes), trained.schema)
    classes, source = context_of_codes(trained, codes, label)

    def decode_block(z: "Tensor", context: "Tensor | None" = None) -> "tuple[Tensor]":
        flat = z.split([math.prod(shape) for shape in shapes], 1)
        groups = [group.unflatten(1, shape) for group, shape in zip(flat, shapes, strict=True)]
        return (trained.model.decode(groups, context).mean,)

    def blocks(advance: Callable[[int], object]) -> "Iterator[np.ndarray]":
        start = 0
        for z in (part for block in codes.blocks() for part in torch.from_numpy(block).split(AT_A_TIME)):
            stop = start + len(z)
            context = context_of_rows(trained, label, range(start, stop))
            if classes is not None and context is not None:
                context = torch.eye(context.shape[1])[torch.from_numpy(classes[start:stop])]
            inputs = (z,) if context is None else (z, context)
            yield in_blocks(decode_block, *(part.to(device) for part in inputs))[0].cpu().numpy()
            advance(len(z))
            start = stop

    what = f"mean of p(x|z){source}"
    with progress("decoding", len(codes)) as advance, torch.no_grad():
        write_x(out, trained, blocks(advance), len(codes), f"{what}, z from {latents.name}")
    print_written(as_json, out, len(codes), what)
