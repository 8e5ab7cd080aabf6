"""Discrete latents: what z is made of, posteriors and priors over it."""

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from unions import examples, name
from vaekit.evaluation import evaluate
from vaekit.models import (
    VAE,
    Anneal,
    AutoregressiveCodes,
    Bernoulli,
    BernoulliPosterior,
    CategoricalPosterior,
    Conditional,
    FsqPosterior,
    Posterior,
    Prior,
    StandardNormal,
    VqPosterior,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import CodeSpace, Factorised, centre
from vaekit.models.distributions.noise import draw_from, noise_shape
from vaekit.models.drawing import draw_latent
from vaekit.models.protocols import DiscreteHead
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

LATENT = 3
FAMILIES = [
    CategoricalPosterior(classes=3),
    CategoricalPosterior(classes=3, temperature=0.5),
    BernoulliPosterior(),
    BernoulliPosterior(temperature=Anneal(), straight_through=True),
    VqPosterior(classes=4, dim=2),
    VqPosterior(classes=3, dim=2, depth=2),
    FsqPosterior(levels=(3, 2)),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.kind}-{FAMILIES.index(f)}")
every_prior = pytest.mark.parametrize("prior", [p for p in examples(Prior) if "discrete" in p.over], ids=name)


def posterior_of(family: Any, latent: int = LATENT) -> Conditional:
    shape = family.z_shape(latent)
    torch.manual_seed(0)
    return Conditional(nn.Linear(6, family.features(shape)), family, shape).double()


def space_of(posterior: Conditional) -> CodeSpace:
    assert isinstance(posterior.head, DiscreteHead)
    return posterior.head.code_space(posterior.event_shape or ())


def rows(n: int = 4) -> Tensor:
    return torch.randn(n, 6, dtype=torch.float64, generator=new_generator(1))


def every_code(space: CodeSpace) -> Tensor:
    return torch.tensor(list(itertools.product(range(space.classes), repeat=space.positions)))


@pytest.fixture(autouse=True)
def _own_seed():
    with torch.random.fork_rng():
        yield


def test_every_discrete_posterior_is_here() -> None:
    discrete = {type(p) for p in examples(Posterior) if p.support_of_z == "discrete"}
    assert discrete == {type(p) for p in FAMILIES}


@every_family
def test_codes_become_z_and_come_back(family: Any) -> None:
    posterior = posterior_of(family)
    space = space_of(posterior)
    codes = every_code(space)
    z = space.z_of(codes).double()
    assert z.shape == (len(codes), *family.z_shape(LATENT))
    assert len(z.unique(dim=0)) == len(z), "no two codes share a z"
    found = space.one_hot(z)
    assert found.shape == (len(codes), space.positions, space.classes)
    assert found.argmax(-1).equal(codes)
    assert found.sum(-1).eq(1).all()


@every_family
def test_a_discrete_posterior_is_one_distribution_for_each_row(family: Any) -> None:
    posterior = posterior_of(family)
    q, shape = posterior(rows()), family.z_shape(LATENT)
    assert (q.batch_shape, q.event_shape) == ((4,), shape)
    z = draw_from(q, (5,), new_generator(2))
    assert z.shape == (5, 4, *shape)
    assert z.dtype == torch.float64
    assert q.log_prob(z).shape == (5, 4)
    assert q.mean.shape == q.variance.shape == centre(q).shape == (4, *shape)
    noise = torch.rand(5, *noise_shape(q), dtype=torch.float64, generator=new_generator(2))
    assert draw_from(q, (5,), noise=noise).equal(z)
    alone = posterior(rows()[1:2])
    torch.testing.assert_close(alone.log_prob(z[:, 1:2].detach())[:, 0], q.log_prob(z.detach())[:, 1])


@every_family
def test_the_mass_of_a_posterior_is_one_and_its_draws_follow_it(family: Any) -> None:
    posterior = posterior_of(family).eval()
    with torch.no_grad():
        q, space = posterior(rows(1)), space_of(posterior)
        z = space.z_of(every_code(space)).double()
        mass = q.log_prob(z[:, None])[:, 0].exp()
        assert mass.sum().item() == pytest.approx(1)
        drawn = draw_from(q, (2000,), new_generator(3))[:, 0]
        counts = (drawn[:, None] == z).all(-1).sum(0)
    assert counts.sum() == 2000, "every draw is a code"
    likely = mass * 2000 > 5
    if likely.sum() > 1:
        expected = mass[likely] / mass[likely].sum() * counts[likely].sum()
        assert stats.chisquare(counts[likely], expected).pvalue > 1e-4


@every_family
def test_the_mean_and_variance_of_codes_are_those_of_every_z(family: Any) -> None:
    space = space_of(posterior_of(family))
    logits = torch.randn(3, space.positions, space.classes, dtype=torch.float64, generator=new_generator(4))
    p, z = Factorised(logits, space), space.z_of(every_code(space)).double()
    mass = p.log_prob(z[:, None]).exp()
    mean = torch.einsum("cb,cs->bs", mass, z)
    torch.testing.assert_close(p.mean, mean)
    torch.testing.assert_close(p.variance, torch.einsum("cb,cs->bs", mass, z**2) - mean**2)


@every_prior
@every_family
def test_the_mass_of_a_prior_is_one_and_its_draws_follow_it(family: Any, prior: Any) -> None:
    posterior = posterior_of(family, 2)
    built = prior.build(math.prod(family.z_shape(2)), BuildContext((6,), posterior=posterior)).double()
    for weight in built.parameters():
        nn.init.normal_(weight, std=0.2)
    with torch.no_grad():
        p, space = built(), space_of(posterior)
        assert (p.batch_shape, p.event_shape) == ((), family.z_shape(2))
        z = space.z_of(every_code(space)).double()
        mass = p.log_prob(z).exp()
        assert mass.sum().item() == pytest.approx(1)
        torch.testing.assert_close(p.log_prob(z[None, :5])[0], p.log_prob(z[:5]))
        drawn = draw_from(p, (2000,), new_generator(4))
        counts = (drawn[:, None] == z).all(-1).sum(0)
    assert counts.sum() == 2000
    likely = mass * 2000 > 5
    assert likely.sum() > 1
    expected = mass[likely] / mass[likely].sum() * counts[likely].sum()
    assert stats.chisquare(counts[likely], expected).pvalue > 1e-4
    if prior.kind == "standard_normal":
        torch.testing.assert_close(mass, torch.full_like(mass, space.classes**-space.positions))


@every_prior
def test_every_weight_of_a_prior_has_a_gradient(prior: Any) -> None:
    posterior = posterior_of(CategoricalPosterior(classes=3))
    built = prior.build(9, BuildContext((6,), posterior=posterior)).double()
    z = draw_from(posterior(rows()), (5,), new_generator(1))
    for label, weight in built.named_parameters():
        (gradient,) = torch.autograd.grad(built().log_prob(z).sum(), weight)
        assert gradient.any(), label
    assert not [name for name in built.state_dict() if "vectors" in name], "the posterior's is not the prior's"


def test_an_autoregressive_prior_is_not_factorised_and_sees_only_what_is_before() -> None:
    posterior = posterior_of(CategoricalPosterior(classes=3))
    built = AutoregressiveCodes(width=8, heads=2).build(9, BuildContext(posterior=posterior)).double()
    codes = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2])].requires_grad_()
    log_probs = built.log_probs(codes)
    for place in range(3):
        (slope,) = torch.autograd.grad(log_probs[place].square().sum(), codes, retain_graph=True)
        assert not slope[place:].any()
        assert slope[:place].any(-1).all()


