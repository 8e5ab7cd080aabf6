"""What shows whether an encoder was trained: its codes, its gradients, and the order of estimators."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from facts import mean_and_error, paragraph, table
from vaekit.models import VAE
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.objectives import (
    BoundReading,
    Detached,
    Elbo,
    Gradient,
    GradientReading,
    Pathwise,
    Score,
    StepContext,
    bound_check,
    gradient_check,
)
from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun

TEST_ROWS, DRAWS = 1000, 20
GRADIENT_EPOCH, GRADIENT_ROWS, GRADIENT_DRAWS = 10, 100, 1000
SETTLING = 300  # draws
ESTIMATORS: dict[str, tuple[Gradient, int]] = {  # and the z of each row that an estimate takes
    "pathwise": (Pathwise(), 1),
    "score": (Score(), 4),
    "score by one sample": (Score(), 1),
    "detached": (Detached(), 1),
}


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


@torch.no_grad()
def read(model: VAE, x: Tensor, seed: int) -> Reading:
    generator = new_generator(seed, 100)
    draw = model.draw(x, DRAWS, generator=generator)
    (latent,) = draw.latents
    z, q, closed = latent.z, latent.q, latent.closed_kl()
    assert q is not None
    assert closed is not None
    prior = torch.randn(z.shape, generator=generator)

    def distortion(z: Tensor) -> float:
        return -model.decode((z,)).log_prob(x).mean().item()

    # ln q(z|x) of one z for each image under the posterior of every image: (images of z, images of q)
    cross = torch.stack([q.log_prob(one.expand(len(x), -1)) for one in z[0]])
    information = (cross.diagonal() - cross.logsumexp(1) + math.log(len(x))).mean().item()
    return Reading(
        own=distortion(z),
        other=distortion(z.roll(1, 1)),
        prior=distortion(prior),
        rate=closed.mean().item(),
        information=information,
        scale=q.stddev.median().item(),
        active=int((q.mean.var(0) > 0.01).sum()),
    )


@dataclass(frozen=True)
class Direction:
    """Estimates of the gradient of all encoder weights, along the direction of the pathwise one; lengths in nats."""

    along: float  # mean over draws
    stderr: float  # of that mean
    noise: float  # root mean square length of a single draw's deviation from the mean


def directions(training: TrainingRun, seed: int) -> dict[str, Direction]:
    """Gradients on one batch, early in the training of `tutorial`, which `training` is about to begin."""
    events = training.events()
    next(event for event in events if event.kind == "epoch" and event.epoch == GRADIENT_EPOCH)
    events.close()
    x = training.data.train.batch(slice(0, GRADIENT_ROWS))
    reference = torch.stack(list(gradients(training.model, x, Pathwise(), GRADIENT_DRAWS // 5, seed, 200))).mean(0)
    unit = reference / reference.norm()
    found = {}
    for i, (name, (gradient, samples)) in enumerate(ESTIMATORS.items()):
        total, squares, along = torch.zeros_like(unit), 0.0, []
        for estimate in gradients(training.model, x, gradient, GRADIENT_DRAWS, seed, 201 + i, samples):
            total += estimate
            squares += estimate.square().sum().item()
            along += [(estimate @ unit).item()]
        mean, error = mean_and_error(along)
        noise = squares / GRADIENT_DRAWS - (total / GRADIENT_DRAWS).square().sum().item()
        found[name] = Direction(mean, error, math.sqrt(noise))
    return found


def gradients(
    model: VAE, x: Tensor, gradient: Gradient, count: int, seed: int, stream: int, samples: int = 1
) -> Iterator[Tensor]:
    """Estimates of the encoder's gradient, each from so many z for each row."""
    objective, ctx = Elbo(kl="sampled", samples=samples, gradient=gradient), StepContext()
    weights, generator = list(model.posterior.parameters()), new_generator(seed, stream)
    for number in range(-SETTLING, count):  # the running baseline of Score settles before the first that counts
        draw = model.draw(x, samples, generator=generator, reparametrised=gradient.reparametrised, score=gradient.score)
        value = objective(draw, ctx).value.mean()
        ctx.signal_mean.settle()
        if number >= 0:
            yield torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)])


