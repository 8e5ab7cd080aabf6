"""`vaekit sample`: new rows from a trained model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaekit.cli.console import print_json, print_written, progress
from vaekit.cli.console.options import (
    Force,
    Json,
    Out,
    RunPath,
    Weights,
    WholeNumber,
    check_at_least,
    check_one_process,
)
from vaekit.cli.console.pipes import piped

if TYPE_CHECKING:
    import numpy as np


def sample(
    run: RunPath,
    /,
    *,
    n: Annotated[WholeNumber, Parameter(name=["-n", "--number"])] = 64,
    out: Out,
    label: str | None = None,
    given: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    source: Annotated[str, Parameter(name="--from")] = "prior",
    temperature: float = 1.0,
    mean: Annotated[bool | None, Parameter(negative="--draw", show_default=False)] = None,
    seed: WholeNumber = 0,
    data: str | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw new rows from the model: z from the prior or another source, then x from p(x|z).

    For example:

        vaekit sample runs/digits-1 -n 64 --out samples.png
        vaekit sample runs/digits-1 -n 1000 --out samples.npy
        vaekit sample runs/digits-1 --from mixture --temperature 0.8 --draw --out samples.png

    Args:
        n: How many.
        out: File to write: .png (a grid of images), .npy, .npz, .csv, .parquet or .feather (as the data is
            stored; a cell is missing only under a likelihood that draws holes), .wav (of a model of recordings, one
            after another); - is a table on stdout.
        label: The label to condition on, for a model trained with data.context=label; by default every label in turn,
            or, where it is a column of a table, that of training rows at random.
        given: Values of columns that all rows have, as sex=Female age=40: of a table, the others are drawn as they are
            beside these; of a model trained with data.context, values of that, of which those not given are missing,
            and by default all are those of training rows at random. They are columns of the table that is written.
        source: Where z comes from: prior; aggregated (q(z|x) of random training rows); mixture or flow, fitted to the
            codes of the training rows when first used, and kept in the run folder; or a sampler of an installed
            package.
        temperature: Multiplies the standard deviation of the Gaussian noise behind z: of the prior, of each component
            of a mixture or each q(z|x) around its own mean, or of what a flow transforms; in a hierarchical VAE, of
            every group of latents.
        mean: Write the mean of p(x|z), as is done by default for pictures (.png) of anything but tables, or a draw
            from it, as otherwise: a draw has noise of its own in every pixel.
        seed: Of the draw.
        data: Where the data that the run was trained on lies now, if it has moved; for --from aggregated, mixture and
            flow, and for the context of training rows.
    """
    with piped(None, out, json) as (_, out):
        _sample(run, n, out, label, given, source, temperature, mean, seed, weights, json, force, data)


def _sample(
    folder: Path,
    n: int,
    out: Path,
    label: str | None,
    given: tuple[str, ...],
    source: str,
    temperature: float,
    mean: bool | None,
    seed: int,
    weights: str | None,
    as_json: bool,
    force: bool,
    data: str | None,
) -> None:
    import torch

    from vaekit.cli.console.context import (
        check_only_given,
        context_of_samples,
        naming_given,
        values_given,
        with_columns_given,
    )
    from vaekit.cli.console.request import open_on_device, sampler_named
    from vaekit.cli.console.writing import (
        ARRAYS,
        AT_A_TIME,
        CSV,
        FEATHER,
        PARQUET,
        WAV,
        check_apart,
        check_out,
        check_pictured,
        write_x,
    )
    from vaekit.randomness import Purpose, new_generator
    from vaekit.runs import sampling
    from vaekit.uses import synthesise

    check_one_process("sample")
    check_at_least(1, number=n)
    check_at_least(0, seed=seed)
    sampler = sampler_named(source)
    check_out(out, (".png", *ARRAYS, WAV), force)
    trained, device = open_on_device(folder, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source, data)
    check_pictured(out, n, trained.schema)
    if mean is None:  # draws of pixels are noise to the eye, and means of a table's columns are no rows
        mean = out.suffix.lower() == ".png" and trained.schema.kind != "table"
    sampled = sampling(trained, sampler, temperature, data)
    generator = new_generator(seed, Purpose.GENERATE, device=device)
    what = (
        f"{'means' if mean else 'draws'} of p(x|z), z from {sampled.source}, temperature {temperature:g}, seed {seed}"
    )
    by_columns = bool(given) and trained.schema.context is None and trained.schema.columns is not None
    columns = values_given(given) if by_columns else {}
    if by_columns:
        check_only_given(label, source, temperature, mean)
        context, in_words = None, f", given {', '.join(given)}"
    else:
        context, in_words = context_of_samples(trained, n, given, label, seed, data)
    what += in_words
    starts = range(0, n, AT_A_TIME)

    def blocks(advance: Callable[[int], object]) -> "Iterator[np.ndarray]":
        if by_columns:
            with naming_given():
                yield synthesise(trained, n, given=columns, seed=seed).cpu().numpy()
            advance(n)
            return
        for start in starts:
            rows = min(AT_A_TIME, n - start)
            some = None if context is None else context[start : start + rows].to(device)
            yield sampled.model.generate(rows, generator=generator, mean=mean, context=some).cpu().numpy()
            advance(rows)

    with progress("sampling", n) as advance, torch.no_grad():
        drawn = None if context is None or given else (context[at : at + AT_A_TIME].numpy() for at in starts)
        is_table = out.suffix.lower() in (CSV, PARQUET, FEATHER)
        write_x(out, with_columns_given(trained, given) if is_table else trained, blocks(advance), n, what, drawn)
    if not as_json:
        return print_written(False, out, n, what)
    print_json(
        {
            "out": str(out),
            "rows": n,
            "what": what,
            "from": source,
            "label": label,
            "given": list(given),
            "temperature": temperature,
            "mean": mean,
            "seed": seed,
            "weights": trained.weights,
            "fitted": sampled.facts or None,
        }
    )
