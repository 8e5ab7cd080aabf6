"""Randomness: a draw is a function of its generator, global state is left alone, and samples follow their density."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from naming import naming
from unions import examples, name, over_real
from vaekit.errors import SpecError
from vaekit.models import VAE, Conditional, Gaussian, Likelihood, Prior, StandardNormal
from vaekit.models.building import BuildContext
from vaekit.models.distributions.bernoulli import ContinuousBernoulli
from vaekit.models.distributions.noise import draw_from, noise_map, noise_shape
from vaekit.models.families import Head, LikelihoodHead
from vaekit.randomness import new_generator

FAILURE_RATE = 2e-5
SAMPLES = 20_000


def warped() -> Distribution:
    """A distribution of somebody else's, that draws by its own code."""
    base = td.Normal(torch.zeros(3, dtype=torch.float64), 1.0)
    return td.TransformedDistribution(base, [td.transforms.AffineTransform(1.0, 2.0), td.transforms.ExpTransform()])


def head_distribution(head: Head) -> Distribution:
    """Four settings of a head, over events of two values."""
    raw = 1.5 * torch.randn(4, head.features((2,)), dtype=torch.float64)
    built = head.build(BuildContext(event_shape=(2,)))
    return built(raw, (2,))


BY_VALUES = [
    head for head in examples(Likelihood) if isinstance(head.build(BuildContext(event_shape=(2,))), LikelihoodHead)
]
OWN = [pytest.param(head, id=head.kind) for head in BY_VALUES]
MAPPED = [head for head in examples(Likelihood) if noise_map(head_distribution(head)) is not None]


def p_value(samples: Tensor, px: Distribution, cell: tuple[int, int]) -> float:
    """Goodness of fit of samples (n, 4, 2) to the density of one value of px, whose log_prob is the only reference."""
    mine = samples[(slice(None), *cell)].detach()

    def density(grid: Tensor) -> np.ndarray:
        filled = grid[:, None, None].expand(-1, 4, 2)
        return px.base_dist.log_prob(filled)[(slice(None), *cell)].detach().exp().numpy()

    if (mine == mine.round()).all():
        levels = torch.arange(int(mine.max()) + 1, dtype=torch.float64)
        expected = density(levels) * len(mine)
        found = np.bincount(mine.long().numpy(), minlength=len(levels))
        if px.support.base_constraint is td.constraints.nonnegative_integer:  # a cell for all that is rare
            common = expected > 10
            found = np.append(found[common], found[~common].sum())
            expected = np.append(expected[common], len(mine) - expected[common].sum())
        assert expected.sum() == pytest.approx(len(mine), rel=1e-9)
        return stats.chisquare(found, expected).pvalue
    spread = 12 * mine.std()
    low, high = mine.min() - spread, mine.max() + spread
    if px.support.base_constraint is td.constraints.unit_interval:
        low, high = torch.zeros(()), torch.ones(())
    grid = torch.linspace(float(low), float(high), 40_001, dtype=torch.float64)
    slopes = density(grid)
    steps = (slopes[1:] + slopes[:-1]) / 2 * np.diff(grid.numpy())
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)
    return stats.kstest(np.interp(mine.numpy(), grid.numpy(), cumulative / cumulative[-1]), "uniform").pvalue


@pytest.mark.parametrize("route", ["generator", "noise", "own code"])
@pytest.mark.parametrize("head", OWN)
def test_samples_of_a_head_follow_its_density(head: Head, route: str) -> None:
    if route == "noise" and head not in MAPPED:
        pytest.skip("draws by its own code")
    px = head_distribution(head)
    if route == "generator":
        samples = draw_from(px, (SAMPLES,), new_generator(7))
    elif route == "noise":
        found = noise_map(px)
        assert found is not None
        base = found.base((SAMPLES, *noise_shape(px)), generator=new_generator(8), dtype=torch.float64)
        samples = draw_from(px, (SAMPLES,), noise=base)
    else:
        samples = px.rsample((SAMPLES,)) if px.has_rsample else px.sample((SAMPLES,))
    assert samples.shape == (SAMPLES, 4, 2)
    for cell in itertools.product(range(4), range(2)):
        assert p_value(samples, px, cell) > FAILURE_RATE


@pytest.mark.parametrize("logit", [-500.0, -20.0, -0.2, 0.0, 1e-5, 5.0, 500.0])
def test_samples_of_the_continuous_bernoulli_follow_its_density_at_extreme_logits(logit: float) -> None:
    px = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64))
    samples = draw_from(px, (SAMPLES,), new_generator(9)).numpy()
    cdf = (np.expm1(-abs(logit) * samples) / np.expm1(-abs(logit))) if logit < 0 else samples
    if logit > 0:
        cdf = 1 - np.expm1(-logit * (1 - samples)) / np.expm1(-logit)
    assert stats.kstest(cdf, "uniform").pvalue > FAILURE_RATE


