"""The order of gradient estimators, measured where the true gradient is known: on a linear-Gaussian VAE.

Every estimate goes the way that training goes, through `VAE.draw` and the objective. Each row of a batch has a mean and
a log-scale of its own, so one backward pass gives as many independent estimates as there are rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributions as td

from vaekit.models.distributions.base import independent
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.gradients import Detached, Score, StickTheLanding
from vaekit.objectives.terms import Bound, StepContext
from vaekit.randomness import Purpose, new_generator

ESTIMATORS: Mapping[str, Elbo] = {
    "stick the landing": Elbo(kl="sampled", gradient=StickTheLanding()),
    "pathwise, closed KL": Elbo(kl="closed"),
    "pathwise, sampled KL": Elbo(kl="sampled"),
    "score, running mean": Elbo(kl="sampled", gradient=Score()),
    "score, leave one out of 8": Elbo(kl="sampled", samples=8, gradient=Score()),
    "score, no baseline": Elbo(kl="sampled", gradient=Score(baseline=False)),
    "detached": Elbo(kl="sampled", gradient=Detached()),
}
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class GradientReading:
    """What one estimator's gradient of the ELBO is like at one place, beside the exact gradient.

    Gradients are in nats per unit of mu, and nats per unit of ln sigma.
    """

    name: str
    place: str  # "early", where q is the prior, or "near the optimum", where q is the best diagonal Gaussian
    unbiased: bool  # as the estimator's documentation has it
    bias: float  # length of (mean estimate - exact gradient), sampling error included
    exact: float  # length of the exact gradient, to read the bias by
    largest_z: float  # largest |mean estimate - exact| in standard errors, over all coordinates
    variance_mu: float  # of the estimate from one sample, averaged over the coordinates of mu
    variance_log_sigma: float  # likewise, over those of ln sigma


def gradient_check(
    seed: int = 0,
    estimators: Mapping[str, Elbo] = ESTIMATORS,
    story: LinearGaussian | None = None,
    rows: int = 20_000,
) -> list[GradientReading]:
    """Measure the bias and variance of gradient estimators against exact gradients, at two places.

    Variances are those of a single sample: an estimate that averages K samples has its variance multiplied by K.

    Args:
        seed: Of the story, of x and of all noise; the result is a function of it.
        estimators: Objectives by name, each with beta = 1 and no free nats; by default one for each estimator.
        story: The model, in float64; by default 30 dimensions, 10 latents, and loadings that are not orthogonal, so
            that no diagonal q is the true posterior.
        rows: Independent estimates for each reading, at least 2.

    Example:
        >>> readings = gradient_check(rows=2000)
        >>> max(reading.largest_z for reading in readings if reading.unbiased) < 5
        True
    """
    if story is None:
        loadings = 0.65 * torch.randn(
            30, 10, dtype=torch.float64, generator=new_generator(seed, Purpose.GRADIENT_CHECK, 0)
        )
        story = LinearGaussian(loadings, torch.zeros(30, dtype=torch.float64), 1.0)
    x = story.vae().generate(1, generator=new_generator(seed, Purpose.GRADIENT_CHECK, 1))
    optimum = story.true_posterior(x).mean
    places = {
        "early": (torch.zeros_like(optimum), torch.zeros_like(optimum)),
        "near the optimum": (optimum, story.best_diagonal().log().expand_as(optimum)),
    }
    readings: list[GradientReading] = []
    for number, (place, (loc, log_scale)) in enumerate(places.items()):
        exact = torch.cat(story.elbo_gradients(loc, log_scale, x), -1)[0]
        for i, (name, objective) in enumerate(estimators.items()):
            generator = new_generator(seed, Purpose.GRADIENT_CHECK, 2, i, number)
            estimates = gradient_estimates(objective, story, x.expand(rows, -1), loc, log_scale, generator)
            error, variance = estimates.mean(0) - exact, estimates.var(0)
            to_loc, to_log_scale = (objective.samples * variance).chunk(2)
            readings.append(
                GradientReading(
                    name=name,
                    place=place,
                    unbiased=objective.gradient.unbiased,
                    bias=error.norm().item(),
                    exact=exact.norm().item(),
                    largest_z=(error / (variance / rows).sqrt().clamp_min(1e-9)).abs().max().item(),
                    variance_mu=to_loc.mean().item(),
                    variance_log_sigma=to_log_scale.mean().item(),
                )
            )
    return readings


class PosteriorPerRow(nn.Module):
    """A diagonal Gaussian with a free mean and log-scale for each row, whatever x is."""

    def __init__(self, loc: Tensor, log_scale: Tensor):
        super().__init__()
        self.loc = nn.Parameter(loc.clone())
        self.log_scale = nn.Parameter(log_scale.clone())

    def forward(self, x: Tensor) -> td.Distribution:
        return independent(td.Normal(self.loc, self.log_scale.exp(), validate_args=False), 1)


def gradient_estimates(
    objective: Bound, story: LinearGaussian, x: Tensor, loc: Tensor, log_scale: Tensor, generator: torch.Generator
) -> Tensor:
    """One estimate of the gradient to (loc, log_scale) for each row of x, (rows, 2 L).

    A first batch settles a running mean.
    """
    estimator, ctx = objective.gradient, StepContext()
    estimates: list[Tensor] = []
    parts = x.split(_ROWS_AT_ONCE)
    for some in (parts[0], *parts):
        posterior = PosteriorPerRow(loc.expand(len(some), -1), log_scale.expand(len(some), -1))
        with torch.enable_grad():
            draw = story.vae(posterior).draw(
                some,
                objective.samples,
                generator=generator,
                reparametrised=estimator.reparametrised,
                score=estimator.score,
            )
            value = objective(draw, ctx).value.sum()
        ctx.signal_mean.settle()
        estimates.append(torch.cat(torch.autograd.grad(value, (posterior.loc, posterior.log_scale)), -1))
    return torch.cat(estimates[1:])
