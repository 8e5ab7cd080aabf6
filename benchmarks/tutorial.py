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
from torch import Tensor

import tutorial_program
from facts import finish, mean_and_error, paragraph, provenance, table
from vaekit.models import VAE
from vaekit.runs import TrainingRun, make_run, override, preset

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


def start(seed: int, settings: list[str]) -> TrainingRun:
    return TrainingRun.start(make_run(override(preset("tutorial"), [f"seed={seed}", f"data.seed={seed}", *settings])))


def images(training: TrainingRun) -> tuple[Tensor, Tensor]:
    """The run's own training and validation images, (rows, 784)."""
    train, valid = (
        rows.batch(slice(0, len(rows))).flatten(1).cpu() for rows in (training.data.train, training.data.valid)
    )
    return train, valid


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
    training = start(seed, settings)
    began, best, chosen, epochs = time.perf_counter(), -math.inf, 0.0, 0
    for event in training.events():
        if event.kind == "epoch":
            epochs = event.epoch
            # the epoch whose weights the run hands on
            if training.run.train.weights == "last" or event.metrics["valid_elbo"] > best:
                best, chosen = event.metrics["valid_elbo"], event.metrics["train_loss"]
    seconds = time.perf_counter() - began
    x = training.data.valid.batch(slice(0, len(training.data.valid)))
    loss = vaekit_loss(training.model.eval(), x, noise(len(x), training.run.model.latent, seed))
    return Result(chosen, loss, epochs, seconds)


def compare(program: list[Result], vaekit: list[Result]) -> tuple[str, bool]:
    (one, one_error), (other, other_error) = (mean_and_error([r.valid for r in rs]) for rs in (program, vaekit))
    nats, error = other - one, math.hypot(one_error, other_error)
    passed = abs(nats) <= MOST_ERRORS * error and abs(nats) <= MOST_NATS
    text = paragraph(f"""
        Difference of the mean final validation loss, vaekit minus program: {nats:+.2f} nats = {nats / error:+.2f}
        combined standard errors ({error:.2f} nats). Required: within {MOST_ERRORS:g} combined standard errors and
        within {MOST_NATS:g} nat. **{"Pass" if passed else "FAIL"}.**
    """)
    return text, passed


def paired(program: list[Result], vaekit: list[Result]) -> str:
    """Mean differences, seed by seed."""
    pairs = [(b.train - a.train, b.valid - a.valid) for a, b in zip(program, vaekit, strict=True)]
    (train, train_error), (valid, valid_error) = (mean_and_error(values) for values in zip(*pairs, strict=True))
    return f"training {train:+.2f} ± {train_error:.2f}, validation {valid:+.2f} ± {valid_error:.2f}"


def largest_gap(seed: int) -> tuple[float, float]:
    """How far apart loss and gradients are from the same weights, images and noise: nats, and relative to the largest.

    Each contender starts from the program's weights here, so what differs is the code alone.
    """
    training = start(seed, AS_THE_PROGRAM)
    torch.manual_seed(seed)
    theirs, ours = tutorial_program.Vae(), training.model
    weights = [*ours.posterior.parameters(), *ours.likelihood.parameters()]
    with torch.no_grad():
        for a, b in zip(theirs.parameters(), weights, strict=True):
            b.copy_(a)
    eps = noise(len(training.data.train), 16, seed)[0]
    one = -theirs.elbo(images(training)[0], eps).mean()
    x = training.data.train.batch(slice(0, len(training.data.train)))
    other = -training.run.objective(ours.draw(x, noise=[eps[None]])).value.mean()
    gradients = list(
        zip(torch.autograd.grad(one, list(theirs.parameters())), torch.autograd.grad(other, weights), strict=True)
    )
    largest = max(a.abs().max().item() for a, _ in gradients)
    return abs(one.item() - other.item()), max((a - b).abs().max().item() for a, b in gradients) / largest


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


def second_table(seeds: list[int], vaekit: list[Result], shipped: list[Result], biased: list[Result]) -> str:
    header = ["seed", "as the program", "as shipped", "epochs", "with bias start", "epochs"]
    rows = [
        [seed, f"{a.valid:.2f}", f"{b.valid:.2f}", b.epochs, f"{c.valid:.2f}", c.epochs]
        for seed, a, b, c in zip(seeds, vaekit, shipped, biased, strict=True)
    ]
    means = [f"**{spread(results, 'valid')[0]}**" for results in (vaekit, shipped, biased)]
    rows += [["mean", means[0], means[1], "", means[2], ""]]
    return table(header, rows)