@pytest.mark.parametrize("route", ["generator", "own code"])
def test_samples_of_a_multivariate_normal_follow_its_density(route: str) -> None:
    factor = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.5, 0.3, 2.0]], dtype=torch.float64)
    q = td.MultivariateNormal(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), scale_tril=factor)
    z = draw_from(q, (SAMPLES,), new_generator(10)) if route == "generator" else q.sample((SAMPLES,))
    white = np.linalg.solve(factor.numpy(), (z - q.loc).numpy().T)
    for coordinate in white:
        assert stats.kstest(coordinate, "norm").pvalue > FAILURE_RATE
    assert stats.kstest((white**2).sum(0), "chi2", args=(3,)).pvalue > FAILURE_RATE


def test_samples_of_a_distribution_that_draws_by_its_own_code_follow_it() -> None:
    z = draw_from(warped(), (SAMPLES,), new_generator(11))
    for coordinate in z.T.numpy():
        assert stats.kstest((np.log(coordinate) - 1) / 2, "norm").pvalue > FAILURE_RATE


@pytest.mark.parametrize("prior", over_real(Prior), ids=name)
def test_a_prior_can_be_drawn_from(prior: Any) -> None:
    posterior = Conditional(nn.Linear(3, 8), Gaussian(), (4,)).double()
    p = prior.build(4, BuildContext((3,), posterior=posterior)).double()()
    z = draw_from(p, (SAMPLES,), new_generator(12))
    assert z.shape == (SAMPLES, 4)
    if isinstance(prior, StandardNormal):
        for coordinate in z.T.numpy():
            assert stats.kstest(coordinate, "norm").pvalue > FAILURE_RATE


@pytest.mark.parametrize("head", MAPPED, ids=name)
def test_noise_handed_in_is_noise_from_the_generator(head: Head) -> None:
    px = head_distribution(head)
    found = noise_map(px)
    assert found is not None
    noise = found.base((6, *noise_shape(px)), generator=new_generator(1), dtype=torch.float64)
    assert draw_from(px, (6,), noise=noise).equal(draw_from(px, (6,), new_generator(1)))


@pytest.mark.parametrize("kind", [*(head.kind for head in examples(Likelihood)), "transformed", "zuko"])
def test_a_draw_depends_on_its_generator_alone_and_leaves_global_state(kind: str, zuko, globals_untouched) -> None:
    if kind == "zuko":
        q = zuko.flows.MAF(2, transforms=1, hidden_features=[8])()
    elif kind == "transformed":
        q = warped()
    else:
        q = head_distribution(next(head for head in examples(Likelihood) if head.kind == kind))
    with globals_untouched():
        one = draw_from(q, (50,), new_generator(1))
        torch.rand(3, generator=new_generator(5))
        again = draw_from(q, (50,), new_generator(1))
        other = draw_from(q, (50,), new_generator(2))
    assert one.equal(again)
    assert not one.equal(other)


def test_without_a_generator_the_global_one_is_used() -> None:
    q = head_distribution(Gaussian())
    torch.manual_seed(1)
    one = draw_from(q, (5,))
    assert not draw_from(q, (5,)).equal(one)
    torch.manual_seed(1)
    assert draw_from(q, (5,)).equal(one)


def test_a_model_leaves_global_state(zuko, globals_untouched) -> None:
    prior = zuko.flows.MAF(2, transforms=1, hidden_features=[8])
    model = VAE(Conditional(nn.Linear(5, 4), Gaussian()), prior, Conditional(nn.Linear(2, 5), Gaussian(scale=1.0)))
    with globals_untouched():
        model.draw(torch.zeros(3, 5), 2, generator=new_generator(1)).log_w.mean().backward()
        one = model.generate(4, generator=new_generator(2))
        again = model.generate(4, generator=new_generator(2))
        assert model.generate(4, generator=new_generator(2), mean=True).isfinite().all()
    assert one.equal(again)
    assert one.shape == (4, 5)


def test_the_guard_of_global_state_can_fail(globals_untouched) -> None:
    with pytest.raises(AssertionError, match="random state"), globals_untouched():
        torch.rand(1)


def test_generators_of_different_keys_have_different_streams() -> None:
    keys = [
        (seed, *rest) for seed in (0, 1, 2**32) for n in range(3) for rest in itertools.product((0, 1, 7), repeat=n)
    ]
    streams = {tuple(torch.rand(4, generator=new_generator(*key)).tolist()) for key in keys}
    assert len(streams) == len(keys)
    assert new_generator(3, 4).initial_seed() == new_generator(3, 4).initial_seed()


def test_noise_of_the_wrong_shape_is_refused() -> None:
    q = head_distribution(Gaussian())
    with pytest.raises(SpecError, match=r"noise has shape \(5, 1, 2\), not \(5, 4, 2\)", check=naming("noise")):
        draw_from(q, (5,), noise=torch.zeros(5, 1, 2))


def test_noise_for_a_distribution_that_takes_none_is_refused() -> None:
    assert noise_shape(warped()) is None
    with pytest.raises(SpecError, match="pass a generator", check=naming("noise")):
        draw_from(warped(), (5,), noise=torch.zeros(5, 3))


def test_gradients_flow_through_the_draw_of_a_reparametrised_distribution() -> None:
    loc, scale = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    z = draw_from(td.Independent(td.Normal(loc, scale), 1), (4,), new_generator(1))
    to_loc, to_scale = torch.autograd.grad(z.sum(), (loc, scale))
    assert to_loc.tolist() == [4, 4]
    torch.testing.assert_close(to_scale, z.detach().sum(0))