@pytest.mark.parametrize("family", FAMILIES[:4], ids=name)
def test_the_closed_kl_is_the_sum_over_every_code(family: Any) -> None:
    posterior = posterior_of(family)
    for prior in ("standard_normal", "factorised"):
        (spec,) = (p for p in examples(Prior) if p.kind == prior)
        built = spec.build(math.prod(family.z_shape(LATENT)), BuildContext((6,), posterior=posterior)).double()
        for weight in built.parameters():
            nn.init.normal_(weight)
        latent = draw_latent(posterior(rows()), built(), (2,))
        space = space_of(posterior)
        z = space.z_of(every_code(space)).double()[:, None]
        log_q = latent.q.log_prob(z)
        expected = (log_q.exp() * (log_q - latent.p.log_prob(z))).sum(0)
        torch.testing.assert_close(latent.closed_kl(), expected)
        torch.testing.assert_close(latent.closed_kl_per_dimension().sum(-1), expected)
        assert latent.closed_kl_per_dimension().shape == (4, LATENT)


class TestRelaxation:
    def test_relaxed_samples_are_in_training_and_for_gradients_alone(self) -> None:
        posterior = posterior_of(CategoricalPosterior(classes=3, temperature=0.5))
        noise = torch.rand(7, *noise_shape(posterior(rows())), dtype=torch.float64)
        relaxed = draw_from(posterior(rows()), (7,), noise=noise)
        assert ((relaxed > 0) & (relaxed < 1)).all()
        torch.testing.assert_close(relaxed.unflatten(-1, (3, 3)).sum(-1), torch.ones(7, 4, 3, dtype=torch.float64))
        with torch.no_grad():
            hard = draw_from(posterior(rows()), (7,), noise=noise)
        assert hard.equal(draw_from(posterior.eval()(rows()), (7,), noise=noise))
        assert set(hard.unique().tolist()) == {0.0, 1.0}
        assert relaxed.unflatten(-1, (3, 3)).argmax(-1).equal(hard.unflatten(-1, (3, 3)).argmax(-1))

    def test_it_is_the_softmax_of_gumbel_noise_on_the_logits(self) -> None:
        posterior = posterior_of(CategoricalPosterior(classes=3, temperature=0.7))
        q = posterior(rows())
        noise = torch.rand(1, *noise_shape(q), dtype=torch.float64)
        gumbel = torch.from_numpy(stats.gumbel_r.ppf(noise.numpy()))
        expected = ((q.log_probs + gumbel) / 0.7).softmax(-1).flatten(-2)
        torch.testing.assert_close(draw_from(q, (1,), noise=noise), expected)

    def test_a_relaxed_bit_is_the_sigmoid_of_logistic_noise(self) -> None:
        """Maddison et al., 2017, equation 13."""
        posterior = posterior_of(BernoulliPosterior(temperature=0.4))
        q = posterior(rows(1))
        relaxed = draw_from(q, (20_000,), new_generator(5)).detach()[:, 0, 0]
        logit = (q.log_probs[0, 0, 1] - q.log_probs[0, 0, 0]).item()
        assert stats.kstest(0.4 * relaxed.logit() - logit, "logistic").pvalue > 1e-4

    def test_straight_through_is_hard_with_the_slope_of_the_relaxed(self) -> None:
        slopes = []
        for straight in (False, True):
            posterior = posterior_of(CategoricalPosterior(classes=3, temperature=0.5, straight_through=straight))
            q = posterior(rows())
            noise = torch.rand(1, *noise_shape(q), dtype=torch.float64, generator=new_generator(6))
            z = draw_from(q, (1,), noise=noise)
            assert (set(z.unique().tolist()) == {0.0, 1.0}) is straight
            weights = torch.arange(9, dtype=torch.float64)
            slopes += [torch.autograd.grad((weights * z).sum(), posterior.network.weight)[0]]
        torch.testing.assert_close(slopes[0], slopes[1])

    def test_the_temperature_falls_by_equal_factors(self) -> None:
        head = posterior_of(CategoricalPosterior(temperature=Anneal(start=1.0, end=0.25, over=0.5))).head
        found = []
        for step in (0, 25, 50, 100):
            head.anneal(step, 100)
            found += [float(head.temperature)]
        assert found == pytest.approx([1.0, 0.5, 0.25, 0.25])
        head.anneal(torch.tensor(25.0), torch.tensor(100.0))
        assert float(head.temperature) == pytest.approx(0.5)


