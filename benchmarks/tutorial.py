"""The tutorial's program against `--preset tutorial`, on the same images: do they agree, and what do the mends give?

    python benchmarks/tutorial.py --write docs/tutorial.md

Needs MNIST in $VAEKIT_DATA or a network to fetch it.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tutorial_program
from facts import mean_and_error, provenance, table
from torch import Tensor

from vaekit.models import VAE
from vaekit.runs import Job, make_run, override, preset

AS_THE_PROGRAM = ["model.bias_start=false", "train.weights=last", "train.patience=null"]
NOISE_DRAWS = 1000  # of z for each validation image
MOST_ERRORS, MOST_NATS = 2.0, 1.0


@dataclass(frozen=True)
class Result:
    """Losses in nats for each image: the last epoch's mean in training, and that of the validation images after it."""

    train: float
    valid: float
    epochs: int
    seconds: float


def start(seed: int, settings: list[str]) -> Job:
    return Job.start(make_run(override(preset("tutorial"), [f"seed={seed}", f"data.seed={seed}", *settings])))


def images(job: Job) -> tuple[Tensor, Tensor]:
    """The run's own training and validation images, (rows, 784)."""
    data = job.data
    return tuple(rows.batch(slice(0, len(rows))).flatten(1).cpu() for rows in (data.train, data.valid))


