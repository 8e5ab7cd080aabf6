"""The ablation: the tutorial with the reparametrisation trick, with a true score function, and with neither.

    python benchmarks/ablation.py --write docs/ablation.md

Trains the presets on the same images, writes one report of the first seed's three runs, a picture of the curves, and a
page of figures. Needs MNIST in $VAEKIT_DATA or a network to fetch it.
"""

import argparse
import math
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tutorial_program
from facts import mean_and_error, provenance, table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.models import VAE
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.noise import new_generator
from vaekit.objectives import Detached, Elbo, Gradient, GradientReading, Pathwise, Score, StepContext, gradient_check
from vaekit.report import write_report
from vaekit.runs import Job, make_run, override, preset

PRESETS = ("tutorial", "tutorial-score", "tutorial-detached")
FROZEN = "frozen encoder"  # the control: `tutorial` with an encoder that is never trained
COLOURS = {"tutorial": "#0072B2", "tutorial-score": "#E69F00", "tutorial-detached": "#D55E00", FROZEN: "#777777"}
LABELS = {"tutorial": "pathwise", "tutorial-score": "score", "tutorial-detached": "detached", FROZEN: "encoder frozen"}
TEST_ROWS, DRAWS = 1000, 20
GRADIENT_EPOCH, GRADIENT_ROWS, GRADIENT_DRAWS = 10, 100, 500
HIGHEST_LOSS = 260  # nats, the top of the picture


@dataclass(frozen=True)
class Reading:
    """What a trained model's latents are worth, on test images; in nats for each image."""

    own: float  # distortion with z from q(z|x)
    other: float  # distortion with z from q(z|x') of another image x'
    prior: float  # distortion with z from the prior
    rate: float
    information: float  # of z about which image it was drawn for; at most ln TEST_ROWS
    scale: float  # median posterior standard deviation
    active: int  # latent dimensions whose posterior means vary over x by more than 0.01


@dataclass(frozen=True)
class Trained:
    history: list[dict[str, float]]
    reading: Reading
    failure: str = ""


def train(name: str, seed: int, folder: Path | None) -> Trained:
    settings = [f"seed={seed}", f"data.seed={seed}", "train.patience=null", "train.weights=last"]
    run = make_run(override(preset("tutorial" if name == FROZEN else name), settings))
    job = Job.start(run.model_copy(update={"run_dir": str(folder) if folder else None}))
    if name == FROZEN:
        job.model.posterior.requires_grad_(False)
    history = [dict(event.metrics) for event in job.events() if event.kind == "epoch"]
    return Trained(history, read(job.model.eval(), job.data.test.batch(slice(0, TEST_ROWS)), seed))


@torch.no_grad()
def read(model: VAE, x: Tensor, seed: int) -> Reading:
    generator = new_generator(seed, 100)
    draw = model.draw(x, DRAWS, generator=generator)
    (latent,) = draw.latents
    z, closed, factors = latent.z, latent.closed_kl(), latent.q.base_dist
    prior = torch.randn(z.shape, generator=generator)

    def distortion(z: Tensor) -> float:
        return -model.decode((z,)).log_prob(x).mean().item()

    # ln q(z|x) of one z for each image under the posterior of every image: (images of z, images of q)
    cross = torch.stack([latent.q.log_prob(one.expand(len(x), -1)) for one in z[0]])
    information = (cross.diagonal() - cross.logsumexp(1) + math.log(len(x))).mean().item()
    return Reading(
        own=distortion(z),
        other=distortion(z.roll(1, 1)),
        prior=distortion(prior),
        rate=closed.mean().item(),
        information=information,
        scale=factors.scale.median().item(),
        active=int((factors.loc.var(0) > 0.01).sum()),
    )


@dataclass(frozen=True)
class Direction:
    """The mean over many draws of an estimate of the encoder's gradient, beside the pathwise one."""

    cosine: float  # with the pathwise mean over other draws
    length: float  # of the true mean, by the U-statistic; nats for a unit of the weights
    noise: float  # root mean square length of what one draw adds to the mean


