"""Annealed bounds against the closed form of linear-Gaussian stories, and in both directions."""

import math

import pytest
import torch
from stories import Stretched, rows_of, story
from torch import nn
from torch.distributions import Independent, Normal

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal
from vaekit.errors import NotApplicable, SpecError
from vaekit.evaluation import Annealing, annealed_bound, bidirectional, hmc
from vaekit.evaluation.annealing import schedule, simulated
from vaekit.likelihoods import SoftBernoulli
from vaekit.models import Draw, Latent
from vaekit.models.vae import Code

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("latents", "settings"), [
    (1, Annealing(chains=8, temperatures=10, leapfrogs=2)),
    (10, Annealing(chains=24, temperatures=20, leapfrogs=2)),
    (40, Annealing(chains=40, temperatures=60, leapfrogs=2)),
])  # fmt: skip
def test_both_bounds_meet_at_the_likelihood(latents, settings):
    """The standard error of each bound is below 0.009 nats, with ln p(x) of the same rows taken off."""
    truth, rows = story(latents, features=45), 60
    model = truth.vae(Stretched(truth))
    both = bidirectional(model, rows, settings)
    x, _ = simulated(model, rows)
    exact = float(truth.log_px(x).mean())
    assert both.lower.value == pytest.approx(exact, abs=0.02)
    assert both.upper.value == pytest.approx(exact, abs=0.02)
    assert both.gap.value == pytest.approx(both.upper.value - both.lower.value)
    assert both.acceptance.value == pytest.approx(hmc.GOAL, abs=0.1)
    assert both.lower.warning == ""
    if latents == 1:
        assert annealed_bound(model, x, settings).lower == both.lower


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_few_temperatures_leave_the_likelihood_between_two_bounds(start):
    truth, rows = story(10), 100
    model = truth.vae(Stretched(truth, 2.0))
    both = bidirectional(model, rows, Annealing(chains=4, temperatures=8, leapfrogs=2, start=start))
    exact = float(truth.log_px(simulated(model, rows)[0]).mean())
    assert both.lower.value + 0.05 < exact < both.upper.value - 0.05
    assert both.gap.value > 5 * both.gap.stderr
    assert "use more temperatures" in both.lower.warning


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_the_weights_are_unbiased(start):
    """E[w] = p(x), however few the temperatures: 20,000 chains of one row, within 4 standard errors."""
    truth, chains = story(2), 20_000
    x = rows_of(truth, 1)
    found = annealed_bound(truth.vae(Stretched(truth, 1.5)), x, Annealing(chains, 4, 2, start))
    error = math.sqrt(1 / found.effective_chains.value - 1 / chains)
    assert error < 0.05
    assert abs(math.expm1(found.lower.value - float(truth.log_px(x)))) < 4 * error


def test_the_bound_rises_with_temperatures():
    truth = story(20)
    x, model = rows_of(truth, 40), truth.vae(Stretched(truth, 1.5))
    values = [annealed_bound(model, x, Annealing(4, t, 2)).lower.value for t in (1, 4, 16)]
    assert values[0] + 0.2 < values[1] < values[2] - 0.2
    assert values[2] < float(truth.log_px(x).mean())


class InTwoGroups(nn.Module):
    """A model of one group of latents as one of two: the first dimension, and the rest."""

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def encode(self, x, context=None) -> Code:
        return self.whole.encode(x)

    def decode(self, latents, context=None):
        return self.whole.decode((torch.cat(latents, -1),))

    def draw(self, x, samples=1, *, generator=None, **others) -> Draw:
        draw = self.whole.draw(x, samples, generator=generator)
        z, q = draw.latents[0].z, draw.latents[0].q.base_dist
        groups = []
        for part in (slice(0, 1), slice(1, None)):
            own = Independent(Normal(q.loc[..., part], q.scale[..., part]), 1)
            p = Independent(Normal(torch.zeros_like(own.mean), torch.ones_like(own.mean)), 1)
            groups += [Latent(z[..., part], own.log_prob(z[..., part]), p.log_prob(z[..., part]), None, p)]
        return Draw(x, None, None, tuple(groups), draw.px, draw.log_px)

    def log_joint(self, x, latents, context=None):
        return self.whole.log_joint(x, (torch.cat(latents, -1),))

    def generate(self, n, *, generator=None, mean=False, context=None):
        return self.simulate(n, generator=generator, mean=mean)[0]

    def simulate(self, n, *, generator=None, mean=False, context=None):
        x, (z,) = self.whole.simulate(n, generator=generator, mean=mean)
        return x, (z[:, :1], z[:, 1:])


