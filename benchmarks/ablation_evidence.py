"""What shows whether an encoder was trained: its codes, its gradients, and the ladder of estimators."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from facts import paragraph, table
from vaekit.models import VAE
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.models.noise import new_generator
from vaekit.objectives import Detached, Elbo, Gradient, GradientReading, Pathwise, Score, StepContext, gradient_check
from vaekit.runs import Job, make_run, override, preset

TEST_ROWS, DRAWS = 1000, 20
GRADIENT_EPOCH, GRADIENT_ROWS, GRADIENT_DRAWS = 10, 100, 500


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


def ladder(seed: int) -> str:
    """The tables of gradient estimators at the two places, and what theory says of two of them."""
    readings = gradient_check(seed)
    header = ["estimator", "variance, mu", "variance, ln sigma", "distance of its mean", "largest z", "unbiased"]
    sections = []
    for place in dict.fromkeys(r.place for r in readings):
        here = [r for r in readings if r.place == place]
        sections += [f"{place.capitalize()}; the exact gradient has length {here[0].exact:.3f}:"]
        sections += [table(header, (_ladder_row(r) for r in here))]
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
    return "\n\n".join([*sections, theory, exact])


def _ladder_row(r: GradientReading) -> list[str]:
    numbers = [f"{r.variance_mu:.3g}", f"{r.variance_log_sigma:.3g}", f"{r.bias:.3f}", f"{r.largest_z:.1f}"]
    return [r.name, *numbers, "yes" if r.unbiased else "**no**"]


def _find(readings: list[GradientReading], name: str, place: str) -> GradientReading:
    return next(r for r in readings if (r.name, r.place) == (name, place))