def directions(seed: int) -> dict[str, Direction]:
    """Gradients of the encoder's weights on one batch, early in the training of `tutorial`."""
    job = Job.start(make_run(override(preset("tutorial"), [f"seed={seed}", f"data.seed={seed}", "train.weights=last"])))
    events = job.events()
    next(event for event in events if event.kind == "epoch" and event.epoch == GRADIENT_EPOCH)
    events.close()
    x = job.data.train.batch(slice(0, GRADIENT_ROWS))
    reference, _ = mean_gradient(job.model, x, Pathwise(), new_generator(seed, 200))
    found = {}
    for i, gradient in enumerate((Pathwise(), Score(), Detached())):
        mean, square = mean_gradient(job.model, x, gradient, new_generator(seed, 201 + i))
        noise = (square - mean.square().sum().item()) * GRADIENT_DRAWS / (GRADIENT_DRAWS - 1)
        length = math.sqrt(max(0.0, mean.square().sum().item() - noise / GRADIENT_DRAWS))
        found[gradient.kind] = Direction(torch.cosine_similarity(mean, reference, 0).item(), length, math.sqrt(noise))
    return found


def mean_gradient(model: VAE, x: Tensor, gradient: Gradient, generator: torch.Generator) -> tuple[Tensor, float]:
    """Mean of the encoder's gradient over draws, and the mean of its squared length."""
    objective, ctx = Elbo(kl="sampled", gradient=gradient), StepContext()
    weights = list(model.posterior.parameters())

    def estimate() -> Tensor:
        draw = model.draw(x, generator=generator, path=gradient.path, score=gradient.score)
        value = objective(draw, ctx).value.mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)])

    for _ in range(50):  # the running baseline of Score settles
        estimate()
    total, square = torch.zeros(sum(w.numel() for w in weights)), 0.0
    for _ in range(GRADIENT_DRAWS):
        one = estimate()
        total += one
        square += one.square().sum().item()
    return total / GRADIENT_DRAWS, square / GRADIENT_DRAWS


def ladder(seed: int) -> tuple[str, str, str]:
    """The table of gradient estimators, what theory says of Detached, and STL at the exact posterior."""
    readings = gradient_check(seed)
    header = ["estimator", "variance, mu", "variance, ln sigma", "distance of its mean", "largest z", "unbiased"]
    sections = []
    for place in dict.fromkeys(r.place for r in readings):
        here = [r for r in readings if r.place == place]
        rows = [
            [r.name, f"{r.variance_mu:.3g}", f"{r.variance_log_sigma:.3g}", f"{r.bias:.3f}", f"{r.largest_z:.1f}"]
            + ["yes" if r.unbiased else "**no**"]
            for r in here
        ]
        sections += [f"**{place.capitalize()}**; the exact gradient has length {here[0].exact:.3f}:\n"]
        sections += [table(header, rows) + "\n"]
    orthogonal = LinearGaussian(
        torch.linalg.qr(torch.randn(30, 10, dtype=torch.float64, generator=new_generator(seed, 300)))[0] * 2,
        torch.zeros(30, dtype=torch.float64),
        1.0,
    )
    at_posterior = gradient_check(seed, story=orthogonal)
    landed = _reading(at_posterior, "stick the landing", "near the optimum")
    detached = _reading(at_posterior, "detached", "near the optimum")
    inverse = orthogonal.best_diagonal().pow(-2).mean().item()
    early = _reading(readings, "detached", "early")
    theory = (
        f"`Detached` has variance 1/sigma^2 for a mean and 2 for a log-scale: {early.variance_mu:.3f} and "
        f"{early.variance_log_sigma:.3f} measured at sigma = 1; {detached.variance_mu:.3f} and "
        f"{detached.variance_log_sigma:.3f} measured where 1/sigma^2 = {inverse:.3f}. Its mean is 0, so the distance of "
        f"its mean from the exact gradient is the exact gradient's length: {early.bias:.3f} of {early.exact:.3f} early on."
    )
    exact = (
        "With orthogonal loadings a diagonal q can be the true posterior. There `StickTheLanding` has variance "
        f"{landed.variance_mu:.1g} for a mean and {landed.variance_log_sigma:.1g} for a log-scale: zero, to rounding."
    )
    return "\n".join(sections), theory, exact


