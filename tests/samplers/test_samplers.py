"""Samplers: what is fitted against scikit-learn and closed forms, and what a temperature does to each family."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import distributions as td
from torch import nn

from naming import naming
from unions import name, over_real
from vaekit import Conditional, Gaussian
from vaekit.errors import SpecError, VaekitError
from vaekit.models import FlowPosterior, Prior
from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.noise import draw_from
from vaekit.models.distributions.transformed import Transformed
from vaekit.models.networks.flow import FlowNetwork
from vaekit.randomness import Purpose, new_generator, sklearn_seed
from vaekit.samplers import FromFlow, FromMixture
from vaekit.samplers.aggregated import AggregatedPosterior
from vaekit.samplers.fitting import check_real, fit_network
from vaekit.samplers.temperature import tempered

SPREAD = torch.tensor([[2.0, 0.0], [1.5, 0.5]])


def codes(n=4000):
    return torch.randn(n, 2, generator=new_generator(0)) @ SPREAD.T + 7


def test_a_mixture_is_that_of_scikit_learn():
    z = torch.cat([codes(500), -codes(500)])
    fitted = FromMixture(components=3).fit(z, seed=5)
    start = sklearn_seed(5, Purpose.SAMPLER_MIXTURE)
    theirs = (
        GaussianMixture(3, max_iter=200, random_state=start).fit(z.double().numpy()).score_samples(z.double().numpy())
    )
    torch.testing.assert_close(fitted().log_prob(z).double(), torch.from_numpy(theirs), rtol=1e-3, atol=1e-3)
    again = FromMixture(components=3).build(BuildContext(event_shape=(2,)))
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again().log_prob(z), fitted().log_prob(z))


@pytest.mark.parametrize("flow", ["coupling", "autoregressive", "spline"])
def test_a_flow_finds_the_density_of_a_gaussian(flow, globals_untouched):
    z, truth = codes(), td.MultivariateNormal(torch.full((2,), 7.0), scale_tril=SPREAD)
    with globals_untouched():
        fitted = FromFlow(flow=flow, transforms=2, hidden=(16,), steps=300).fit(z, seed=1)
    excess = (truth.log_prob(z) - fitted().log_prob(z)).mean()  # KL(truth || flow)
    assert -0.01 < float(excess) < 0.06
    drawn = draw_from(fitted(), (4000,), new_generator(3))
    torch.testing.assert_close(drawn.mean(0), torch.full((2,), 7.0), atol=0.25, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), SPREAD @ SPREAD.T, atol=0.8, rtol=0)
    assert not any(p.requires_grad for p in fitted.parameters())


def test_a_fitted_flow_is_a_function_of_codes_and_seed():
    z, spec = codes(300), FromFlow(transforms=1, hidden=(8,), steps=20)
    first, again, other = (spec.fit(z, seed)().log_prob(z) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(SpecError, check=naming("FromMixture.components", 10)):
        FromMixture().fit(torch.randn(3, 2))
    with pytest.raises(SpecError, check=naming("size", 1)):
        FromFlow().fit(torch.randn(30, 1))
    weight = nn.Linear(1, 1)
    with pytest.raises(VaekitError, match="is nan at step 0"):
        fit_network(
            weight, lambda i: weight(torch.full((1, 1), math.nan)).mean(), 5, steps=3, generator=new_generator(0)
        )


@pytest.mark.parametrize("prior", over_real(Prior), ids=name)
def test_every_prior_has_a_temperature(prior):
    torch.manual_seed(0)
    p = prior.build(2, BuildContext((3,), posterior=Conditional(nn.Linear(3, 4), Gaussian())))()
    with torch.no_grad():
        spreads = [draw_from(tempered(p, t), (500,), new_generator(1)).std(0).mean() for t in (0.5, 1.0, 2.0)]
    assert spreads[0] < 0.98 * spreads[1] < 0.96 * spreads[2]
    assert tempered(p, 1.0) is p


def test_the_noise_of_gaussians_is_scaled_around_their_means():
    loc, scale = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    diagonal = independent(td.Normal(loc, scale), 1)
    full = td.MultivariateNormal(loc, scale_tril=SPREAD)
    for p in (diagonal, full):
        warm, cold = (draw_from(q, (9,), new_generator(2)) for q in (p, tempered(p, 0.25)))
        torch.testing.assert_close(cold - loc, 0.25 * (warm - loc))


def test_components_keep_their_means_and_weights():
    z = torch.cat([codes(500), -codes(500)])
    p = FromMixture(components=2).fit(z)()
    q = tempered(p, 0.1)
    assert isinstance(q, td.MixtureSameFamily)
    assert torch.equal(q.component_distribution.mean, p.component_distribution.mean)
    assert torch.equal(q.mixture_distribution.probs, p.mixture_distribution.probs)
    torch.testing.assert_close(q.component_distribution.variance, 0.01 * p.component_distribution.variance)


@pytest.mark.parametrize("fitted", [False, True], ids=["a prior's", "a fitted one"])
def test_the_noise_of_a_flow_is_scaled(fitted):
    torch.manual_seed(0)
    p = FromFlow(steps=5).fit(codes(50))() if fitted else FlowNetwork("coupling", 2, 2, (8,))()
    noise = torch.randn(6, 2)
    with torch.no_grad():
        q = tempered(p, 0.3)
        assert isinstance(q, Transformed)
        torch.testing.assert_close(q.push(noise), p.push(0.3 * noise))
        z, log_q = q.push_and_score(noise)
        torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(log_q, p.push_and_score(0.3 * noise)[1] + gap(noise), rtol=1e-3, atol=1e-3)


def gap(noise):
    """ln N(e; 0, I) - ln N(T e; 0, I) - 2 ln T, at T = 0.3."""
    return -0.5 * (1 - 0.09) * noise.square().sum(-1) - 2 * math.log(0.3)


def test_the_aggregated_posterior_visits_every_row_alike():
    x = torch.arange(8.0)[:, None]
    q = AggregatedPosterior(
        lambda x: independent(td.Normal(x.expand(-1, 2), torch.ones(len(x), 2)), 1), x.__getitem__, 8
    )
    z = draw_from(tempered(q, 1e-3), (4000,), new_generator(4))
    assert z.shape == (4000, 2)
    counts = torch.bincount(z[:, 0].round().long(), minlength=8).double()
    assert float(((counts - 500) ** 2 / 500).sum()) < 24.3  # chi-squared of 7 degrees, p = 0.001
    torch.testing.assert_close(z, z.round(), atol=0.01, rtol=0)
    assert draw_from(q, (4000,), new_generator(4)).var() == pytest.approx(63 / 12 + 1, rel=0.1)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(SpecError, check=naming("temperature", temperature)):
        tempered(independent(td.Normal(torch.zeros(2), torch.ones(2)), 1), temperature)


def test_a_family_without_gaussian_noise_has_no_temperature():
    with pytest.raises(SpecError, check=naming("temperature", 0.5)):
        tempered(independent(td.Uniform(torch.zeros(2), torch.ones(2)), 1), 0.5)


def test_densities_are_fitted_to_real_vectors_only():
    raw = torch.zeros(4, 64)
    check_real(independent(td.Normal(torch.zeros(4, 2), torch.ones(4, 2)), 1))
    check_real(td.MultivariateNormal(torch.zeros(4, 2), torch.eye(2)))
    check_real(FlowPosterior().build(BuildContext(event_shape=(2,)))(raw))
    for q in (
        independent(td.Bernoulli(logits=torch.zeros(4, 2)), 1),
        independent(td.Beta(torch.ones(4, 2), torch.ones(4, 2)), 1),
        independent(td.Normal(torch.zeros(4, 2, 2), torch.ones(4, 2, 2)), 2),
    ):
        with pytest.raises(SpecError, check=naming("q")):
            check_real(q)
