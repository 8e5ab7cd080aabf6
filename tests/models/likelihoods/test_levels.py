"""Beta-binomial and logistic mixtures: against scipy, sums over every level, and limits."""

import itertools

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from vaekit.models import BetaBinomial, Conditional, LogisticMixture, Mlp
from vaekit.models.distributions.beta_binomial import BetaBinomialByMean
from vaekit.models.distributions.logistic_mixture import DiscretisedLogistics, moments_of_level
from vaekit.models.distributions.noise import draw_from
from vaekit.models.likelihoods.initialisation import shares_of_levels
from vaekit.randomness import new_generator

COLOUR = (3, 1, 1)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("p", [0.01, 0.4, 0.97])
@pytest.mark.parametrize("concentration", [0.05, 3.0, 90.0, 1e4])
def test_a_beta_binomial_is_scipys_and_sums_to_one(p: float, concentration: float) -> None:
    ours = BetaBinomialByMean(double(p).logit(), double(concentration).log(), 255)
    x = torch.arange(256, dtype=torch.float64)
    found = ours.log_prob(x)
    theirs = stats.betabinom(255, p * concentration, (1 - p) * concentration)
    torch.testing.assert_close(found, torch.from_numpy(theirs.logpmf(x.numpy())), rtol=1e-7, atol=1e-7)
    assert abs(found.exp().sum() - 1) < 1e-7
    torch.testing.assert_close(ours.mean, double(theirs.mean()))
    torch.testing.assert_close(ours.variance, double(theirs.var()))