def _reading(readings: list[GradientReading], name: str, place: str) -> GradientReading:
    return next(r for r in readings if (r.name, r.place) == (name, place))


def draw_curves(runs: dict[str, Trained], path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for axes, title, of in zip(figure.subplots(1, 2, sharey=True), TITLES, LOSSES, strict=True):
        for name, run in runs.items():
            losses = [of(epoch) for epoch in run.history]
            style = "--" if name == FROZEN else "-"
            axes.plot(range(1, len(losses) + 1), losses, style, color=COLOURS[name], linewidth=2, label=LABELS[name])
        axes.set(title=title, xlabel="epoch", xlim=(1, 50), ylim=(100, HIGHEST_LOSS))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("loss, nats for each image")
    figure.axes[0].legend(frameon=False, loc="upper right")
    figure.savefig(path)


TITLES = ("500 training images", "100 validation images")
LOSSES: tuple[Callable[[dict[str, float]], float], ...] = (lambda m: m["train_loss"], lambda m: -m["valid_elbo"])


def losses_table(runs: dict[str, list[Trained]]) -> str:
    def cell(values: Iterator[float]) -> str:
        mean, error = mean_and_error(list(values))
        return f"{mean:.1f} ± {error:.1f}"

    header = ["", "training loss", "validation loss", "distortion", "rate", "loss reached after 10 epochs"]
    rows = []
    for name, seeds in runs.items():
        last = [run.history[-1] for run in seeds]
        rows += [
            [LABELS[name]]
            + [cell(m["train_loss"] for m in last), cell(-m["valid_elbo"] for m in last)]
            + [cell(m["valid_distortion"] for m in last), cell(m["valid_rate"] for m in last)]
            + [cell(-run.history[9]["valid_elbo"] for run in seeds)]
        ]
    return table(header, rows)


def readings_table(runs: dict[str, list[Trained]]) -> str:
    header = ["", "own code", "another image's", "z from the prior", "rate", "information", "median sigma", "active"]
    rows = []
    for name, seeds in runs.items():
        r = [run.reading for run in seeds]

        def mean(what: str, readings: list[Reading] = r) -> float:
            return statistics.fmean(getattr(reading, what) for reading in readings)

        rows += [
            [LABELS[name], *(f"{mean(what):.1f}" for what in ("own", "other", "prior", "rate"))]
            + [f"{mean('information'):.2f}", f"{mean('scale'):.3g}", f"{mean('active'):.1f}"]
        ]
    return table(header, rows)


def directions_table(found: dict[str, Direction]) -> str:
    header = ["", "cosine with the pathwise mean", "length of its mean", "length of one draw's noise"]
    rows = [[name, f"{d.cosine:+.3f}", f"{d.length:.3f}", f"{d.noise:.2f}"] for name, d in found.items()]
    return table(header, rows)


def program_without(seed: int) -> str:
    """What the tutorial's own program does with its switch off, on the same images."""
    job = Job.start(make_run(override(preset("tutorial"), [f"seed={seed}", f"data.seed={seed}"])))
    x, valid = (rows.batch(slice(0, len(rows))).flatten(1) for rows in (job.data.train, job.data.valid))
    _, history = tutorial_program.run(x, valid, seed, use_rep=False)
    return history.failure or f"all 50 epochs, to a validation loss of {history.valid[-1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the first is the report's")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs and their report")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, its picture beside it")
    args = parser.parse_args()
    runs: dict[str, list[Trained]] = {}
    for name in (*PRESETS, FROZEN):
        for seed in args.seeds:
            folder = args.out / name if seed == args.seeds[0] and name != FROZEN else None
            if folder and (folder / "run.yaml").exists():
                shutil.rmtree(folder)
            runs.setdefault(name, []).append(train(name, seed, folder))
            last = runs[name][-1]
            print(f"{name}, seed {seed}: validation {-last.history[-1]['valid_elbo']:.2f}; {last.reading}")
    print(losses_table(runs), readings_table(runs), sep="\n\n")


if __name__ == "__main__":
    main()
