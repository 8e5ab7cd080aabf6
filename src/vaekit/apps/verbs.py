"""The commands that use a trained run: evaluate, sample, reconstruct, encode, decode, report."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from vaekit.apps.output import ARRAYS, check_out, print_json, write_array
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import Estimate, baseline, evaluate, kl_per_dimension
from vaekit.models.conditional import Conditional
from vaekit.models.noise import Purpose, new_generator
from vaekit.report import reconstruct, reconstruction_picture, rows_picture, write_report
from vaekit.runs import Opened, open_rows, open_run, reopen

BLOCK = 500  # rows


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
    _at_least(1, samples=samples, rows=rows)
    _at_least(0, seed=seed)
    opened, device = _open(folder, weights)
    dataset = None if data else reopen(opened)
    held = (open_rows(opened, data) if dataset is None else getattr(dataset, split)).to(device)
    x = held.batch(slice(0, min(rows or len(held), len(held))), new_generator(seed, Purpose.BINARISE, device=device))
    with _progress("evaluating", len(x)) as advance:
        estimates = evaluate(opened.model, x, samples, seed=seed, progress=advance)
    likelihood = opened.model.likelihood
    if dataset is not None and isinstance(likelihood, Conditional):
        train = dataset.train.to(device)
        few = train.batch(train.some(10_000), new_generator(seed, Purpose.BINARISE, 1, device=device))
        estimates["baseline"] = baseline(likelihood, few, x)
    kl = kl_per_dimension(opened.model, x)
    facts = {
        "run": str(folder),
        "data": data or f"{opened.schema.name}, {split} rows",
        "protocol": opened.schema.protocol,
        "rows": len(x),
        "samples": samples,
        "seed": seed,
        "weights": opened.weights,
    }
    if as_json:
        nothing = Estimate(None, 0.0, len(x), "nats", "the KL of single dimensions has no closed form").as_dict()
        by_dimension = nothing if kl is None else [estimate.as_dict() for estimate in kl]
        plain = {name: estimate.as_dict() for name, estimate in estimates.items()}
        return print_json({**plain, "kl_per_dimension": by_dimension, **facts})
    _print_estimates(facts, estimates, kl)


def sample_command(folder: Path, n: int, out: Path, mean: bool, seed: int, weights: str | None, as_json: bool) -> None:
    _at_least(1, number=n)
    _at_least(0, seed=seed)
    check_out(out, (".png", *ARRAYS))
    opened, device = _open(folder, weights)
    generator = new_generator(seed, Purpose.GENERATE, device=device)
    with _progress("sampling", n) as advance:
        blocks = []
        for start in range(0, n, BLOCK):
            blocks += [opened.model.generate(min(BLOCK, n - start), generator=generator, mean=mean).cpu()]
            advance(min(BLOCK, n - start))
    _write_x(out, opened, torch.cat(blocks).numpy())
    what = "means of p(x|z)" if mean else "draws of p(x|z)"
    _done(as_json, out, n, f"{what}, z from the prior, seed {seed}")


def reconstruct_command(
    folder: Path, data: str | None, out: Path, n: int | None, weights: str | None, as_json: bool
) -> None:
    _at_least(1, number=n)
    check_out(out, (".png", *ARRAYS))
    opened, device = _open(folder, weights)
    rows = open_rows(opened, data).to(device)
    picture = out.suffix.lower() == ".png"
    n = min(n or (16 if picture else len(rows)), len(rows))
    if picture:
        reconstruction_picture(opened.model, rows.batch(slice(0, n)), opened.schema).save(out)
    else:
        means = []
        with _progress("reconstructing", n) as advance:
            for start in range(0, n, BLOCK):
                x = rows.batch(slice(start, min(start + BLOCK, n)))
                means += [reconstruct(opened.model, x)]
                advance(len(x))
        _write_x(out, opened, np.concatenate(means))
    _done(as_json, out, n, "mean of p(x|z) at the mean of q(z|x)")


def encode_command(folder: Path, data: str | None, out: Path, weights: str | None, as_json: bool) -> None:
    check_out(out, ARRAYS)
    opened, device = _open(folder, weights)
    rows = open_rows(opened, data).to(device)
    means, scales = [], []
    with _progress("encoding", len(rows)) as advance:
        for start in range(0, len(rows), BLOCK):
            x = rows.batch(slice(start, min(start + BLOCK, len(rows))))
            (q,) = opened.model.encode(x).posteriors
            means += [q.mean.cpu()]
            scales += [q.stddev.cpu()]
            advance(len(x))
    columns = {"mean": torch.cat(means).numpy(), "scale": torch.cat(scales).numpy()}
    if out.suffix.lower() == ".csv":
        columns = {"z": columns["mean"]}
    if rows.labels is not None:
        columns["label"] = rows.labels.cpu().numpy()
    write_array(out, columns)
    _done(as_json, out, len(rows), f"q(z|x), {opened.run.model.latent} latents")


def decode_command(folder: Path, latents: Path, out: Path, weights: str | None, as_json: bool) -> None:
    check_out(out, (".png", *ARRAYS))
    opened, device = _open(folder, weights)
    z = torch.from_numpy(read_latents(latents, opened.run.model.latent)).to(device)
    with _progress("decoding", len(z)) as advance:
        blocks = []
        for part in z.split(BLOCK):
            blocks += [opened.model.decode((part,)).mean.cpu()]
            advance(len(part))
    _write_x(out, opened, torch.cat(blocks).numpy())
    _done(as_json, out, len(z), "mean of p(x|z)")


def report_command(folders: Sequence[Path], out: Path | None, samples: int, as_json: bool) -> None:
    _at_least(1, samples=samples)
    if not folders:
        raise ConfigError("no run: name one or more run folders, as in `vaekit report runs/digits-1`")
    if out is not None:
        check_out(out, (".html",))
    page = write_report(folders, out, samples)
    if as_json:
        return print_json({"page": str(page), "runs": [str(folder) for folder in folders]})
    Console(highlight=False).print(f"Wrote [bold]{page}[/] (open it in a browser; it needs no network)", soft_wrap=True)


def read_latents(path: Path, size: int) -> np.ndarray:
    """z (rows, size) as float32, from the files that `encode` writes.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = next((arrays[name] for name in ("mean", "z", *arrays.files) if name in arrays), None)
        elif path.suffix.lower() == ".csv":
            from pyarrow import csv

            table = csv.read_csv(path)
            columns = [name for name in table.column_names if name != "label"]
            found = np.stack([table[name].to_numpy() for name in columns], 1)
        else:
            found = np.load(path, allow_pickle=False)
        z = np.asarray(found, dtype=np.float32)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read latents from {path}: {reason}; give a .npy, .npz or .csv of numbers") from None
    if z.ndim != 2 or z.shape[1] != size or len(z) == 0:
        raise DataError(f"{path} holds an array of shape {z.shape}; this model's z needs (rows, {size})")
    if not np.isfinite(z).all():
        raise DataError(
            f"{path} holds a value that is not finite, first in row {int(np.argwhere(~np.isfinite(z))[0][0])}"
        )
    return z


def _open(folder: Path, weights: str | None) -> tuple[Opened, torch.device]:
    opened = open_run(folder, weights)
    device = torch.device("cuda" if torch.cuda.is_available() and opened.run.train.device != "cpu" else "cpu")
    opened.model.to(device).requires_grad_(False)
    return opened, device


def _write_x(out: Path, opened: Opened, x: np.ndarray) -> None:
    if out.suffix.lower() == ".png":
        rows_picture(x, opened.schema).save(out)
    else:
        write_array(out, {"x": opened.schema.to_stored(x)}, opened.schema.columns)


def _at_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ConfigError(f"--{name} is {number}: it should be at least {least}")


def _done(as_json: bool, out: Path, n: int, what: str) -> None:
    if as_json:
        return print_json({"out": str(out), "rows": n, "what": what})
    Console(highlight=False).print(f"Wrote [bold]{out}[/]: {n} rows, {what}", soft_wrap=True)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Any]:
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


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
