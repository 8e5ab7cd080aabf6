"""`vaekit sample`: new rows from a trained model, from whichever source of z, with words that say which."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from vaekit.cli.encode import AT_A_TIME
from vaekit.cli.evaluate import check_pictured, write_x
from vaekit.cli.output import print_json, progress, say_done
from vaekit.cli.progress import context_for
from vaekit.cli.request import alone, at_least, open_on_device
from vaekit.cli.writing import ARRAYS, check_apart, check_out
from vaekit.randomness import Purpose, new_generator
from vaekit.report.pictures import told_in_words
from vaekit.runs.samplers import sampling
from vaekit.samplers import Sampler
from vaekit.samplers.aggregated import FromAggregated
from vaekit.samplers.flow import FromFlow
from vaekit.samplers.mixture import FromMixture
from vaekit.samplers.prior import FromPrior

SAMPLERS: dict[str, Sampler] = {
    sampler.kind: sampler for sampler in (FromPrior(), FromAggregated(), FromMixture(), FromFlow())
}


def sample_command(
    folder: Path,
    n: int,
    out: Path,
    label: str | None,
    source: str,
    temperature: float,
    mean: bool,
    seed: int,
    weights: str | None,
    as_json: bool,
    force: bool = False,
    data: str | None = None,
) -> None:
    alone("sample")
    at_least(1, number=n)
    at_least(0, seed=seed)
    check_out(out, (".png", *ARRAYS), force)
    opened, device = open_on_device(folder, weights)
    check_apart(out, opened.folder.path, opened.run.data.source, data)
    check_pictured(out, n, opened.schema)
    chosen = sampling(opened, SAMPLERS[source], temperature, data)
    generator = new_generator(seed, Purpose.GENERATE, device=device)
    what = f"{'means' if mean else 'draws'} of p(x|z), z from {chosen.source}, temperature {temperature:g}, seed {seed}"
    what += told_in_words(opened.schema) if label is None else f", label {label}"

    def drawn(advance: Callable[[int], object]) -> Iterator[np.ndarray]:
        for start in range(0, n, AT_A_TIME):
            rows = range(start, min(start + AT_A_TIME, n))
            told = context_for(opened, label, rows)
            told = None if told is None else told.to(device)
            yield chosen.model.generate(len(rows), generator=generator, mean=mean, context=told).cpu().numpy()
            advance(len(rows))

    with progress("sampling", n) as advance, torch.no_grad():
        write_x(out, opened, drawn(advance), n, what)
    if not as_json:
        return say_done(False, out, n, what)
    settings = {
        "from": source,
        "label": label,
        "temperature": temperature,
        "mean": mean,
        "seed": seed,
        "weights": opened.weights,
    }
    print_json(
        {
            "out": str(out),
            "rows": n,
            "what": what,
            **settings,
            "fitted": chosen.facts or None,
        }
    )