@dataclass(frozen=True)
class Contest:
    seeds: list[int]
    program: list[Result]
    vaekit: list[Result]


def page(contest: Contest, further: Contest, shipped: list[Result], biased: list[Result]) -> tuple[str, bool]:
    seeds, program, vaekit = contest.seeds, contest.program, contest.vaekit
    verdict, passed = compare(program, vaekit)
    gap, gradient_gap = largest_gap(seeds[0])
    seconds = [min(r.seconds for r in rs) for rs in (program, vaekit)]
    looks = f"Vaekit minus program, seed by seed: {paired(program, vaekit)}"
    if further.seeds:
        looks += f"; over {len(further.seeds)} further seeds, {paired(further.program, further.vaekit)}"
    gains = []
    for results in (shipped, biased):
        gain, error = mean_and_error([b.valid - a.valid for a, b in zip(vaekit, results, strict=True)])
        gains += [f"{gain:+.2f} ± {error:.2f} nats"]
    same = paragraph(f"""
        Two sharper looks. {looks}. And with the program's starting weights copied into vaekit, on the same 500 images
        and the same noise, the two losses differ by {gap:.1g} nats, and the gradients of all weights by at most
        {gradient_gap:.1g} of the largest: they compute the same thing, and what differs in the table is chance.
    """)
    speed = paragraph(f"""
        A run took {seconds[0]:.1f} s with the program and {seconds[1]:.1f} s with vaekit, each the fastest of its
        seeds, validation after each epoch included.
    """)
    mends = paragraph(f"Against the program's way, seed by seed: as shipped {gains[0]}, with bias start {gains[1]}.")
    return (
        f"""# The tutorial, reproduced

Written by `benchmarks/tutorial.py`. Every number is a loss in nats for each image: the soft-label cross-entropy plus
the KL. It is not a log-likelihood, and cannot be compared with one.

{provenance(seeds)}

## The same settings, the same images

Both train for 50 epochs on the same 500 MNIST training images and are judged on the same 100 images of the test file;
each seed has its own images, drawn without replacement. The program is `benchmarks/tutorial_program.py`: plain PyTorch,
written anew from the tutorial's description, with its missing constant in ln p(z) restored and images scaled by 255.
vaekit is `--preset tutorial` with

    {" ".join(AS_THE_PROGRAM)}

The two share the images and nothing else: weights, order of the rows and training noise are drawn by each in its own
way. Training losses are the mean over the last epoch's batches, as they came. Final validation losses are the program's
estimate, ln q(z|x) - ln p(z) - ln p(x|z) at one z for each image, averaged over {NOISE_DRAWS:,} draws of z with the
same noise for both, so that what is left is the difference between the trained models.

{first_table(seeds, program, vaekit)}

{verdict}

{same}

{speed}

## What the mends give

The same seeds and images with `--preset tutorial` as it is shipped: training stops after 20 epochs without a better
validation loss, and the weights of the best epoch are kept. Final validation losses, as above; the best epoch is chosen
on the same 100 images, so a part of a gain is choice, not generalisation. The last columns start the output bias at the
mean image besides (`model.bias_start=true`, vaekit's default), which this preset leaves off.

{second_table(seeds, vaekit, shipped, biased)}

{mends}
""",
        passed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="on which the verdict stands")
    parser.add_argument("--further", type=int, nargs="*", default=list(range(5, 13)), help="seeds for a sharper look")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    args = parser.parse_args()
    contest, further, shipped, biased = Contest(args.seeds, [], []), Contest(args.further, [], []), [], []
    for part in (contest, further):
        for seed in part.seeds:
            print(f"seed {seed}", flush=True)
            part.program.append(train_program(seed))
            part.vaekit.append(train_vaekit(seed, AS_THE_PROGRAM))
            print(f"  {part.program[-1]}\n  {part.vaekit[-1]}", flush=True)
    for seed in args.seeds:
        shipped += [train_vaekit(seed, [])]
        biased += [train_vaekit(seed, ["model.bias_start=true"])]
        print(f"seed {seed}\n  {shipped[-1]}\n  {biased[-1]}", flush=True)
    finish(*page(contest, further, shipped, biased), args.write)


if __name__ == "__main__":
    main()