def test_a_concentrated_beta_binomial_is_a_binomial_in_value_and_gradient_even_in_single_precision() -> None:
    logits = torch.tensor([-3.0, 0.2, 2.0], requires_grad=True)
    x = torch.tensor([10.0, 140.0, 220.0])
    ours = BetaBinomialByMean(logits, torch.full_like(logits, 18.0), 255).log_prob(x)
    theirs = torch.distributions.Binomial(255, logits=logits).log_prob(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
    slopes = [torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-3)


def test_single_precision_is_near_double_for_every_concentration() -> None:
    raw = torch.tensor([[-3.0, -3.0, 2.0, 2.0], [-4.0, 4.0, 0.0, 9.0]]).flatten()
    x = torch.tensor([3.0, 30.0, 200.0, 222.0])
    one, two = (BetaBinomial()(raw.to(kind)).log_prob(x.to(kind)) for kind in (torch.float32, torch.float64))
    assert abs(one - two) < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_scale", [-50.0, -6.0, -3.0, 0.0, 50.0])
def test_a_logistic_mixture_sums_to_one(log_scale: float, dtype: torch.dtype) -> None:
    raw = torch.randn(15 * 4, dtype=dtype)
    raw[40:] = log_scale
    px = LogisticMixture(levels=256)(raw)
    x = torch.arange(256, dtype=dtype)[:, None].expand(-1, 4)
    log_px = px.base_dist.log_prob(x)
    assert log_px.isfinite().all()
    torch.testing.assert_close(log_px.exp().sum(0), torch.ones(4, dtype=dtype), rtol=0, atol=3e-5)
    if dtype == torch.float64:
        torch.testing.assert_close((log_px.exp() * x).sum(0), px.mean)
        torch.testing.assert_close((log_px.exp() * (x - px.mean) ** 2).sum(0), px.variance, rtol=1e-6, atol=1e-9)


def test_a_logistic_mixture_is_the_difference_of_the_cumulative_at_both_edges() -> None:
    raw = torch.randn(2 * 9, dtype=torch.float64)
    logits, loc, log_scale = raw.reshape(3, 3, 2).numpy()
    edges = (2 * np.arange(8) - 1) / 6 - 1  # of levels 0 to 6
    edges[0], edges[-1] = -np.inf, np.inf
    expected = np.diff(special.expit((edges[:, None, None] - loc) / np.exp(log_scale)), axis=0)
    expected = (expected * special.softmax(logits, 0)).sum(1)
    found = LogisticMixture(levels=7, components=3)(raw).base_dist.log_prob(torch.arange(7)[:, None].expand(-1, 2))
    torch.testing.assert_close(found.exp(), torch.from_numpy(expected))


def colours(levels: int = 4) -> tuple[DiscretisedLogistics, Tensor]:
    """A mixture for one pixel, and every colour."""
    raw = 0.6 * torch.randn(20, dtype=torch.float64, generator=new_generator(3))
    base = LogisticMixture(levels=levels, components=2)(raw, COLOUR).base_dist
    every = torch.tensor(list(itertools.product(range(levels), repeat=3))).reshape(-1, *COLOUR)
    return base, every


def test_the_channels_of_a_colour_are_mixed_together_and_sum_to_one() -> None:
    """Against the mixture written out, with the means moved by the true channels."""
    base, every = colours()
    joint = base.log_prob(every).sum((-3, -2, -1)).exp()
    assert joint.sum() == pytest.approx(1)
    raw = 0.6 * torch.randn(20, dtype=torch.float64, generator=new_generator(3)).reshape(10, 2).numpy()
    weights, coefficients = special.softmax(raw[0]), np.tanh(raw[7:])
    for colour, found in zip(every.flatten(1).tolist(), joint.tolist(), strict=True):
        red, green, _ = (2 * level / 3 - 1 for level in colour)
        total = 0.0
        for k in range(2):
            means = raw[1:4, k].copy()
            means[1] += coefficients[0, k] * red
            means[2] += coefficients[1, k] * red + coefficients[2, k] * green
            chance = weights[k]
            for level, mean, scale in zip(colour, means, np.exp(raw[4:7, k]), strict=True):
                low = -np.inf if level == 0 else (2 * level - 1) / 3 - 1
                high = np.inf if level == 3 else (2 * level + 1) / 3 - 1
                chance *= special.expit((high - mean) / scale) - special.expit((low - mean) / scale)
            total += chance
        assert found == pytest.approx(total)


def test_colours_that_are_drawn_follow_the_joint_mass() -> None:
    base, every = colours()
    x = draw_from(base, (50_000,), new_generator(1)).flatten(1).long()
    found = torch.bincount((x * torch.tensor([16, 4, 1])).sum(1), minlength=64).double().numpy()
    expected = 50_000 * base.log_prob(every).sum((-3, -2, -1)).exp().numpy()
    assert expected.min() > 5
    assert stats.chisquare(found, expected).pvalue > 2e-5
    assert (x.double().mean(0)[0] - base.mean.flatten()[0]).abs() < 0.03


def test_the_mean_of_a_colour_is_exact_where_its_channels_are_apart() -> None:
    base, every = colours()
    assert base.mix is not None
    apart = DiscretisedLogistics(base.log_weights, base.loc, base.log_scale, 4, 3, torch.zeros_like(base.mix))
    chances = apart.log_prob(every).sum((-3, -2, -1)).exp()[:, None]
    mean = (chances * every.flatten(1)).sum(0)
    torch.testing.assert_close(apart.mean.flatten(), mean)
    torch.testing.assert_close(apart.variance.flatten(), (chances * (every.flatten(1) - mean) ** 2).sum(0))


def test_the_moments_of_a_sharp_component_are_those_of_its_level() -> None:
    first, second = moments_of_level(double(-1.0, 1.0, 2 * 77 / 255 - 1), double(-12, -12, -12), 256)
    torch.testing.assert_close(first, double(0, 255, 77), atol=1e-6, rtol=0)
    torch.testing.assert_close(second, double(0, 255**2, 77**2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("head", [LogisticMixture(levels=32), BetaBinomial(levels=32)], ids=lambda head: head.kind)
def test_a_start_comes_near_the_entropy_of_what_it_can_fit(head: LogisticMixture | BetaBinomial) -> None:
    """Columns of one bump, and for the mixture one that is mostly 0 besides."""
    rng = np.random.default_rng(0)
    columns = [rng.binomial(31, 0.4, 4000), stats.betabinom(31, 2, 5).rvs(4000, random_state=rng)]
    if isinstance(head, LogisticMixture):
        columns += [np.where(rng.random(4000) < 0.8, 0, rng.binomial(31, 0.7, 4000))]
    x = torch.from_numpy(np.stack(columns, 1))
    shares = shares_of_levels(x, 32)
    entropy = -(shares * shares.log()).sum(0)
    reached = -head(head.initial_parameters(x)).base_dist.log_prob(x).mean(0)
    assert (reached - entropy < (0.06 if isinstance(head, LogisticMixture) else 0.02)).all()


def test_a_start_for_colours_has_the_numbers_of_the_head() -> None:
    """Channels that go together are modelled together: by more than they could be on their own."""
    grey = torch.randint(0, 16, (2000, 1, 2, 4), generator=new_generator(1))
    x = (grey + torch.randint(-1, 2, (2000, 3, 2, 4), generator=new_generator(2))).clamp(0, 15)
    head = LogisticMixture(levels=16)
    px = head(head.initial_parameters(x), (3, 2, 4))
    assert -px.log_prob(x).mean() < 0.85 * 24 * np.log(16)
    likelihood = Conditional(Mlp(widths=(4,)).build((2,), head.features((3, 2, 4)), (3, 2, 4)), head, (3, 2, 4))
    likelihood.initialise_from(x)
    assert likelihood(torch.zeros(5, 2)).log_prob(x[:5]).isfinite().all()