def estimators(seed: int) -> str:
    """The tables of gradient estimators at the two places, and what theory says of two of them."""
    readings = gradient_check(seed)
    header = ["estimator", "variance, mu", "variance, ln sigma", "distance of its mean", "largest z", "unbiased"]
    sections = []
    for place in dict.fromkeys(r.place for r in readings):
        here = [r for r in readings if r.place == place]
        sections += [f"{place.capitalize()}; the exact gradient has length {here[0].exact:.3f}:"]
        sections += [table(header, (_estimator_row(r) for r in here))]
    loadings = torch.randn(30, 10, dtype=torch.float64, generator=new_generator(seed, 300))
    orthogonal = LinearGaussian(2 * torch.linalg.qr(loadings)[0], torch.zeros(30, dtype=torch.float64), 1.0)
    there = gradient_check(seed, story=orthogonal)
    landed, detached = (_find(there, name, "near the optimum") for name in ("stick the landing", "detached"))
    early = _find(readings, "detached", "early")
    inverse = orthogonal.best_diagonal().pow(-2).mean().item()
    theory = paragraph(f"""
        `Detached` should have mean 0, variance 1/sigma^2 for a mean, and 2 for a log-scale. Where sigma = 1 its
        variances are {early.variance_mu:.3f} and {early.variance_log_sigma:.3f}; on a second story, where 1/sigma^2 =
        {inverse:.3f}, they are {detached.variance_mu:.3f} and {detached.variance_log_sigma:.3f}. Its mean lies
        {early.bias:.3f} from the exact gradient, whose length is {early.exact:.3f}: the bias is the whole gradient.
    """)
    exact = paragraph(f"""
        The second story's loadings are orthogonal, so a diagonal q can be the true posterior. At that q,
        `StickTheLanding` has variance {landed.variance_mu:.0e} for a mean and {landed.variance_log_sigma:.0e} for a
        log-scale: zero but for rounding.
    """)
    return "\n\n".join([*sections, theory, exact, *by_samples(seed)])


def by_samples(seed: int) -> list[str]:
    """The order of estimators of the importance-weighted bound's gradient, by the number of samples."""
    readings = bound_check(seed)
    text = paragraph("""
        The bound of K samples (`vaekit.objectives.bound_check`): 10 latents, an orthogonal story, q with the true means
        and scales 10 % too wide, 20,000 independent estimates. "Variance" is of the estimate by all K samples, averaged
        over the 20 coordinates; "expected" is the bias by its formula, whose limit at many samples is 0.549.
    """)
    header = [
        "K",
        "estimator",
        "variance",
        "exact gradient",
        "distance of its mean",
        "expected",
        "largest z",
        "unbiased",
    ]
    rows = [
        [r.samples, r.name, f"{r.variance:.3g}", *(f"{length:.4f}" for length in (r.exact, r.bias, r.expected_bias))]
        for r in readings
    ]
    for row, r in zip(rows, readings, strict=True):
        row += [f"{r.largest_z:.1f}", "yes" if r.unbiased else "**no**"]
    gains = {
        k: _of(readings, "pathwise", k).variance / _of(readings, "doubly reparametrised", k).variance for k in (1, 64)
    }
    meaning = paragraph(f"""
        `StickTheLanding` leads to another point than the bound's as soon as there is more than one sample.
        `DoublyReparametrised` does not, and has {gains[1]:.0f} times less variance than `Pathwise` at K = 1 and
        {gains[64]:,.0f} times less at K = 64: here q could be the true posterior, which favours it.
    """)
    return [text, table(header, rows), meaning]


def _of(readings: list[BoundReading], name: str, samples: int) -> BoundReading:
    return next(r for r in readings if (r.name, r.samples) == (name, samples))


def _estimator_row(r: GradientReading) -> list[str]:
    numbers = [f"{r.variance_mu:.3g}", f"{r.variance_log_sigma:.3g}", f"{r.bias:.3f}", f"{r.largest_z:.1f}"]
    return [r.name, *numbers, "yes" if r.unbiased else "**no**"]


def _find(readings: list[GradientReading], name: str, place: str) -> GradientReading:
    return next(r for r in readings if (r.name, r.place) == (name, place))
