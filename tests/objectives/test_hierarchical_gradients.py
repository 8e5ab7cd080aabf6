"""Gradients of bounds over several groups of latents: exact by quadrature, and at the true posterior."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models import Conditional, DenseHierarchy, Gaussian, HierarchicalVAE, StandardNormal
from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.objectives import Detached, DoublyReparametrised, Elbo, Iwae, Pathwise, StickTheLanding
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

NODES = 18  # of Gauss and Hermite, for each of the numbers that are drawn


def a_hierarchy(residual: bool) -> HierarchicalVAE:
    """Two groups of one dimension; one network leads to both the p and the q of the second."""
    net = DenseHierarchy(latent=(1, 1), widths=(3,), activation="tanh", residual=residual)
    torch.manual_seed(1)
    return net.build(Gaussian(), StandardNormal(), Gaussian(scale=0.7), BuildContext((2,))).double()


def expected_gradients(objective: Any, residual: bool) -> dict[str, Tensor]:
    """Of the objective at two samples to every weight, the mean over all noise."""
    model, estimator = a_hierarchy(residual), objective.gradient
    points, weights = (torch.from_numpy(found) for found in np.polynomial.hermite_e.hermegauss(NODES))
    each = torch.cartesian_prod(*[points] * 4).T.reshape(2, 2, -1, 1)  # (groups, samples, rows, 1)
    of_rows = torch.cartesian_prod(*[weights / weights.sum()] * 4).prod(1)
    x = torch.tensor([[0.8, -0.5]], dtype=torch.float64).expand(len(of_rows), -1)
    draw = model.draw(x, 2, noise=list(each), reparametrised=estimator.reparametrised, score=estimator.score)
    value = (of_rows * objective(draw).value).sum()
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))


def furthest(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """The largest error of any weight's gradient, in units of the largest gradient."""
    scale = max(float(gradient.abs().max()) for gradient in exact.values())
    return max(float((found[name] - exact[name]).abs().max()) for name in exact) / scale


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": 0.4}, {"elbo_share": 0.3}, {"groups": 2}],
    ids=str,
)
def test_doubly_reparametrised_gradients_are_those_of_the_bound_for_every_weight(
    settings: dict[str, Any], residual: bool
) -> None:
    exact = expected_gradients(Iwae(samples=2, **settings), residual)
    objective = Iwae(samples=2, **settings, gradient=DoublyReparametrised())
    assert objective.unbiased
    assert furthest(expected_gradients(objective, residual), exact) < 5e-5


@pytest.mark.parametrize("gradient", [StickTheLanding(), Detached()], ids=str)
def test_the_others_are_biased_and_say_so(gradient: Any) -> None:
    objective = Iwae(samples=2, gradient=gradient)
    assert not objective.unbiased
    assert furthest(expected_gradients(objective, True), expected_gradients(Iwae(samples=2), True)) > 0.01


@pytest.mark.parametrize("settings", [{}, {"beta": 0.5}, {"beta": 0.5, "balance": True}, {"free_nats": 0.1}], ids=str)
def test_sticking_the_landing_is_unbiased_for_an_elbo(settings: dict[str, Any]) -> None:
    found, exact = (
        expected_gradients(Elbo(kl="sampled", samples=2, gradient=gradient, **settings), True)
        for gradient in (StickTheLanding(), Pathwise())
    )
    assert furthest(found, exact) < 5e-5


# z_1 ~ N(0, 1), z_2 | z_1 ~ N(A z_1, T^2), x | z_2 ~ N(B z_2, R^2): the posterior is a hierarchical VAE of Gaussians
A, T, B, R = 0.9, 0.8, 1.3, 0.6
X = 1.7


class FreeNumbers(nn.Module):
    """Of each row the mean and ln variance of q(z_1|x); and of q(z_2|x, z_1), whose mean has a slope in z_1, too."""

    def __init__(self, first: Tensor, second: Tensor):
        super().__init__()
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    def everything(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        return self.first, self.second

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.first


class LinearBlock(nn.Module):
    def prior(self, state: Tensor) -> Distribution:
        return independent(td.Normal(A * state, T * torch.ones_like(state)), 1)

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        mean, slope, log_scale = features.split(1, -1)
        scale = log_scale.exp().expand_as(state)
        return independent(td.Normal(mean + slope * state, scale), 1), self.prior(state)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return z


def linear_hierarchy(rows: int, off: float) -> tuple[HierarchicalVAE, FreeNumbers, Tensor]:
    """The story above, q's numbers so far off those of the true posterior, and x."""
    spread = B**2 * T**2 + R**2
    above = 1 + (A * B) ** 2 / spread
    below = 1 / T**2 + B**2 / R**2
    first = torch.tensor([A * B * X / spread / above, -math.log(above)], dtype=torch.float64)
    second = torch.tensor([B * X / R**2 / below, A / T**2 / below, -0.5 * math.log(below)], dtype=torch.float64)
    numbers = FreeNumbers((first + off).repeat(rows, 1), (second + off).repeat(rows, 1))
    mean = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(mean.weight, B)
    model = HierarchicalVAE(
        Conditional(numbers, Gaussian(), (1,)),
        StandardNormal().build(1).double(),
        nn.Identity(),
        [LinearBlock()],
        Conditional(mean, Gaussian(scale=R), (1,)),
    )
    return model, numbers, torch.full((rows, 1), X, dtype=torch.float64)


def estimates(objective: Any, rows: int, off: float) -> Tensor:
    """An independent estimate for each row of the gradients to q's numbers, (rows, 5)."""
    model, numbers, x = linear_hierarchy(rows, off)
    estimator = objective.gradient
    draw = model.draw(
        x, objective.samples, generator=new_generator(2), reparametrised=estimator.reparametrised, score=estimator.score
    )
    return torch.cat(torch.autograd.grad(objective(draw).value.sum(), list(numbers.parameters())), -1)


@pytest.mark.parametrize(
    "objective",
    [
        Elbo(gradient=StickTheLanding()),
        Iwae(samples=8, gradient=StickTheLanding()),
        Iwae(samples=8, gradient=DoublyReparametrised()),
    ],
    ids=str,
)
def test_at_the_true_posterior_every_estimate_without_the_score_is_zero(objective: Any) -> None:
    model, _, x = linear_hierarchy(100, 0.0)
    log_px = td.Normal(0.0, math.sqrt(B**2 * (A**2 + T**2) + R**2)).log_prob(x[:, 0])
    torch.testing.assert_close(model.draw(x, 3).log_w, log_px.expand(3, -1))
    assert estimates(objective, 100, 0.0).abs().max() < 1e-12
    assert estimates(Elbo(kl="sampled"), 100, 0.0).abs().max() > 1


def test_near_the_true_posterior_doubly_reparametrised_has_the_mean_of_pathwise_and_less_variance() -> None:
    rows = 20_000
    pathwise = estimates(Iwae(samples=8), rows, 0.05)
    double = estimates(Iwae(samples=8, gradient=DoublyReparametrised()), rows, 0.05)
    difference = double - pathwise  # of the same noise
    assert (difference.mean(0) / (difference.std(0) / math.sqrt(rows))).abs().max() < 4
    assert (double.var(0) < 0.1 * pathwise.var(0)).all()
