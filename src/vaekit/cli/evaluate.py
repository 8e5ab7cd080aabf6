"""The commands that use a trained run: evaluate, reconstruct, decode, report. See `codes` and `sampling` for others."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

from vaekit.cli.encode import AT_A_TIME
from vaekit.cli.output import print_json, progress, say_done
from vaekit.cli.progress import context_for, context_of_codes
from vaekit.cli.request import EvaluationRequest, alone, at_least, check_samples, open_on_device
from vaekit.cli.tables import print_facts, print_kl, print_numbers, print_warnings
from vaekit.cli.writing import ARRAYS, PARQUET, check_apart, check_out, write_picture, write_rows
from vaekit.data import Schema, read_codes
from vaekit.distributed import World
from vaekit.errors import ConfigError
from vaekit.evaluation import Estimate, baseline, evaluate, kl_per_dimension
from vaekit.models.conditional import Conditional
from vaekit.models.generative import in_blocks
from vaekit.randomness import Purpose, new_generator
from vaekit.report import captioned, reconstruct, reconstruction_picture, rows_picture
from vaekit.report.pictures import most_pictured, reconstructed_at
from vaekit.runs import TrainedRun, check_same_run, open_rows
from vaekit.runs.trained_run import read_run
from vaekit.training import RunFolder

EACH_ROW = (".csv", ".npz", PARQUET)  # files that hold several columns by name


def evaluate_command(asked: EvaluationRequest, as_json: bool, out: Path | None = None, force: bool = False) -> None:
    world = World.join()
    if out is not None and world.leads:
        check_out(out, EACH_ROW, force)
        check_apart(out, asked.folder, asked.opened.run.data.source, asked.data)
    model, held, seed = asked.opened.model, asked.held, asked.seed
    check_same_run(world, asked.opened, None if asked.is_own else held)

    def write_each(found: Mapping[str, np.ndarray]) -> None:
        if out is not None and world.leads:
            labels = {} if held.labels is None else {"label": held.labels.cpu().numpy()}
            write_rows(out, [{"row": np.arange(len(held)), **found, **labels}], len(held))

    with asked.keeping("evaluation") as keep:
        with progress("evaluating", len(held) // world.size) as advance:
            estimates = evaluate(
                model, held, asked.samples, seed=seed, progress=advance, world=world, keep=keep, each=write_each
            )
        if asked.is_own and isinstance(model.likelihood, Conditional):
            noise = new_generator(seed, Purpose.BASELINE, device=asked.device)
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
    print_numbers(console, estimates)
    if kl is not None:
        print_kl(console, kl)
    print_warnings(console, estimates)


def reconstruct_command(
    folder: Path, data: str | None, out: Path, n: int | None, weights: str | None, as_json: bool, force: bool = False
) -> None:
    alone("reconstruct")
    at_least(1, number=n)
    check_out(out, (".png", *ARRAYS), force)
    opened, device = open_on_device(folder, weights)
    check_apart(out, opened.folder.path, opened.run.data.source, data)
    rows = open_rows(opened, data).to(device)
    picture = out.suffix.lower() == ".png"
    n = min(n or (16 if picture else len(rows)), len(rows))
    check_pictured(out, 2 * n, opened.schema)
    if picture:
        first = slice(0, n)
        write_picture(
            out, reconstruction_picture(opened.model, rows.batch(first), opened.schema, rows.context_of(first))
        )
    else:

        def means(advance: Callable[[int], object]) -> Iterator[np.ndarray]:
            for start in range(0, n, AT_A_TIME):
                index = slice(start, min(start + AT_A_TIME, n))
                yield reconstruct(opened.model, rows.batch(index), rows.context_of(index))
                advance(index.stop - start)

        with progress("reconstructing", n) as advance:
            write_x(out, opened, means(advance), n)
    first = slice(0, 1)
    at = reconstructed_at(opened.model, rows.batch(first), rows.context_of(first))
    say_done(as_json, out, n, f"mean of p(x|z) at {at}")


def decode_command(
    folder: Path, latents: Path, out: Path, label: str | None, weights: str | None, as_json: bool, force: bool = False
) -> None:
    alone("decode")
    check_out(out, (".png", *ARRAYS), force)
    opened, device = open_on_device(folder, weights)
    check_apart(out, opened.folder.path, opened.run.data.source, latents)
    shapes = opened.latent_shapes
    codes = read_codes(latents, sum(map(math.prod, shapes)), with_labels=opened.schema.context is not None)
    check_pictured(out, len(codes), opened.schema)
    classes, source = context_of_codes(opened, codes, label)

    def decoded(z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor]:
        parts = z.split([math.prod(shape) for shape in shapes], 1)
        groups = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
        return (opened.model.decode(groups, context).mean,)

    def means(advance: Callable[[int], object]) -> Iterator[np.ndarray]:
        start = 0
        for z in (part for block in codes.blocks() for part in torch.from_numpy(block).split(AT_A_TIME)):
            stop = start + len(z)
            told = context_for(opened, label, range(start, stop))
            if classes is not None and told is not None:
                told = torch.eye(told.shape[1])[torch.from_numpy(classes[start:stop])]
            given = (z,) if told is None else (z, told)
            yield in_blocks(decoded, *(part.to(device) for part in given))[0].cpu().numpy()
            advance(len(z))
            start = stop

    what = f"mean of p(x|z){source}"
    with progress("decoding", len(codes)) as advance, torch.no_grad():
        write_x(out, opened, means(advance), len(codes), f"{what}, z from {latents.name}")
    say_done(as_json, out, len(codes), what)


def report_command(
    folders: Sequence[Path],
    out: Path | None,
    samples: int,
    as_json: bool,
    force: bool = False,
    full_paths: bool = False,
) -> None:
    alone("report")
    check_samples(samples)
    if not folders:
        raise ConfigError("no run: name one or more run folders, as in `vaekit report runs/digits-1`")
    if out is not None:
        check_out(out, (".html",), force)
        for folder in map(RunFolder, folders):
            source = read_run(folder)[0].data.source
            for part in (out, out.with_suffix("")):  # the page, and the folder of its pictures
                check_apart(part, folder.path, source)
    from vaekit.report import write_report  # brings matplotlib, which no other verb here needs

    page = write_report(folders, out, samples, full_paths=full_paths)
    if as_json:
        return print_json({"page": str(page), "runs": [str(folder) for folder in folders]})
    Console(highlight=False).print(
        f"Wrote [bold]{escape(str(page))}[/] (open it in a browser; it needs no network)", soft_wrap=True
    )


def write_x(out: Path, opened: TrainedRun, blocks: Iterable[np.ndarray], rows: int, caption: str = "") -> None:
    """Rows as the model sees them, in blocks, to a file, by its ending: a captioned picture, or values in the data's
    units."""
    schema = opened.schema
    if out.suffix.lower() == ".png":
        picture = rows_picture(np.concatenate(list(blocks)), schema)
        write_picture(out, captioned(picture, caption) if caption else picture)
    else:
        write_rows(out, ({"x": schema.to_stored(x)} for x in blocks), rows, schema.columns)


def check_pictured(out: Path, n: int, schema: Schema) -> None:
    """Refuse a picture of more rows than can be looked at."""
    if out.suffix.lower() == ".png" and n > (most := most_pictured(schema)):
        raise ConfigError(
            f"--out is {out}, a picture, and {n:,} rows are too many for one: at most {most:,} are shown; give "
            "--number, or write numbers, as .npy"
        )