def model_of(family: Any, prior: Any) -> VAE:
    posterior = posterior_of(family)
    size, (seen, view) = math.prod(family.z_shape(LATENT)), family.as_seen(LATENT)
    likelihood = Conditional(nn.Linear(*seen, 6), Bernoulli(), (6,), view)
    return VAE(posterior, prior.build(size, BuildContext((6,), posterior=posterior)), likelihood).double()


@every_prior
@every_family
def test_a_model_is_evaluated_and_generates(family: Any, prior: Any) -> None:
    model = model_of(family, prior)
    x = model.generate(20, generator=new_generator(1))
    assert x.shape == (20, 6)
    found = evaluate(model, x, samples=4)
    assert found["log_likelihood"].value >= found["elbo"].value - 1e-9
    assert found["bits_per_dim"].value is not None
    known = isinstance(model.posterior(x[:1]), Factorised) and prior.kind != "autoregressive"
    assert (found["active_units"].value is not None) is known
    assert known or found["active_units"].warning


@pytest.mark.parametrize("family", FAMILIES[4:], ids=name)
def test_the_elbo_of_a_deterministic_posterior_is_a_bound_on_the_exact_likelihood(family: Any) -> None:
    model = model_of(family, StandardNormal())
    x = model.generate(30, generator=new_generator(1))
    space = space_of(model.posterior)
    found = evaluate(model, x, samples=3)
    assert found["rate"].value == pytest.approx(space.positions * math.log(space.classes))
    assert found["log_likelihood"].value == pytest.approx(found["elbo"].value)
    z = space.z_of(every_code(space)).double()[:, None].expand(-1, 30, -1)
    with torch.no_grad():
        exact = model.log_joint(x, (z,)).logsumexp(0).mean().item()
    assert found["elbo"].value < exact
