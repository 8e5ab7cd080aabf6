"""Refined posteriors: exact by quadrature in one dimension, and on the linear-Gaussian story."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from naming import naming
from vaekit.errors import ConfigError, SpecError
from vaekit.evaluation import Annealing, aggregate_posterior, annealed_bound, evaluate
from vaekit.models import (
    VAE,
    Bernoulli,
    Conditional,
    Gaussian,
    Hamiltonian,
    LinearGaussian,
    StandardNormal,
    VonMisesFisher,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from, noise_shape
from vaekit.objectives import Elbo
from vaekit.objectives.gradient_check import PosteriorPerRow
from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun, make_run, override, preset

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS = 40_000


class FarPosterior(nn.Module):
    """q(z|x) = N(0.4, 0.9^2) in one dimension, whatever x is."""

    def forward(self, x: Tensor) -> Distribution:
        loc = torch.full((len(x), 1), 0.4, dtype=torch.float64)
        return td.Independent(td.Normal(loc, 0.9 * torch.ones_like(loc)), 1)


class SameForAll(nn.Module):
    """The posterior of one row as that of any."""

    def __init__(self, one: PosteriorPerRow):
        super().__init__()
        self.one = one

    def forward(self, x: Tensor) -> Distribution:
        return self.one(x).expand((len(x),))


def hermite(nodes: int) -> tuple[Tensor, Tensor]:
    points, weights = (torch.from_numpy(found) for found in np.polynomial.hermite_e.hermegauss(nodes))
    return points, weights / weights.sum()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("temper", [0.3, 0.9])
@pytest.mark.parametrize("curved", [False, True], ids=["Gaussian", "Bernoulli"])
def test_the_mean_of_the_weight_is_px_by_quadrature(curved: bool, temper: float, steps: int) -> None:
    layer = nn.Linear(1, 3).double()
    likelihood = Conditional(layer, Bernoulli() if curved else Gaussian(scale=1.2))
    refine = Hamiltonian(steps=steps, step_size=0.2, temper=temper).build(BuildContext(event_shape=(1,))).double()
    model = VAE(FarPosterior(), StandardNormal().build(1).double(), likelihood, refine)
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    points, weights = hermite(80)
    log_px = (weights.log() + likelihood(points[:, None, None]).log_prob(x)[:, 0]).logsumexp(0)
    noise = torch.cartesian_prod(points, points)[:, None, None]  # (samples, batch, 1, 2)
    draw = model.draw(x, len(noise), noise=[noise])
    found = (torch.cartesian_prod(weights, weights).prod(1).log() + draw.log_w[:, 0]).logsumexp(0)
    torch.testing.assert_close(found, log_px, rtol=0, atol=1e-7)
    unrefined = VAE(FarPosterior(), model.prior, likelihood).draw(x, len(noise), noise=[noise[..., 0]])
    assert (draw.log_w - unrefined.log_w).abs().mean() > 0.05


def story() -> tuple[LinearGaussian, Tensor, PosteriorPerRow]:
    """A story, a row, and a q that is not its posterior, though near."""
    loadings = 0.8 * torch.randn(4, 2, dtype=torch.float64, generator=new_generator(0))
    found = LinearGaussian(loadings, torch.zeros(4, dtype=torch.float64), 0.7)
    x = torch.tensor([[0.6, -1.1, 0.4, 1.0]], dtype=torch.float64)
    true = found.true_posterior(x)
    return found, x, PosteriorPerRow(true.mean + 0.3, true.variance.sqrt().log() + 0.3)


def refined(**settings: Any) -> tuple[VAE, LinearGaussian, Tensor]:
    linear, x, posterior = story()
    plain = linear.vae(posterior)
    refine = Hamiltonian(**settings).build(BuildContext(event_shape=(2,))).double()
    return VAE(posterior, plain.prior, plain.likelihood, refine), linear, x


@torch.no_grad()
def log_w(model: VAE, x: Tensor) -> Tensor:
    return model.draw(x, DRAWS, generator=new_generator(1)).log_w[:, 0]


def test_the_weight_is_unbiased_and_the_bound_lies_between_the_plain_one_and_log_px() -> None:
    model, linear, x = refined(steps=3, step_size=0.15, temper=0.6)
    found, truth = log_w(model, x), linear.log_px(x)
    ratio = (found - truth).exp()
    assert abs(ratio.mean() - 1) / (ratio.std() / math.sqrt(DRAWS)) < 4
    plain = linear.elbo(x, model.posterior.loc, model.posterior.log_scale.exp())
    error = float(found.std()) / math.sqrt(DRAWS)
    assert found.mean() > plain + 10 * error
    assert found.mean() < truth - 10 * error


def test_without_cooling_small_steps_win_nothing() -> None:
    model, linear, x = refined(steps=40, step_size=0.01, temper=0.9999)
    found = log_w(model, x)
    plain = linear.elbo(x, model.posterior.loc, model.posterior.log_scale.exp())
    assert abs(found.mean() - plain) / (found.std() / math.sqrt(DRAWS)) < 4


def test_steps_and_temper_are_learned() -> None:
    model, _, x = refined(steps=2, step_size=0.1, temper=0.4)
    before = log_w(model, x).mean()
    optimiser = torch.optim.Adam(model.refine.parameters(), lr=0.08)
    for _ in range(40):
        optimiser.zero_grad()
        (-model.draw(x, 50).log_w.mean()).backward()
        optimiser.step()
    assert log_w(model, x).mean() > before + 0.1


def test_every_part_has_the_gradient_of_the_drawn_bound() -> None:
    model, _, x = refined(steps=2, step_size=0.2, temper=0.5)
    noise = torch.randn(3, 1, 2, 2, dtype=torch.float64)

    def bound() -> Tensor:
        return Elbo(samples=3)(model.draw(x, 3, noise=[noise])).value.sum()

    for weight, gradient in zip(
        model.parameters(), torch.autograd.grad(bound(), list(model.parameters())), strict=True
    ):
        direction, size = torch.randn_like(weight), 1e-5
        with torch.no_grad():
            weight.add_(direction, alpha=size)
            above = bound()
            weight.add_(direction, alpha=-2 * size)
            below = bound()
            weight.add_(direction, alpha=size)
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * size), rtol=1e-6, atol=1e-7)


def test_encode_gives_the_posterior_that_is_not_refined_and_draws_are_a_function_of_the_noise() -> None:
    model, _, x = refined()
    (q,) = model.encode(x).posteriors
    assert isinstance(q.base_dist, td.Normal)
    one, other = (model.draw(x, 3, generator=new_generator(4)) for _ in range(2))
    assert one.log_w.equal(other.log_w)
    assert noise_shape(one.latents[0].q) == (1, 2, 2)
    assert one.latents[0].closed_kl() is None
    assert one.latents[0].closed_kl_per_dimension() is None
    with torch.no_grad():
        torch.testing.assert_close(one.log_w.detach(), model.draw(x, 3, generator=new_generator(4)).log_w)


def test_evaluation_says_what_cannot_be_had_and_gives_the_rest() -> None:
    model, linear, x = refined(steps=2, step_size=0.15)
    rows = x.expand(10, -1)
    model.posterior = SameForAll(model.posterior)
    found = evaluate(model, rows, samples=400)
    assert abs(found["log_likelihood"].value - float(linear.log_px(x))) < 0.05
    assert found["active_units"].value is None
    assert {estimate.value for estimate in aggregate_posterior(model, rows).values()} == {None}
    lower = annealed_bound(model, rows, Annealing(temperatures=20, chains=16))
    assert abs(lower.lower.value - float(linear.log_px(x))) < 0.15


def test_what_cannot_be_refined_is_refused() -> None:
    model, _, x = refined()
    with pytest.raises(ValueError, match="scores only its own draws"):
        model.draw(x, reparametrised=False)
    with pytest.raises(ValueError, match="scores only its own draws"):
        model.draw(x, score=False)
    with pytest.raises(
        SpecError, match=r"over z of shape \(2,\), and the steps that refine it are over \(3,\)", check=naming("q")
    ):
        VAE(model.posterior, model.prior, model.likelihood, Hamiltonian().build(BuildContext(event_shape=(3,)))).draw(x)
    q = VonMisesFisher()(torch.ones(5, 4), (3,))
    with pytest.raises(SpecError, match="VonMisesFisher cannot be refined", check=naming("q")):
        draw_from(Hamiltonian().build(BuildContext(event_shape=(3,)))(q, lambda z: z.sum(-1)))


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (["model.posterior=deterministic", "objective.beta=0"], "model.refine", "hamiltonian"),
        (["model.posterior=von_mises_fisher", "model.prior=uniform_sphere"], "model.refine", "hamiltonian"),
        (["model.posterior={kind: fsq, levels: [4, 3]}"], "model.refine", "hamiltonian"),
        (["objective.gradient=stick_the_landing"], "objective.gradient", "stick_the_landing"),
        (["objective.gradient=score"], "objective.gradient", "score"),
        (["objective={kind: regularised, penalties: [mmd]}"], "objective", "regularised"),
    ],
)
def test_a_run_that_cannot_be_refined_is_refused(settings: list[str], field: str, value: str) -> None:
    tiny = ["limit.train=30", "limit.valid=10", "model.refine=hamiltonian", *settings]
    with pytest.raises(ConfigError, check=naming(field, value)):
        TrainingRun.start(make_run(override(preset("digits"), tiny)))
