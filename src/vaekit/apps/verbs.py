"""The commands that use a trained run: evaluate, reconstruct, decode, report. See `codes` and `sampling` for others."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from vaekit.apps.asked import Asked, alone, at_least, check_samples, open_on_device
from vaekit.apps.codes import AT_A_TIME, read_latents
from vaekit.apps.output import ARRAYS, check_out, print_json, progress, say_done, write_array
from vaekit.apps.tables import numbers_table, print_facts, print_kl, print_warnings
from vaekit.apps.telling import context_of_latents
from vaekit.errors import ConfigError
from vaekit.evaluation import Estimate, baseline, evaluate, kl_per_dimension
from vaekit.models.blocks import in_blocks
from vaekit.models.conditional import Conditional
from vaekit.models.noise import Purpose, new_generator
from vaekit.report import captioned, reconstruct, reconstruction_picture, rows_picture, write_report
from vaekit.report.pictures import reconstructed_at
from vaekit.runs import Opened, open_rows
from vaekit.world import World


def evaluate_command(asked: Asked, as_json: bool) -> None:
    model, held, seed, world = asked.opened.model, asked.held, asked.seed, World.join()
    with asked.keeping("evaluation") as keep:
        with progress("evaluating", len(held) // world.size) as advance:
            estimates = evaluate(model, held, asked.samples, seed=seed, progress=advance, world=world, keep=keep)
        if asked.data is None and isinstance(model.likelihood, Conditional):
            noise = new_generator(seed, Purpose.BINARISE, 1, device=asked.device)
            few = asked.train.batch(asked.train.some(10_000), noise)
            estimates["baseline"] = baseline(model.likelihood, few, held, seed, world)
        kl = kl_per_dimension(model, held, world=world)
    if not world.leads:
        return None
    if as_json:
        nothing = Estimate(None, 0.0, len(held), "nats", "the KL of single dimensions has no closed form").as_dict()
        by_dimension = nothing if kl is None else [estimate.as_dict() for estimate in kl]
        plain = {name: estimate.as_dict() for name, estimate in estimates.items()}
        return print_json({**plain, "kl_per_dimension": by_dimension, **asked.facts})
    console = Console(highlight=False)
    print_facts(console, asked.facts)
    console.print(numbers_table(estimates))
    if kl is not None:
        print_kl(console, kl)
    print_warnings(console, estimates)


def reconstruct_command(
    folder: Path, data: str | None, out: Path, n: int | None, weights: str | None, as_json: bool
) -> None:
    alone("reconstruct")
    at_least(1, number=n)
    check_out(out, (".png", *ARRAYS))
    opened, device = open_on_device(folder, weights)
    rows = open_rows(opened, data).to(device)
    picture = out.suffix.lower() == ".png"
    n = min(n or (16 if picture else len(rows)), len(rows))
    if picture:
        first = slice(0, n)
        reconstruction_picture(opened.model, rows.batch(first), opened.schema, rows.context_of(first)).save(out)
    else:
        means = []
        with progress("reconstructing", n) as advance:
            for start in range(0, n, AT_A_TIME):
                index = slice(start, min(start + AT_A_TIME, n))
                x = rows.batch(index)
                means += [reconstruct(opened.model, x, rows.context_of(index))]
                advance(len(x))
        write_x(out, opened, np.concatenate(means))
    first = slice(0, 1)
    at = reconstructed_at(opened.model, rows.batch(first), rows.context_of(first))
    say_done(as_json, out, n, f"mean of p(x|z) at {at}")


def decode_command(
    folder: Path, latents: Path, out: Path, label: str | None, weights: str | None, as_json: bool
) -> None:
    alone("decode")
    check_out(out, (".png", *ARRAYS))
    opened, device = open_on_device(folder, weights)
    shapes = opened.latent_shapes
    z = torch.from_numpy(read_latents(latents, sum(map(math.prod, shapes)))).to(device)
    told, source = context_of_latents(opened, latents, label, len(z))
    given = (z,) if told is None else (z, told.to(device))

    def decoded(z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor]:
        parts = z.split([math.prod(shape) for shape in shapes], 1)
        groups = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
        return (opened.model.decode(groups, context).mean,)

    with progress("decoding", len(z)) as advance:
        blocks = []
        for parts in zip(*(tensor.split(AT_A_TIME) for tensor in given), strict=True):
            blocks += [in_blocks(decoded, *parts)[0].cpu()]
            advance(len(parts[0]))
    what = f"mean of p(x|z){source}"
    write_x(out, opened, torch.cat(blocks).numpy(), f"{what}, z from {latents.name}")
    say_done(as_json, out, len(z), what)


def report_command(folders: Sequence[Path], out: Path | None, samples: int, as_json: bool) -> None:
    alone("report")
    check_samples(samples)
    if not folders:
        raise ConfigError("no run: name one or more run folders, as in `vaekit report runs/digits-1`")
    if out is not None:
        check_out(out, (".html",))
    page = write_report(folders, out, samples)
    if as_json:
        return print_json({"page": str(page), "runs": [str(folder) for folder in folders]})
    Console(highlight=False).print(f"Wrote [bold]{page}[/] (open it in a browser; it needs no network)", soft_wrap=True)


def write_x(out: Path, opened: Opened, x: np.ndarray, caption: str = "") -> None:
    """Rows as the model sees them to a file, by its ending: a captioned picture, or values in the data's units."""
    if out.suffix.lower() == ".png":
        picture = rows_picture(x, opened.schema)
        (captioned(picture, caption) if caption else picture).save(out)
    else:
        write_array(out, {"x": opened.schema.to_stored(x)}, opened.schema.columns)
