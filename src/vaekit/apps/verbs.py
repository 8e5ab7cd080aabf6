"""The commands that use a trained run: evaluate, reconstruct, decode, report. See `codes` and `sampling` for others."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vaekit.apps.codes import AT_A_TIME, context_for, open_on_device, read_latents
from vaekit.apps.output import ARRAYS, check_out, print_json, progress, say_done, write_array
from vaekit.errors import ConfigError
from vaekit.evaluation import Estimate, baseline, evaluate, kl_per_dimension
from vaekit.models.blocks import in_blocks
from vaekit.models.conditional import Conditional
from vaekit.models.noise import Purpose, new_generator
from vaekit.report import captioned, reconstruct, reconstruction_picture, rows_picture, write_report
from vaekit.runs import Opened, open_rows, reopen
from vaekit.world import World


def evaluate_command(
    folder: Path,
    samples: int,
    data: str | None,
    split: str,
    rows: int | None,
    weights: str | None,
    seed: int,
    as_json: bool,
) -> None:
    at_least(1, samples=samples, rows=rows)
    at_least(0, seed=seed)
    opened, device = open_on_device(folder, weights)
    world = World.join()
    dataset = None if data else reopen(opened)
    held = (open_rows(opened, data) if dataset is None else getattr(dataset, split)).to(device)
    held = held if rows is None else held.take(rows)
    with progress("evaluating", len(held) // world.size) as advance:
        estimates = evaluate(opened.model, held, samples, seed=seed, progress=advance, world=world)
    likelihood = opened.model.likelihood
    if dataset is not None and isinstance(likelihood, Conditional):
        train = dataset.train.to(device)
        few = train.batch(train.some(10_000), new_generator(seed, Purpose.BINARISE, 1, device=device))
        estimates["baseline"] = baseline(likelihood, few, held, seed, world)
    kl = kl_per_dimension(opened.model, held, world=world)
    if not world.leads:
        return None
    facts = {
        "run": str(folder),
        "data": data or f"{opened.schema.name}, {split} rows",
        "protocol": opened.schema.protocol,
        "rows": len(held),
        "samples": samples,
        "seed": seed,
        "weights": opened.weights,
    }
    if as_json:
        nothing = Estimate(None, 0.0, len(held), "nats", "the KL of single dimensions has no closed form").as_dict()
        by_dimension = nothing if kl is None else [estimate.as_dict() for estimate in kl]
        plain = {name: estimate.as_dict() for name, estimate in estimates.items()}
        return print_json({**plain, "kl_per_dimension": by_dimension, **facts})
    _print_estimates(facts, estimates, kl)


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
    say_done(as_json, out, n, "mean of p(x|z) at the mean of q(z|x)")


def decode_command(
    folder: Path, latents: Path, out: Path, label: str | None, weights: str | None, as_json: bool
) -> None:
    alone("decode")
    check_out(out, (".png", *ARRAYS))
    opened, device = open_on_device(folder, weights)
    shapes, context = opened.latent_shapes, opened.schema.context
    if label is None and context is not None and context.kind == "label":
        raise ConfigError(f"{folder} was trained with data.context=label: say which with --label")
    z = torch.from_numpy(read_latents(latents, sum(map(math.prod, shapes)))).to(device)

    told = context_for(opened, label, len(z))
    given = () if told is None else (told.to(device),)

    def decoded(z: torch.Tensor, *told: torch.Tensor) -> tuple[torch.Tensor]:
        parts = z.split([math.prod(shape) for shape in shapes], 1)
        groups = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
        return (opened.model.decode(groups, *told).mean,)

    with progress("decoding", len(z)) as advance:
        blocks = []
        for parts in zip(*(whole.split(AT_A_TIME) for whole in (z, *given)), strict=True):
            blocks += [in_blocks(decoded, *parts)[0].cpu()]
            advance(len(parts[0]))
    write_x(out, opened, torch.cat(blocks).numpy())
    say_done(as_json, out, len(z), "mean of p(x|z)" + ("" if label is None else f", label {label}"))


def report_command(folders: Sequence[Path], out: Path | None, samples: int, as_json: bool) -> None:
    alone("report")
    at_least(1, samples=samples)
    if not folders:
        raise ConfigError("no run: name one or more run folders, as in `vaekit report runs/digits-1`")
    if out is not None:
        check_out(out, (".html",))
    page = write_report(folders, out, samples)
    if as_json:
        return print_json({"page": str(page), "runs": [str(folder) for folder in folders]})
    Console(highlight=False).print(f"Wrote [bold]{page}[/] (open it in a browser; it needs no network)", soft_wrap=True)


def write_x(out: Path, opened: Opened, x: np.ndarray, caption: str = "") -> None:
    """Rows as the model sees them to a file, by its ending: a picture, or values in the units of the data."""
    if out.suffix.lower() == ".png":
        picture = rows_picture(x, opened.schema)
        (captioned(picture, caption) if caption else picture).save(out)
    else:
        write_array(out, {"x": opened.schema.to_stored(x)}, opened.schema.columns)


def alone(verb: str) -> None:
    """Refuse several processes."""
    size = World.join().size
    if size > 1:
        raise ConfigError(f"`vaekit {verb}` works in one process, and torchrun has started {size}: leave torchrun out")


def at_least(least: int, **numbers: int | None) -> None:
    """Refuse options, by name, that are smaller."""
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ConfigError(f"--{name} is {number}: it should be at least {least}")


def _print_estimates(facts: dict[str, Any], estimates: dict[str, Estimate], kl: tuple[Estimate, ...] | None) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]{facts['run']}[/]: {facts['data']}, {facts['rows']} rows, K = {facts['samples']}", soft_wrap=True
    )
    console.print(f"  {facts['protocol']}; {facts['weights']['weights']} weights", style="dim", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("± s.e.", justify="right")
    table.add_column("unit")
    for name, estimate in estimates.items():
        value, error = estimate.numbers()
        table.add_row(LABELS.get(name, name), value, error, estimate.unit)
    console.print(table)
    if kl is not None:
        largest = sorted((e.value or 0.0 for e in kl), reverse=True)
        listed = " ".join(f"{value:.2f}" for value in largest)
        console.print(f"KL of each latent dimension, nats: {listed}", soft_wrap=True)
    for name, estimate in estimates.items():
        if estimate.warning:
            console.print(f"[yellow]{LABELS.get(name, name)}:[/] {estimate.warning}", soft_wrap=True)


LABELS = {
    "elbo": "ELBO",
    "log_likelihood": "log-likelihood (importance-weighted)",
    "bits_per_dim": "bits per dimension",
    "rate": "rate, KL(q(z|x) || p(z))",
    "distortion": "distortion, -E ln p(x|z)",
    "effective_samples": "effective samples",
    "active_units": "active units, by KL",
    "active_units_by_variance": "active units, by variance",
    "baseline": "baseline: independent dimensions, no z",
}
