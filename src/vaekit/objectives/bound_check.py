"""Gradient estimators of the importance-weighted bound by K, measured where the true gradient is known.

The story's posterior factorises, p(z|x) = N(m, diag v), and q has its means and scales c sqrt(v), too wide by the same
factor everywhere. With z = m + c sqrt(v) e, a sample's weight is a function of |e|^2 alone, so that the gradient of the
bound is a mean over that one number:

    d/d ln sigma_i  E[ln (1/K) sum_k w_k]  =  E[sum_k s_k (1 - c^2 |e_k|^2 / L)],   s_k = w_k / sum_j w_j

and zero for every mean. Without the score of q, `StickTheLanding` adds E[sum_k s_k (|e_k|^2 / L - 1)] to it, which is 0
at K = 1 and rises to 1/c^2 - 1 in size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.objectives.gradient_check import gradient_estimates
from vaekit.objectives.gradients import DoublyReparametrised, Gradient, Pathwise, StickTheLanding
from vaekit.objectives.iwae import Iwae
from vaekit.randomness import Purpose, new_generator

BY_SAMPLES: Mapping[str, Gradient] = {
    "pathwise": Pathwise(),
    "stick the landing": StickTheLanding(),
    "doubly reparametrised": DoublyReparametrised(),
}
LATENTS, DATA, DRAWS = 10, 30, 1_000_000


@dataclass(frozen=True)
class BoundReading:
    """What one estimator's gradient of the bound of K samples is like; lengths in nats per unit of (mu, ln sigma)."""

    name: str
    samples: int  # K
    unbiased: bool  # as the objective has it
    exact: float  # length of the bound's gradient
    bias: float  # length of (mean estimate - exact gradient), sampling error included
    expected_bias: float  # the same from the formula above
    largest_z: float  # largest |mean estimate - exact - expected bias| in standard errors of both, over coordinates
    variance: float  # of the estimate by all K samples, averaged over the coordinates


def bound_check(
    seed: int = 0,
    samples: Sequence[int] = (1, 4, 16, 64),
    estimators: Mapping[str, Gradient] = BY_SAMPLES,
    too_wide: float = 1.1,
    rows: int = 20_000,
) -> list[BoundReading]:
    """Measure the bias and variance of gradient estimators of `Iwae` at each K.

    Args:
        seed: Of the story (10 latents, 30 dimensions, float64), of x and of all noise.
        samples: Every K.
        estimators: By name, `Pathwise`, `StickTheLanding` and `DoublyReparametrised` or some of them.
        too_wide: c, the scale of q over that of the true posterior.
        rows: Independent estimates for each reading, at least 2.

    Source: Tucker et al., 2018, arXiv 1810.04152 (the bias of STL, and the estimator without it); Rainforth et al.,
    2018, arXiv 1802.04537 (what becomes of the pathwise one at many samples).

    Example:
        >>> readings = bound_check(samples=(1, 4), rows=1000)
        >>> [reading.samples for reading in readings if not reading.unbiased]
        [4]
    """
    basis = torch.linalg.qr(
        torch.randn(DATA, LATENTS, dtype=torch.float64, generator=new_generator(seed, Purpose.BOUND_CHECK, 0))
    )[0]
    story = LinearGaussian(2 * basis, torch.zeros(DATA, dtype=torch.float64), 1.0)
    x = story.vae().generate(1, generator=new_generator(seed, Purpose.BOUND_CHECK, 1))
    loc, log_scale = story.true_posterior(x).mean, (too_wide * story.best_diagonal()).log()[None]
    readings: list[BoundReading] = []
    for k in samples:
        to_log_scale, score, uncertain = _expected(too_wide, k, new_generator(seed, Purpose.BOUND_CHECK, 2, k))
        exact, without_score = (
            torch.tensor([0.0] * LATENTS + [slope] * LATENTS, dtype=torch.float64) for slope in (to_log_scale, score)
        )
        for i, (name, gradient) in enumerate(estimators.items()):
            objective = Iwae(samples=k, gradient=gradient)
            generator = new_generator(seed, Purpose.BOUND_CHECK, 3, i, k)
            estimates = gradient_estimates(objective, story, x.expand(rows, -1), loc, log_scale, generator)
            error, variance = estimates.mean(0) - exact, estimates.var(0)
            stderr = (variance / rows + uncertain**2).sqrt()
            bias = without_score if not (gradient.score or gradient.weighs_paths) else torch.zeros_like(exact)
            readings.append(
                BoundReading(
                    name=name,
                    samples=k,
                    unbiased=objective.unbiased,
                    exact=exact.norm().item(),
                    bias=error.norm().item(),
                    expected_bias=bias.norm().item(),
                    largest_z=((error - bias) / stderr).abs().max().item(),
                    variance=variance.mean().item(),
                )
            )
    return readings


def _expected(too_wide: float, samples: int, generator: torch.Generator) -> tuple[float, float, float]:
    """The bound's gradient to one ln sigma, and what the score of q takes from it, each with its standard error.

    From draws of |e|^2 alone.
    """
    normal = torch.randn(DRAWS // samples, samples, LATENTS, dtype=torch.float64, generator=generator)
    square = normal.square_().sum(-1)
    weighted = ((square * (1 - too_wide**2) / 2).softmax(-1) * square).sum(-1) / LATENTS
    mean, stderr = float(weighted.mean()), float(weighted.std()) / math.sqrt(len(weighted))
    return 1 - too_wide**2 * mean, mean - 1, too_wide**2 * stderr
