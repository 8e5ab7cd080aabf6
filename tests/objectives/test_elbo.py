"""The ELBO: its two KLs, its weights, what it reports, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from naming import naming
from unions import name, sampling
from vaekit.errors import SpecError
from vaekit.models import (
    VAE,
    Bernoulli,
    Conditional,
    Deterministic,
    Gaussian,
    Latent,
    LinearGaussian,
    Mixture,
    StandardNormal,
)
from vaekit.models.vae import Draw
from vaekit.objectives import (
    Cyclical,
    Detached,
    DoublyReparametrised,
    Elbo,
    Gradient,
    Iwae,
    Pathwise,
    Score,
    StepContext,
    StickTheLanding,
    Terms,
    Warmup,
)
from vaekit.randomness import new_generator


def model(spread: float = 1.0) -> VAE:
    """A small model; the smaller the spread, the nearer its posterior is to the prior."""
    posterior = Conditional(nn.Linear(6, 4), Gaussian())
    with torch.no_grad():
        for weight in posterior.parameters():
            weight.mul_(spread)
    return VAE(posterior, StandardNormal().build(2), Conditional(nn.Linear(2, 6), Bernoulli())).double()


def rows(n: int = 5) -> Tensor:
    return torch.bernoulli(torch.full((n, 6), 0.5, dtype=torch.float64), generator=new_generator(1))


def drawn(vae: VAE, samples: int = 3, reparametrised: bool = True, score: bool = True, n: int = 5) -> Draw:
    return vae.draw(rows(n), samples, generator=new_generator(2), reparametrised=reparametrised, score=score)


def encoder_gradient(vae: VAE, terms: Terms) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(terms.value.mean(), list(vae.posterior.parameters()))])


def test_the_sampled_elbo_is_the_mean_of_log_w() -> None:
    draw = drawn(model())
    torch.testing.assert_close(Elbo(kl="sampled")(draw).value, draw.log_w.mean(0))


@pytest.mark.parametrize("kl", ["auto", "closed"])
def test_the_closed_elbo_is_the_mean_of_log_px_less_the_kl(kl: str) -> None:
    vae = model()
    draw = drawn(vae)
    kl_of_rows = td.kl_divergence(vae.posterior(draw.x), vae.prior())
    torch.testing.assert_close(Elbo(kl=kl)(draw).value, draw.log_px.mean(0) - kl_of_rows)


def test_closed_and_sampled_agree_in_expectation_and_with_the_closed_form() -> None:
    story = LinearGaussian(torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.float64), 1.0)
    vae = story.vae(Conditional(nn.Linear(4, 4, dtype=torch.float64), Gaussian()))
    x = torch.ones(20_000, 4, dtype=torch.float64)
    draw = vae.draw(x, generator=new_generator(1))
    closed, sampled = Elbo(kl="closed")(draw).value, Elbo(kl="sampled")(draw).value
    q = vae.posterior(x[:1]).base_dist
    for difference in (closed - sampled, sampled - story.elbo(x[:1], q.loc, q.scale)):
        assert abs(difference.mean() / (difference.std() / math.sqrt(len(x)))) < 4
    assert closed.var() != sampled.var()


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_beta_weighs_the_kl_in_the_value_and_leaves_the_parts(kl: str) -> None:
    draw = drawn(model())
    plain, weighted = Elbo(kl=kl)(draw), Elbo(kl=kl, beta=4.0)(draw)
    torch.testing.assert_close(weighted.value, plain.value - 3 * plain.parts["rate"])
    for part, value in plain.parts.items():
        assert weighted.parts[part].equal(value)
    without = Elbo(kl=kl, beta=0.0)(draw)
    torch.testing.assert_close(without.value, draw.log_px.mean(0))


def test_warm_up_takes_beta_from_the_step() -> None:
    draw, objective = drawn(model()), Elbo(beta=Warmup(start=0.5, end=2.0, over=0.5))
    for step, beta in ((0, 0.5), (25, 1.25), (50, 2.0), (99, 2.0)):
        terms = objective(draw, StepContext(step=step, steps=100))
        torch.testing.assert_close(terms.value, Elbo(beta=beta)(draw).value)


def test_parts_are_the_true_bound_its_distortion_and_its_rate_and_carry_no_gradient() -> None:
    draw = drawn(model())
    for objective in (Elbo(), Elbo(kl="sampled"), Elbo(beta=Warmup()), Elbo(free_nats=100.0)):
        parts = objective(draw, StepContext()).parts
        assert set(parts) == {"elbo", "distortion", "rate"}
        torch.testing.assert_close(parts["elbo"], -parts["distortion"] - parts["rate"])
        torch.testing.assert_close(parts["distortion"], -draw.log_px.mean(0).detach())
        assert not any(part.requires_grad for part in parts.values())
    torch.testing.assert_close(Elbo(kl="sampled")(draw).parts["elbo"], draw.log_w.mean(0).detach())


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_a_kl_below_the_free_nats_is_counted_as_the_floor_and_not_pushed(kl: str) -> None:
    vae = model(spread=0.1)
    draw = drawn(vae, samples=500)
    floor = 3.0
    rate = Elbo(kl=kl)(draw).parts["rate"].mean()
    assert rate < floor
    free = Elbo(kl=kl, free_nats=floor, beta=2.0)(draw)
    torch.testing.assert_close(free.value, draw.log_px.mean(0) - 2 * floor)
    torch.testing.assert_close(encoder_gradient(vae, free), encoder_gradient(vae, Elbo(beta=0.0)(drawn(vae, 500))))


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_a_kl_above_the_free_nats_is_the_plain_objective(kl: str) -> None:
    vae = model(spread=2.0)
    plain, free = Elbo(kl=kl)(drawn(vae)), Elbo(kl=kl, free_nats=0.01)(drawn(vae))
    assert free.value.equal(plain.value)
    assert encoder_gradient(vae, free).equal(encoder_gradient(vae, plain))


def test_the_floor_is_compared_with_the_mean_over_the_whole_batch() -> None:
    draw = drawn(model())
    rate = Elbo()(draw).parts["rate"]
    between = (rate.min() + rate.mean()).item() / 2  # some row is below, the mean is not
    assert Elbo(free_nats=between)(draw).value.equal(Elbo()(draw).value)
    elsewhere = StepContext(batch_mean=lambda kl: torch.zeros((), dtype=kl.dtype))  # the other processes' rows are low
    torch.testing.assert_close(Elbo(free_nats=between)(draw, elsewhere).value, draw.log_px.mean(0) - between)


@pytest.mark.parametrize("gradient", sampling(Gradient), ids=name)
@pytest.mark.parametrize("kl", ["auto", "sampled"])
def test_the_value_is_the_same_for_every_estimator(gradient: Pathwise, kl: str) -> None:
    vae = model()
    draw = drawn(vae, reparametrised=gradient.reparametrised, score=gradient.score)
    expected = Elbo(kl="sampled" if isinstance(gradient, StickTheLanding | DoublyReparametrised) else kl)(
        drawn(vae)
    ).value
    torch.testing.assert_close(Elbo(kl=kl, gradient=gradient)(draw).value, expected)


def test_more_samples_lower_the_variance_and_keep_the_mean() -> None:
    vae = model(spread=2.0)
    x = rows(1).expand(4000, -1)
    one = Elbo(kl="sampled")(vae.draw(x, 1, generator=new_generator(3))).value
    many = Elbo(kl="sampled", samples=16)(vae.draw(x, 16, generator=new_generator(4))).value
    assert many.var().item() == pytest.approx(one.var().item() / 16, rel=0.2)
    assert abs((one.mean() - many.mean()) / ((one.var() + many.var()) / 4000).sqrt()) < 4


def test_detached_with_a_closed_kl_sees_the_kl_alone() -> None:
    vae = model()
    terms = Elbo(kl="closed", gradient=Detached())(drawn(vae, reparametrised=False))
    kl = td.kl_divergence(vae.posterior(rows()), vae.prior()).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(-kl, list(vae.posterior.parameters()))])
    torch.testing.assert_close(encoder_gradient(vae, terms), expected)


class FullCovariance(nn.Module):
    def forward(self, x: Tensor) -> Distribution:
        return td.MultivariateNormal(x[:, :2], torch.eye(2, dtype=x.dtype))


def test_a_closed_kl_that_does_not_exist_is_refused_and_auto_samples() -> None:
    prior = Mixture(components=2).build(2)
    vae = VAE(FullCovariance(), prior, Conditional(nn.Linear(2, 6), Bernoulli())).double()
    draw = drawn(vae)
    with pytest.raises(SpecError, check=naming("Elbo.kl", "closed")):
        Elbo(kl="closed")(draw)
    torch.testing.assert_close(Elbo(kl="auto")(draw).value, draw.log_w.mean(0))


def test_stick_the_landing_refuses_a_closed_kl_and_samples_by_itself() -> None:
    with pytest.raises(SpecError, check=naming("kl", "closed")):
        Elbo(kl="closed", gradient=StickTheLanding())
    draw = drawn(model(), score=False)
    torch.testing.assert_close(Elbo(gradient=StickTheLanding())(draw).value, draw.log_w.mean(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": -1.0},
        {"beta": math.nan},
        {"beta": math.inf},
        {"beta": "strong"},
        {"free_nats": -0.1},
        {"samples": 0},
        {"samples": 1.5},
        {"kl": "exact"},
        {"gradient": "nonsense"},
        {"bta": 1.0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SpecError, check=naming(*next(iter(settings.items())))):
        Elbo(**settings)


def test_an_estimator_can_be_named() -> None:
    assert Elbo(gradient="score").gradient == Score()


@pytest.mark.parametrize("gradient", sampling(Gradient), ids=name)
def test_a_draw_made_for_another_estimator_is_refused(gradient) -> None:
    """Its value would be right and its gradient wrong, in silence."""
    vae, objective = model(), Elbo(gradient=gradient)
    objective(drawn(vae, reparametrised=gradient.reparametrised, score=gradient.score))
    wrong = drawn(vae, reparametrised=not gradient.reparametrised, score=True)
    with pytest.raises(
        ValueError, match=f"{gradient.kind} needs z drawn with reparametrised={gradient.reparametrised}"
    ):
        objective(wrong)
    with torch.no_grad():
        objective(wrong)


def test_a_warm_up_without_a_step_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("ctx", None)):
        Elbo(beta=Warmup())(drawn(model()))


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_a_capacity_draws_the_kl_of_each_row_to_itself(kl: str) -> None:
    vae = model(spread=2.0)
    draw = drawn(vae)
    plain = Elbo(kl=kl)(draw)
    rate = plain.parts["rate"]
    capacity = float(rate.median())
    found = Elbo(kl=kl, beta=3.0, capacity=capacity)(draw)
    torch.testing.assert_close(found.value, draw.log_px.mean(0) - 3 * (rate - capacity).abs())
    assert found.parts["elbo"].equal(plain.parts["elbo"])
    kls = (draw.log_qz - draw.log_pz).mean(0) if kl == "sampled" else draw.latents[0].closed_kl()
    wanted = torch.autograd.grad(
        (draw.log_px.mean(0) - 3 * (kls - capacity).abs()).mean(), list(vae.posterior.parameters()), retain_graph=True
    )
    torch.testing.assert_close(encoder_gradient(vae, found), torch.cat([g.flatten() for g in wanted]))


def test_a_capacity_rises_and_does_not_go_with_free_nats() -> None:
    draw, rising = drawn(model()), Elbo(capacity=Warmup(end=8.0, over=0.5))
    at = rising(draw, StepContext(step=25, steps=100)).value
    torch.testing.assert_close(at, Elbo(capacity=4.0)(draw).value)
    with pytest.raises(SpecError, check=naming("ctx", None)):
        rising(draw)
    with pytest.raises(SpecError, check=naming("free_nats", 1.0)):
        Elbo(capacity=4.0, free_nats=1.0)


def two_groups(first: float, second: float) -> Draw:
    """Groups of 2 and of 8 latents, with these KLs."""
    zero = torch.zeros(1, 3, dtype=torch.float64)
    latents = tuple(Latent(torch.zeros(1, 3, n), zero + kl, zero) for n, kl in ((2, first), (8, second)))
    px = td.Independent(td.Normal(torch.zeros(1, 3, 4, dtype=torch.float64), 1.0), 1)
    return Draw(torch.zeros(3, 4), None, None, latents, px, px.log_prob(torch.zeros(3, 4)))


def test_balancing_weighs_each_group_by_its_kl_for_a_latent_number_while_beta_is_below_one() -> None:
    draw = two_groups(4.0, 8.0)
    log_px = draw.log_px[0]
    shares = torch.tensor([4.01 / 2, 8.01 / 8], dtype=torch.float64)
    weights = shares / shares.mean()
    wanted = log_px - 0.5 * (4.0 * weights[0] + 8.0 * weights[1])
    torch.testing.assert_close(Elbo(beta=0.5, balance=True)(draw).value, wanted)
    torch.testing.assert_close(Elbo(beta=1.0, balance=True)(draw).value, log_px - 12.0)
    rising = Elbo(beta=Warmup(over=0.5), balance=True)
    torch.testing.assert_close(rising(draw, StepContext(step=25, steps=100)).value, wanted)
    torch.testing.assert_close(rising(draw, StepContext(step=80, steps=100)).value, log_px - 12.0)
    torch.testing.assert_close(Elbo(beta=0.5)(draw).value, log_px - 6.0)


def test_cyclical_warm_up_starts_again() -> None:
    beta = Cyclical(start=0.1, end=0.9, cycles=2, rise=0.5)
    for step, wanted in ((0, 0.1), (100, 0.3), (200, 0.5), (400, 0.9), (799, 0.9), (800, 0.1), (1000, 0.5)):
        assert beta.at(step, 1600) == pytest.approx(wanted)
        assert float(beta.at(torch.tensor(step), torch.tensor(1600))) == pytest.approx(wanted)
    draw = drawn(model())
    found = Elbo(beta=beta)(draw, StepContext(step=200, steps=1600))
    torch.testing.assert_close(found.value, Elbo(beta=0.5)(draw).value)


def autoencoder() -> VAE:
    posterior = Conditional(nn.Linear(6, 2), Deterministic(), (2,))
    return VAE(posterior, StandardNormal().build(2), Conditional(nn.Linear(2, 6), Bernoulli())).double()


def test_with_a_point_posterior_it_is_an_autoencoder_and_claims_no_bound() -> None:
    vae = autoencoder()
    draw = drawn(vae, 1)
    plain = Elbo(beta=0.0)(draw)
    assert plain.value.equal(draw.log_px[0])
    assert set(plain.parts) == {"distortion"}
    z = vae.posterior.network(rows())
    torch.testing.assert_close(draw.log_px[0], vae.likelihood(z).log_prob(rows()))
    with_prior = Elbo(beta=0.3)(draw).value
    log_pz = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(with_prior, draw.log_px[0] + 0.3 * log_pz)
    landing = drawn(vae, 1, score=False)
    torch.testing.assert_close(Elbo(beta=0.3, gradient=StickTheLanding())(landing).value, with_prior)


def test_estimators_through_the_density_are_refused_for_a_deterministic_posterior() -> None:
    vae = autoencoder()
    with pytest.raises(SpecError, check=naming("gradient", Score())):
        Elbo(gradient=Score())(drawn(vae, reparametrised=False))
    with pytest.raises(SpecError, check=naming("draw")):
        Iwae()(drawn(vae))
