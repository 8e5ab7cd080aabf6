"""Oracles: on the linear-Gaussian VAE the posterior, ln p(x) and the ELBO are known in closed form."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import VAE, CalibratedGaussian, Conditional, Gaussian, LinearGaussian, Mlp, StandardNormal
from vaekit.objectives import Elbo
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")


def story(data: int = 12, latents: int = 3, noise: float = 0.7, orthogonal: bool = False) -> LinearGaussian:
    loadings = torch.randn(data, latents, dtype=torch.float64)
    if orthogonal:
        loadings = torch.linalg.qr(loadings).Q * torch.linspace(1, 2, latents)
    return LinearGaussian(loadings, torch.randn(data, dtype=torch.float64), noise)


class Widened(nn.Module):
    """The true posterior, its covariance stretched: q too wide by this factor."""

    def __init__(self, story: LinearGaussian, factor: float):
        super().__init__()
        self.story, self.factor = story, factor

    def forward(self, x: Tensor) -> td.Distribution:
        exact = self.story.true_posterior(x)
        return td.MultivariateNormal(exact.loc, scale_tril=self.factor * exact.scale_tril)


class Laplacian(nn.Module):
    def forward(self, z: Tensor) -> td.Distribution:
        return td.Independent(td.Laplace(z, 1.0), 1)


def diagonal_posterior(truth: LinearGaussian) -> Conditional:
    """The true posterior of orthogonal loadings as a linear network under the diagonal Gaussian head."""
    features, latents = truth.loadings.shape
    variance = truth.best_diagonal() ** 2
    network = nn.Linear(features, 2 * latents, dtype=torch.float64)
    with torch.no_grad():
        network.weight[:latents] = variance[:, None] * truth.loadings.T / truth.noise**2
        network.weight[latents:] = 0
        network.bias[:latents] = -network.weight[:latents] @ truth.offset
        network.bias[latents:] = variance.log()
    return Conditional(network, Gaussian())


def bound(log_w: Tensor, samples: int) -> Tensor:
    """The importance-weighted bound with this many samples, averaged over the groups that K holds, (batch,)."""
    groups = log_w.unflatten(0, (-1, samples))
    return (groups.logsumexp(1) - math.log(samples)).mean(0)


def z_score(differences: Tensor) -> float:
    return (differences.mean() / (differences.std() / math.sqrt(len(differences)))).item()


def test_log_px_is_the_density_of_x() -> None:
    truth = story()
    x = truth.vae().generate(50, generator=new_generator(1))
    covariance = truth.loadings @ truth.loadings.T + truth.noise**2 * torch.eye(12, dtype=torch.float64)
    direct = td.MultivariateNormal(truth.offset, covariance).log_prob(x)
    torch.testing.assert_close(truth.log_px(x), direct, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["diagonal head", "plain module"])
def test_with_the_exact_posterior_log_w_is_ln_px_for_every_z(kind: str) -> None:
    truth = story(orthogonal=kind == "diagonal head")
    model = truth.vae(diagonal_posterior(truth) if kind == "diagonal head" else None)
    x = truth.vae().generate(20, generator=new_generator(1))
    draw = model.draw(x, samples=30, generator=new_generator(2))
    assert draw.latents[0].z.std(0).min() > 0.05  # z does vary
    torch.testing.assert_close(draw.log_w, truth.log_px(x).expand(30, 20), rtol=1e-10, atol=0)


def test_elbo_plus_kl_to_the_true_posterior_is_ln_px() -> None:
    truth = story()
    x = truth.vae().generate(20, generator=new_generator(1))
    loc, scale = torch.randn(20, 3, dtype=torch.float64), torch.rand(20, 3, dtype=torch.float64) + 0.1
    q = td.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    total = truth.elbo(x, loc, scale) + td.kl_divergence(q, truth.true_posterior(x))
    torch.testing.assert_close(total, truth.log_px(x), rtol=1e-12, atol=0)


def test_closed_elbo_is_the_mean_of_log_w() -> None:
    truth = story()
    model = truth.vae(Conditional(nn.Linear(12, 6, dtype=torch.float64), Gaussian()))
    x = truth.vae().generate(1, generator=new_generator(1))
    q = model.posterior(x).base_dist
    log_w = model.draw(x, samples=20_000, generator=new_generator(2)).log_w[:, 0]
    assert abs(z_score(log_w - truth.elbo(x, q.loc, q.scale))) < 4


def test_gradients_are_those_of_the_closed_elbo() -> None:
    truth = story()
    x = truth.vae().generate(7, generator=new_generator(1))
    loc = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    log_scale = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    by_autograd = torch.autograd.grad(truth.elbo(x, loc, log_scale.exp()).sum(), (loc, log_scale))
    for exact, found in zip(truth.elbo_gradients(loc, log_scale, x), by_autograd, strict=True):
        torch.testing.assert_close(exact, found, rtol=1e-10, atol=1e-10)


def test_best_diagonal_beats_its_neighbours_and_is_the_posterior_where_loadings_are_orthogonal() -> None:
    truth = story()
    x = truth.vae().generate(1, generator=new_generator(1))
    loc, scale = truth.true_posterior(x).mean, truth.best_diagonal().expand(1, 3)
    best = truth.elbo(x, loc, scale)
    for factor in (0.95, 1.05):
        assert truth.elbo(x, loc, factor * scale) < best
        assert truth.elbo(x, factor * loc, scale) < best
    simple = story(orthogonal=True)
    torch.testing.assert_close(simple.true_posterior(x).variance[0], simple.best_diagonal() ** 2)


def test_importance_weighting_rises_with_samples_and_stays_below_ln_px() -> None:
    truth = story(latents=5)
    x = truth.vae().generate(1, generator=new_generator(1)).expand(20_000, -1)
    log_w = truth.vae(Widened(truth, 1.2)).draw(x, samples=16, generator=new_generator(2)).log_w.detach()
    bounds = [bound(log_w, samples) for samples in (1, 4, 16)]
    for fewer, more in zip(bounds, [*bounds[1:], truth.log_px(x)], strict=True):
        assert z_score(more - fewer) > 4


def test_a_closed_kl_inside_the_log_mean_exp_overstates_ln_px_and_log_w_does_not() -> None:
    truth = story(data=30, latents=10, noise=0.3)
    x = truth.vae().generate(200, generator=new_generator(1))
    log_px = truth.log_px(x)
    draw = truth.vae().draw(x, samples=1000, generator=new_generator(2))
    assert (bound(draw.log_w, 1000) - log_px).abs().max() < 1e-8
    standard = td.MultivariateNormal(torch.zeros(10, dtype=torch.float64), torch.eye(10, dtype=torch.float64))
    wrong = bound(draw.log_px - td.kl_divergence(truth.true_posterior(x), standard), 1000)
    assert (wrong - log_px).mean() > 1


def test_generated_x_has_the_covariance_of_the_story() -> None:
    truth = story(data=3, latents=2)
    x = truth.vae().generate(40_000, generator=new_generator(3))
    covariance = truth.loadings @ truth.loadings.T + truth.noise**2 * torch.eye(3)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x - truth.offset).T, upper=False)
    spread = whitened @ whitened.T / 40_000
    assert (whitened.mean(1) * 200).abs().max() < 4.3
    assert ((spread - torch.eye(3)) * 200 / (1 + torch.eye(3)).sqrt()).abs().max() < 4.3


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_trained_linear_vae_reaches_the_maximum_likelihood_of_probabilistic_pca(name: str) -> None:
    latents = 4
    if name == "digits":
        x = torch.tensor(load_digits().data[:500]) / 16
    else:
        x = story(data=20, latents=latents).vae().generate(500, generator=new_generator(1))
    features = x.shape[1]
    model = VAE(
        Conditional(Mlp(widths=()).build((features,), 2 * latents), Gaussian()),
        StandardNormal().build(latents),
        Conditional(Mlp(widths=()).build((latents,), features), CalibratedGaussian(), event_shape=(features,)),
    ).double()
    model.likelihood.initialise_from(x)
    objective, generator, steps = Elbo(kl="closed"), new_generator(4), 500
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        (-objective(model.draw(x, generator=generator)).value.mean()).backward()
        optimiser.step()
        schedule.step()
    learned = LinearGaussian.from_vae(model)
    best = PCA(latents).fit(x.numpy()).score(x.numpy())
    assert best - 0.05 < learned.log_px(x).mean() < best + 1e-9
    # and its ELBO has next to no gap: the posterior was learned too
    assert learned.log_px(x).mean() - model.draw(x, 30, generator=generator).log_w.mean() < 0.2


@pytest.mark.parametrize("head", [Gaussian(scale=0.7), CalibratedGaussian()], ids=["fixed", "learned"])
def test_from_vae_reads_the_story_that_made_it(head: Gaussian | CalibratedGaussian) -> None:
    truth = story()
    likelihood = Conditional(nn.Linear(3, 12, dtype=torch.float64), head, event_shape=(12,)).double()
    likelihood.network.load_state_dict({"weight": truth.loadings, "bias": truth.offset})
    for scale in likelihood.head.parameters() if isinstance(likelihood.head, nn.Module) else ():
        nn.init.constant_(scale, 2 * math.log(0.7))
    read = LinearGaussian.from_vae(VAE(nn.Identity(), StandardNormal().build(3).double(), likelihood))
    torch.testing.assert_close(read.loadings, truth.loadings)
    torch.testing.assert_close(read.offset, truth.offset)
    assert read.noise == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (Conditional(nn.Sequential(nn.Linear(1, 5), nn.Tanh()), Gaussian(scale=1)), "not linear"),
        (Conditional(nn.Linear(1, 10), Gaussian()), "scale is not one number"),
        (Laplacian(), "likelihood is Laplace"),
    ],
)
def test_from_vae_refuses_a_model_that_is_not_linear_gaussian(likelihood: nn.Module, message: str) -> None:
    model = story(latents=1).vae()
    model.prior.float()
    del model.likelihood
    model.likelihood = likelihood
    with pytest.raises(SpecError, match=message, check=naming("model")):
        LinearGaussian.from_vae(model)


def test_from_vae_refuses_another_prior() -> None:
    model = story().vae()
    model.prior.loc += 1
    with pytest.raises(SpecError, match="prior is not N", check=naming("model")):
        LinearGaussian.from_vae(model)


def test_the_model_of_a_story_holds_copies_and_leaves_global_state(globals_untouched) -> None:
    truth = story()
    with globals_untouched():
        model = truth.vae()
    assert model.likelihood.network.weight.equal(truth.loadings)
    with torch.no_grad():
        model.likelihood.network.weight.zero_()
    assert truth.loadings.all()


@pytest.mark.parametrize("noise", [0.0, -1.0, math.inf, math.nan])
def test_noise_must_be_a_standard_deviation(noise: float) -> None:
    with pytest.raises(SpecError, check=naming("noise", noise)):
        LinearGaussian(torch.ones(2, 1), torch.zeros(2), noise)
