"""Gradients through discrete latents, against the sum over every value that z can have."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import (
    VAE,
    CategoricalPosterior,
    Conditional,
    FactorisedCodes,
    Gaussian,
    LinearGaussian,
    StandardNormal,
    VqPosterior,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import Factorised, OneHot, Relaxation
from vaekit.models.priors.codes import FactorisedPrior
from vaekit.objectives import Elbo, Enumerate, Iwae, Pathwise, Score
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = OneHot(2, 3)
ROWS = 20_000


class FreeCodes(nn.Module):
    """Logits of its own for each row."""

    def __init__(self, rows: int, relaxation: Relaxation | None = None):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).repeat(rows, 1, 1))
        self.relaxation = relaxation

    def forward(self, x: Tensor) -> Distribution:
        return Factorised(self.logits, SPACE, relaxation=self.relaxation)


def model(rows: int, relaxation: Relaxation | None = None) -> VAE:
    loadings = torch.randn(5, 6, dtype=torch.float64, generator=new_generator(0))
    decoder = LinearGaussian(loadings, torch.zeros(5, dtype=torch.float64), 1.0)
    prior = FactorisedPrior(SPACE, learned=True).double()
    with torch.no_grad():
        prior.logits.copy_(torch.randn(2, 3, generator=new_generator(1)))
    return VAE(FreeCodes(rows, relaxation), prior, decoder.vae().likelihood)


def x(rows: int = 1) -> Tensor:
    return torch.tensor([0.5, -1.0, 0.3, 2.0, 0.1], dtype=torch.float64).expand(rows, -1)


def every_z() -> Tensor:
    codes = torch.tensor(list(itertools.product(range(3), repeat=2)))
    return torch.nn.functional.one_hot(codes, 3).double().flatten(-2)[:, None]


def exact_elbo(vae: VAE) -> Tensor:
    z = every_z()
    log_q = vae.posterior(x()).log_prob(z)
    return (log_q.exp() * (vae.log_joint(x(), (z,)) - log_q)).sum()


def exact_bound(vae: VAE, samples: int) -> Tensor:
    """E[ln mean w] over every tuple of samples."""
    z = every_z()
    log_q = vae.posterior(x()).log_prob(z)[:, 0]
    log_w = vae.log_joint(x(), (z,))[:, 0] - log_q
    tuples = torch.tensor(list(itertools.product(range(9), repeat=samples)))
    bound = log_w[tuples].logsumexp(1) - math.log(samples)
    return (log_q[tuples].sum(1).exp() * bound).sum()


def estimates(objective: Elbo | Iwae, relaxation: Relaxation | None = None) -> tuple[Tensor, Tensor]:
    """An independent estimate for each row of the gradient to the logits, and of the objective."""
    vae, gradient = model(ROWS, relaxation), objective.gradient
    how = {"reparametrised": gradient.reparametrised, "score": gradient.score}
    draw = vae.draw(x(ROWS), objective.samples, generator=new_generator(2), **how)
    value = objective(draw).value
    (found,) = torch.autograd.grad(value.sum(), vae.posterior.logits)
    return found, value.detach()


def z_scores(found: Tensor, exact: Tensor) -> Tensor:
    return (found.mean(0) - exact) / (found.var(0) / len(found)).sqrt()


def exact_gradient(value: Tensor, vae: VAE) -> Tensor:
    (exact,) = torch.autograd.grad(value, vae.posterior.logits)
    assert exact.abs().max() > 0.1
    return exact[0]


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_enumeration_is_the_sum_over_every_value(kl) -> None:
    vae = model(1)
    draw = vae.draw(x(), enumerate=True, reparametrised=False)
    assert draw.log_qz.exp().sum().item() == pytest.approx(1)
    terms = Elbo(kl=kl, gradient=Enumerate())(draw)
    torch.testing.assert_close(terms.value[0], exact_elbo(vae))
    torch.testing.assert_close(terms.parts["elbo"][0], exact_elbo(vae))
    weights = list(vae.parameters())
    for one, other in zip(
        torch.autograd.grad(terms.value.sum(), weights), torch.autograd.grad(exact_elbo(vae), weights), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kl", ["closed", "sampled"])
@pytest.mark.parametrize(("samples", "baseline"), [(1, False), (4, False), (4, True)])
def test_score_is_unbiased_for_categorical_latents(kl: str, samples: int, baseline: bool) -> None:
    found, value = estimates(Elbo(kl=kl, samples=samples, gradient=Score(baseline=baseline)))
    vae = model(1)
    assert z_scores(found, exact_gradient(exact_elbo(vae), vae)).abs().max() < 4
    assert abs(z_scores(value, exact_elbo(vae).detach())) < 4


@pytest.mark.parametrize("baseline", [True, False])
def test_vimco_is_unbiased_for_the_weighted_bound(baseline: bool) -> None:
    found, value = estimates(Iwae(samples=3, gradient=Score(baseline=baseline)))
    vae = model(1)
    exact = exact_bound(vae, 3)
    assert z_scores(found, exact_gradient(exact, vae)).abs().max() < 4
    assert abs(z_scores(value, exact.detach())) < 4
    assert exact > exact_elbo(vae) + 0.1


def test_baselines_lower_the_variance() -> None:
    elbo = [estimates(Elbo(kl="sampled", samples=4, gradient=Score(baseline=b)))[0].var(0).sum() for b in (True, False)]
    vimco = [estimates(Iwae(samples=4, gradient=Score(baseline=b)))[0].var(0).sum() for b in (True, False)]
    assert elbo[0] < 0.5 * elbo[1]
    assert vimco[0] < 0.5 * vimco[1]


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "relaxed"])
def test_relaxed_gradients_are_biased(straight: bool) -> None:
    vae, bias = model(1), []
    exact = exact_gradient(exact_elbo(vae), vae)
    for temperature in (2.0, 0.3):
        relaxation = Relaxation(torch.tensor(temperature, dtype=torch.float64), straight)
        found, _ = estimates(Elbo(kl="closed"), relaxation)
        assert z_scores(found, exact).abs().max() > 6
        bias += [(found.mean(0) - exact).norm()]
    assert straight or bias[1] < 0.5 * bias[0], "relaxed samples are nearly hard where it is cold"


def test_straight_through_has_the_value_of_hard_samples_and_relaxed_z_has_not() -> None:
    exact = exact_elbo(model(1)).detach()
    cool = torch.tensor(0.7, dtype=torch.float64)
    _, hard = estimates(Elbo(kl="closed"), Relaxation(cool, True))
    _, relaxed = estimates(Elbo(kl="closed"), Relaxation(cool, False))
    assert abs(z_scores(hard, exact)) < 4
    assert abs(z_scores(relaxed, exact)) > 10, "relaxed samples give no bound"


def test_what_lets_no_gradient_through_is_refused() -> None:
    vae = model(3)
    with pytest.raises(SpecError, match="no gradient passes through samples of Factorised", check=naming("draw")):
        Elbo()(vae.draw(x(3)))
    with torch.no_grad():
        assert Elbo()(vae.draw(x(3))).value.isfinite().all()
    with pytest.raises(SpecError, match=r"enumerate needs z drawn with .*enumerate=True", check=naming("draw")):
        Elbo(gradient=Enumerate())(vae.draw(x(3), reparametrised=False))
    with pytest.raises(SpecError, match="enumerate=False, and it was drawn with", check=naming("draw")):
        Elbo(gradient=Score())(vae.draw(x(3), reparametrised=False, enumerate=True))
    with pytest.raises(SpecError, check=naming("gradient", Enumerate())):
        Iwae(gradient=Enumerate())


def test_only_small_discrete_latents_are_enumerated() -> None:
    head = CategoricalPosterior(classes=10)
    posterior = Conditional(nn.Linear(5, 50), head, (50,))
    prior = FactorisedCodes().build(50, BuildContext(posterior=posterior))
    vae = VAE(posterior, prior, Conditional(nn.Linear(50, 10), Gaussian()))
    with pytest.raises(ValueError, match=r"make 10\^5 values of z, and at most 4096 can"):
        vae.draw(torch.zeros(2, 5), enumerate=True, reparametrised=False)
    real = VAE(
        Conditional(nn.Linear(5, 4), Gaussian()), StandardNormal().build(2), Conditional(nn.Linear(2, 10), Gaussian())
    )
    with pytest.raises(SpecError, check=naming("q")):
        real.draw(torch.zeros(2, 5), enumerate=True, reparametrised=False)


def test_pathwise_is_the_default_estimator_of_relaxed_latents() -> None:
    relaxation = Relaxation(torch.tensor(0.5, dtype=torch.float64), False)
    assert Elbo(gradient=Pathwise())(model(3, relaxation).draw(x(3))).value.requires_grad


@pytest.mark.parametrize("objective", [Elbo(samples=3), Iwae(samples=3)], ids=lambda objective: objective.kind)
def test_objectives_subtract_the_penalties_that_latents_bring(objective: Elbo | Iwae) -> None:
    posterior = Conditional(nn.Linear(5, 6), VqPosterior(classes=4, dim=3), (6,))
    vae = VAE(
        posterior,
        StandardNormal().build(6, BuildContext(posterior=posterior)),
        Conditional(nn.Linear(6, 10), Gaussian()),
    ).double()
    draw = vae.draw(x(7), 3)
    terms, penalty = objective(draw), draw.latents[0].aux["commitment"]
    assert (penalty > 0).all()
    assert terms.parts["commitment"].equal(penalty)
    torch.testing.assert_close(terms.value, draw.log_w.mean(0) - penalty)
    torch.testing.assert_close(terms.parts["elbo"], draw.log_w.mean(0).detach())