def test_several_groups_of_latents():
    truth = story(5)
    x, model = rows_of(truth, 50), InTwoGroups(truth.vae(Stretched(truth)))
    bound = annealed_bound(model, x, Annealing(temperatures=12, leapfrogs=2))
    assert bound.lower.value == pytest.approx(float(truth.log_px(x).mean()), abs=0.02)
    both = bidirectional(model, 50, Annealing(temperatures=12, leapfrogs=2))
    exact = float(truth.log_px(simulated(model, 50)[0]).mean())
    assert both.lower.value == pytest.approx(exact, abs=0.02)
    assert both.upper.value == pytest.approx(exact, abs=0.02)
    with pytest.raises(NotApplicable, check=naming("Annealing.start", "prior")):
        annealed_bound(model, x, Annealing(start="prior"))


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_world_alone(globals_untouched):
    truth = story(3)
    x, model = rows_of(truth, 130), truth.vae(Stretched(truth)).train()
    settings, done = Annealing(chains=2, temperatures=3, leapfrogs=1), []
    with globals_untouched():
        first, again = (annealed_bound(model, x, settings, seed=4, progress=done.append) for _ in range(2))
        sandwich = bidirectional(model, 130, settings)
    assert first == again
    assert first != annealed_bound(model, x, settings, seed=5)
    assert done == [100, 30] * 2
    assert sandwich.lower.n == 130
    assert torch.equal(simulated(model, 130)[1][0][:20], simulated(model, 20)[1][0])
    assert model.training


def binary(head, prior=None, posterior=None):
    posterior = Conditional(nn.Linear(6, 4), Gaussian()) if posterior is None else posterior
    return VAE(posterior, StandardNormal().build(2) if prior is None else prior, Conditional(nn.Linear(2, 6), head))


class Coins(nn.Module):
    def forward(self):
        return Independent(torch.distributions.Bernoulli(torch.full((2,), 0.5)), 1)


def test_a_score_is_not_called_a_likelihood():
    torch.manual_seed(0)
    settings = Annealing(chains=2, temperatures=2, leapfrogs=1)
    both = bidirectional(binary(SoftBernoulli()), 5, settings)
    assert all("not a log-likelihood" in found.warning for found in (both.lower, both.upper, both.gap))
    assert annealed_bound(binary(Bernoulli()), torch.ones(5, 6), settings).lower.warning == ""


def test_chains_that_hardly_move_are_warned_of(monkeypatch):
    monkeypatch.setattr(hmc, "GOAL", 0.1)
    found = annealed_bound(binary(Bernoulli()), torch.ones(5, 6), Annealing(chains=2, temperatures=40, leapfrogs=1))
    assert "under 50% of their trajectories accepted" in found.lower.warning
    assert "under 50%" in found.acceptance.warning


def test_what_cannot_be_annealed_is_refused():
    coins = binary(Bernoulli(), Coins(), Conditional(nn.Linear(6, 2), Bernoulli()))
    with pytest.raises(NotApplicable, match="use the importance-weighted bound"):
        annealed_bound(coins, torch.ones(3, 6))
    with pytest.raises(SpecError, check=naming("data", 0)):
        annealed_bound(coins, torch.ones(0, 6))
    with pytest.raises(SpecError, check=naming("rows", 0)):
        bidirectional(coins, 0)


def test_the_schedule_is_finest_at_its_ends():
    betas = torch.tensor(schedule(10), dtype=torch.float64)
    steps = betas.diff()
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 11)
    assert torch.allclose(steps, steps.flip(0))
    assert steps.argmin() in (0, 9)
    assert steps.argmax() in (4, 5)
    assert schedule(1) == [0.0, 1.0]