def noise(rows: int, latent: int, seed: int) -> Tensor:
    return torch.randn(NOISE_DRAWS, rows, latent, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def program_loss(model: tutorial_program.Vae, x: Tensor, eps: Tensor) -> float:
    return -sum(model.elbo(x, e).mean().item() for e in eps) / len(eps)


@torch.no_grad()
def vaekit_loss(model: VAE, x: Tensor, eps: Tensor) -> float:
    return -sum(model.draw(x, noise=[e[None]]).log_w.mean().item() for e in eps) / len(eps)


def train_program(seed: int) -> Result:
    train, valid = images(start(seed, AS_THE_PROGRAM))
    began = time.perf_counter()
    model, history = tutorial_program.run(train, valid, seed)
    seconds = time.perf_counter() - began
    if history.failure:
        raise RuntimeError(f"the tutorial's program failed at {history.failure}")
    eps = noise(len(valid), 16, seed)
    return Result(history.train[-1], program_loss(model, valid, eps), len(history.train), seconds)


def train_vaekit(seed: int, settings: list[str]) -> Result:
    job = start(seed, settings)
    began, best, chosen, epochs = time.perf_counter(), -math.inf, 0.0, 0
    for event in job.events():
        if event.kind == "epoch":
            epochs = event.epoch
            # the epoch whose weights the run hands on
            if job.run.train.weights == "last" or event.metrics["valid_elbo"] > best:
                best, chosen = event.metrics["valid_elbo"], event.metrics["train_loss"]
    seconds = time.perf_counter() - began
    x = job.data.valid.batch(slice(0, len(job.data.valid)))
    loss = vaekit_loss(job.model.eval(), x, noise(len(x), job.run.model.latent, seed))
    return Result(chosen, loss, epochs, seconds)


def compare(program: list[Result], vaekit: list[Result]) -> tuple[str, bool]:
    (one, one_error), (other, other_error) = (mean_and_error([r.valid for r in rs]) for rs in (program, vaekit))
    nats, error = other - one, math.hypot(one_error, other_error)
    passed = abs(nats) <= MOST_ERRORS * error and abs(nats) <= MOST_NATS
    pairs, pairs_error = mean_and_error([b.valid - a.valid for a, b in zip(program, vaekit, strict=True)])
    return (
        f"Difference of the mean final validation loss, vaekit minus program: {nats:+.2f} nats = "
        f"{nats / error:+.2f} combined standard errors ({error:.2f}). Required: within {MOST_ERRORS:g} combined standard "
        f"errors and within {MOST_NATS:g} nat. **{'Pass' if passed else 'FAIL'}.** Seed by seed, on the same images and "
        f"the same noise, a sharper look: {pairs:+.2f} ± {pairs_error:.2f} nats."
    ), passed


def spread(results: list[Result], what: str) -> tuple[str, str]:
    mean, error = mean_and_error([getattr(r, what) for r in results])
    return f"{mean:.2f}", f"{error:.2f}"


def first_table(seeds: list[int], program: list[Result], vaekit: list[Result]) -> str:
    header = ["seed", "program, training", "vaekit, training", "program, validation", "vaekit, validation"]
    rows = [
        [seed, f"{a.train:.2f}", f"{b.train:.2f}", f"{a.valid:.2f}", f"{b.valid:.2f}"]
        for seed, a, b in zip(seeds, program, vaekit, strict=True)
    ]
    cells = [spread(results, what) for what in ("train", "valid") for results in (program, vaekit)]
    rows += [[name, *(f"**{cell[i]}**" for cell in cells)] for i, name in enumerate(("mean", "standard error"))]
    return table(header, rows)


def second_table(seeds: list[int], vaekit: list[Result], shipped: list[Result]) -> str:
    header = ["seed", "as the program", "as shipped", "difference", "epochs run"]
    rows = [
        [seed, f"{a.valid:.2f}", f"{b.valid:.2f}", f"{b.valid - a.valid:+.2f}", b.epochs]
        for seed, a, b in zip(seeds, vaekit, shipped, strict=True)
    ]
    gain, error = mean_and_error([b.valid - a.valid for a, b in zip(vaekit, shipped, strict=True)])
    rows += [["mean", spread(vaekit, "valid")[0], spread(shipped, "valid")[0], f"{gain:+.2f} ± {error:.2f}", ""]]
    return table(header, rows)


def page(seeds: list[int], program: list[Result], vaekit: list[Result], shipped: list[Result]) -> tuple[str, bool]:
    verdict, passed = compare(program, vaekit)
    seconds = [mean_and_error([r.seconds for r in rs])[0] for rs in (program, vaekit)]
    return (
        f"""# The tutorial, reproduced

Written by `benchmarks/tutorial.py`. Every number is a loss in nats for each image: the soft-label cross-entropy plus
the KL. It is not a log-likelihood, and cannot be compared with one.

{provenance(seeds)}

## The same settings, the same images

Both train for 50 epochs on the same 500 MNIST training images and are judged on the same 100 images of the test file;
each seed has its own images, drawn without replacement. The program is `benchmarks/tutorial_program.py`: plain PyTorch,
written anew from the tutorial's description, with its missing constant in ln p(z) restored and images scaled by 255.
vaekit is `--preset tutorial` with `{" ".join(AS_THE_PROGRAM)}`. The two share the images and nothing else: weights, order of the
rows and training noise are drawn by each in its own way.

Training losses are the mean over the last epoch's batches, as they came. Final validation losses are the program's
estimate, ln q(z|x) - ln p(z) - ln p(x|z) at one z for each image, averaged over {NOISE_DRAWS:,} draws of z with the same
noise for both, so that what is left is the difference between the trained models.

{first_table(seeds, program, vaekit)}

{verdict}

A run took {seconds[0]:.1f} s with the program and {seconds[1]:.1f} s with vaekit, validation after each epoch included.

## What the mends give

The same seeds and images with `--preset tutorial` as it is shipped: the output bias starts at the mean image, training
stops after 20 epochs without a better validation loss, and the weights of the best epoch are kept. Final validation
losses, as above. The best epoch is chosen on the same 100 images, so a part of this gain is choice, not generalisation.

{second_table(seeds, vaekit, shipped)}
""",
        passed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    args = parser.parse_args()
    program, vaekit, shipped = [], [], []
    for seed in args.seeds:
        program += [train_program(seed)]
        print(f"seed {seed}, program: {program[-1]}")
        vaekit += [train_vaekit(seed, AS_THE_PROGRAM)]
        print(f"seed {seed}, vaekit:  {vaekit[-1]}")
        shipped += [train_vaekit(seed, [])]
        print(f"seed {seed}, shipped: {shipped[-1]}")
    text, passed = page(args.seeds, program, vaekit, shipped)
    print(text)
    if args.write:
        args.write.write_text(text)
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
