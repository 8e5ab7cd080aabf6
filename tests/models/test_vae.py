"""One pass: the record it leaves, the two ways of gradients, anyone's modules in each role, and errors that help."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models import VAE, Bernoulli, Categorical, Conditional, Gaussian, Mixture, Mlp, StandardNormal, Vamp
from vaekit.models.building import BuildContext
from vaekit.models.drawing import Latent, draw_latent, reparametrised_log_prob
from vaekit.randomness import new_generator


class FullCovariance(nn.Module):
    """A posterior that no head of vaekit can say."""

    def __init__(self, features: int, latents: int):
        super().__init__()
        self.network = nn.Linear(features, latents)
        self.factor = nn.Parameter(torch.eye(latents) + 0.3 * torch.tril(torch.ones(latents, latents)))

    def forward(self, x: Tensor) -> Distribution:
        return td.MultivariateNormal(self.network(x), scale_tril=self.factor.tril())


class LearnedPrior(nn.Module):
    def __init__(self, latents: int):
        super().__init__()
        self.loc = nn.Parameter(torch.full((latents,), 0.5))

    def forward(self) -> Distribution:
        return td.Independent(td.Normal(self.loc, 1.0), 1)


class Laplacian(nn.Module):
    """A likelihood that no head of vaekit can say."""

    def __init__(self, latents: int, features: int):
        super().__init__()
        self.network = nn.Linear(latents, features)

    def forward(self, z: Tensor) -> Distribution:
        return td.Independent(td.Laplace(self.network(z), 1.0), 1)


class Always(nn.Module):
    """Returns what it was made with, whatever it is called with."""

    def __init__(self, out: object):
        super().__init__()
        self.out = out

    def forward(self, *inputs: Tensor) -> object:
        return self.out


def parts(zuko) -> dict[str, dict[str, Callable[[], nn.Module]]]:
    return {
        "posterior": {
            "own": lambda: Conditional(nn.Linear(5, 4), Gaussian()),
            "full covariance": lambda: FullCovariance(5, 2),
            "flow": lambda: zuko.flows.MAF(2, context=5, transforms=1, hidden_features=[8]),
        },
        "prior": {
            "own": lambda: StandardNormal().build(2),
            "learned": lambda: LearnedPrior(2),
            "flow": lambda: zuko.flows.MAF(2, transforms=1, hidden_features=[8]),
        },
        "likelihood": {
            "own": lambda: Conditional(nn.Linear(2, 5), Gaussian(scale=1.0)),
            "laplace": lambda: Laplacian(2, 5),
        },
    }


def model(prior: nn.Module | None = None) -> VAE:
    posterior, likelihood = Conditional(nn.Linear(5, 4), Gaussian()), Conditional(nn.Linear(2, 5), Gaussian(scale=1.0))
    return VAE(posterior, prior or StandardNormal().build(2), likelihood).double()


def rows(n: int = 3) -> Tensor:
    return torch.randn(n, 5, dtype=torch.float64)


@pytest.mark.parametrize("likelihood", ["own", "laplace"])
@pytest.mark.parametrize("prior", ["own", "learned", "flow"])
@pytest.mark.parametrize("posterior", ["own", "full covariance", "flow"])
def test_anyones_modules_serve_in_each_role(zuko, posterior: str, prior: str, likelihood: str) -> None:
    made = parts(zuko)
    vae = VAE(made["posterior"][posterior](), made["prior"][prior](), made["likelihood"][likelihood]()).double()
    for reparametrised in (True, False):
        draw = vae.draw(rows(), samples=4, generator=new_generator(1), reparametrised=reparametrised)
        for value in (draw.log_px, draw.log_pz, draw.log_qz, draw.log_w):
            assert value.shape == (4, 3)
            assert value.isfinite().all()
        gradients = torch.autograd.grad(draw.log_w.mean(), list(vae.parameters()), allow_unused=True)
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert vae.generate(7, generator=new_generator(2)).shape == (7, 5)


def test_the_record_of_a_pass() -> None:
    vae, x = model(), rows()
    draw = vae.draw(x, samples=4, generator=new_generator(1))
    (latent,) = draw.latents
    assert latent.z.shape == (4, 3, 2)
    q, p, px = vae.posterior(x), vae.prior(), vae.likelihood(latent.z)
    torch.testing.assert_close(draw.log_qz, q.log_prob(latent.z))
    torch.testing.assert_close(draw.log_pz, p.log_prob(latent.z))
    torch.testing.assert_close(draw.log_px, px.log_prob(x))
    torch.testing.assert_close(draw.log_w, draw.log_px + draw.log_pz - draw.log_qz)
    torch.testing.assert_close(vae.log_joint(x, (latent.z,)), draw.log_px + draw.log_pz)
    torch.testing.assert_close(latent.closed_kl(), td.kl_divergence(q, p))
    torch.testing.assert_close(latent.closed_kl_per_dimension().sum(-1), latent.closed_kl())


def test_an_encoding_can_be_reused_and_noise_handed_in() -> None:
    vae, x = model(), rows()
    whole = vae.draw(x, samples=4, generator=new_generator(1))
    noise = torch.randn(4, 3, 2, generator=new_generator(1), dtype=torch.float64)
    code = vae.encode(x)
    chunks = [vae.draw(x, samples=2, code=code, noise=(some,)).log_w for some in noise.split(2)]
    assert torch.cat(chunks).equal(whole.log_w)


def test_there_is_no_closed_kl_where_torch_knows_none() -> None:
    vae = VAE(FullCovariance(5, 2), Mixture(components=2).build(2), Laplacian(2, 5))
    (latent,) = vae.draw(torch.zeros(3, 5)).latents
    assert latent.closed_kl() is None
    assert latent.closed_kl_per_dimension() is None
    alone = Latent(latent.z, latent.log_q, latent.log_p)
    assert alone.closed_kl() is None
    assert alone.closed_kl_per_dimension() is None


def test_without_path_no_gradient_reaches_the_posterior_through_z() -> None:
    vae, x = model(), rows()
    kept = vae.draw(x, generator=new_generator(1))
    cut = vae.draw(x, generator=new_generator(1), reparametrised=False)
    assert cut.latents[0].z.equal(kept.latents[0].z)
    assert not cut.latents[0].z.requires_grad
    weights = list(vae.posterior.parameters())
    through_px = torch.autograd.grad(cut.log_px.sum(), weights, allow_unused=True)
    assert through_px == (None, None)
    assert all(gradient.any() for gradient in torch.autograd.grad(kept.log_px.sum(), weights))
    assert all(gradient.any() for gradient in torch.autograd.grad(cut.log_qz.sum(), weights))


DISTRIBUTIONS = ["normal", "multivariate normal", "flow", "scalar"]


def posterior_module(kind: str, zuko) -> nn.Module:
    if kind == "flow":
        return zuko.flows.MAF(2, context=5, transforms=2, hidden_features=[8]).double()
    if kind == "multivariate normal":
        return FullCovariance(5, 2).double()
    if kind == "scalar":
        return ScalarPosterior().double()
    return Conditional(nn.Linear(5, 4), Gaussian()).double()


class ScalarPosterior(nn.Module):
    """z is one number, so that an event has no dimensions."""

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Distribution:
        return td.Normal(self.network(x).squeeze(-1), 0.7)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_path_log_prob_has_the_value_of_log_prob_and_a_gradient_through_z_alone(kind: str, zuko) -> None:
    posterior, x = posterior_module(kind, zuko), rows()
    weights = list(posterior.parameters())
    q = posterior(x)
    z = q.rsample(torch.Size((4,)))
    value = reparametrised_log_prob(q, z)
    torch.testing.assert_close(value, q.log_prob(z), rtol=1e-12, atol=1e-12)
    # the same posterior, its weights held constant, scored at the same z
    fixed = copy.deepcopy(posterior).requires_grad_(False)(x).log_prob(z)
    signal = torch.randn(4, 3, dtype=torch.float64)
    expected = torch.autograd.grad((signal * fixed).sum(), weights, retain_graph=True, allow_unused=True)
    found = torch.autograd.grad((signal * value).sum(), weights, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    leaked = reparametrised_log_prob(q, z.detach())
    assert not leaked.requires_grad


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_draw_without_score_has_gradients_through_z_alone(kind: str, zuko) -> None:
    posterior, x = posterior_module(kind, zuko), rows()
    q = posterior(x)
    p = td.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    prior = p if kind == "scalar" else td.Independent(p.expand((2,)), 1)
    both = draw_latent(q, prior, (4,), generator=new_generator(1))
    through_z = draw_latent(q, prior, (4,), generator=new_generator(1), score=False)
    torch.testing.assert_close(both.log_q, through_z.log_q)
    neither = draw_latent(q, prior, (4,), generator=new_generator(1), reparametrised=False, score=False)
    assert not neither.log_q.requires_grad
    with torch.no_grad():
        assert draw_latent(q, prior, (4,), generator=new_generator(1), score=False).log_q.equal(both.log_q.detach())


def test_a_prior_keeps_its_gradient_where_z_has_none() -> None:
    prior = LearnedPrior(2)
    vae = model(prior)
    draw = vae.draw(rows(), samples=4, reparametrised=False)
    (gradient,) = torch.autograd.grad(draw.log_pz.sum(), prior.loc)
    torch.testing.assert_close(gradient, (draw.latents[0].z - prior.loc).sum((0, 1)).detach())


def refused(message: str, posterior: nn.Module, prior: nn.Module, likelihood: nn.Module, x: Tensor) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        VAE(posterior, prior, likelihood).draw(x, samples=4)


def test_errors_name_the_part_and_the_mend() -> None:
    x = torch.zeros(3, 5)
    posterior, prior = Conditional(nn.Linear(5, 4), Gaussian()), StandardNormal().build(2)
    likelihood = Conditional(nn.Linear(2, 5), Bernoulli())
    loose = Always(td.Normal(torch.zeros(4, 3, 5), 1.0))
    narrow = Conditional(nn.Linear(2, 7), Bernoulli())
    refused(r"likelihood is over x of shape \(\), but a row of x has \(5,\).*Independent", posterior, prior, loose, x)
    refused(r"likelihood is over x of shape \(7,\)", posterior, prior, narrow, x)
    whole = nn.Sequential(nn.Flatten(), posterior)
    refused(r"over x of shape \(5,\), but a row of x has \(1, 5\)", whole, prior, likelihood, x[:, None])
    refused(r"posterior has batch shape \(3, 1\) for 3 rows", posterior, prior, likelihood, x[:, None])
    refused("likelihood returned Tensor.*Conditional", posterior, prior, nn.Linear(2, 5), x)
    refused("posterior returned Tensor", nn.Linear(5, 2), prior, likelihood, x)
    refused("prior returned int", posterior, Always(3), likelihood, x)
    refused(
        r"posterior is over z of shape \(2,\), the prior over \(3,\)",
        posterior,
        StandardNormal().build(3),
        likelihood,
        x,
    )
    one_for_all = Always(td.Independent(td.Normal(torch.zeros(2), 1.0), 1))
    refused(r"posterior has batch shape \(\) for 3 rows", one_for_all, prior, likelihood, x)
    unfactored = Always(td.Normal(torch.zeros(3, 2), 1.0))
    refused(r"posterior has batch shape \(3, 2\) for 3 rows.*Independent", unfactored, prior, likelihood, x)
    blind = Always(td.Independent(td.Normal(torch.zeros(5), 1.0), 1))
    refused(r"likelihood has batch shape \(\) for 4 samples of z for each of 3 rows", posterior, prior, blind, x)


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        (
            lambda: VAE(nn.Linear(5, 4), StandardNormal(), nn.Linear(2, 5)),
            TypeError,
            r"StandardNormal.*\.build\(size\)",
        ),
        (lambda: VAE(nn.Linear(5, 4), StandardNormal, nn.Linear(2, 5)), TypeError, "the class StandardNormal"),
        (lambda: VAE(nn.Linear(5, 4), td.Normal(0.0, 1.0), nn.Linear(2, 5)), TypeError, "torch distribution, Normal"),
        (lambda: VAE(nn.Linear(5, 4), 3, nn.Linear(2, 5)), TypeError, "prior is a int"),
        (lambda: Conditional(Mlp((3,)), Gaussian()), TypeError, r"Mlp\(\).build\(in_shape, features\)"),
        (lambda: Conditional(nn.Linear(5, 4), Gaussian), TypeError, r"class Gaussian.*Gaussian\(\)"),
        (lambda: Conditional(nn.Linear(5, 4), "gaussian"), TypeError, r"'gaussian'.*Gaussian\(\)"),
        (lambda: StandardNormal().build(0), ValueError, "size is 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_part_that_is_not_made_is_refused_with_what_to_write(call, error, why) -> None:
    with pytest.raises(error, match=why):
        call()


def test_an_input_that_does_not_fit_a_network_names_the_part_and_the_shape() -> None:
    vae = model().float()
    for x in (torch.zeros(4, 3), torch.zeros(4, 2, 2)):
        with pytest.raises(ValueError, match="posterior does not take an input of shape") as found:
            vae.draw(x)
        assert str(tuple(x.shape)) in str(found.value)
        assert isinstance(found.value.__cause__, RuntimeError)
    with pytest.raises(ValueError, match=r"likelihood does not take an input of shape \(4, 3\).*z of the size"):
        vae.decode(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"x is int64.*transform=Rescale\(0, 7\).*x\.float\(\)"):
        vae.draw(torch.full((4, 5), 7))
    with pytest.raises(ValueError, match="input is float64"):
        vae.draw(torch.zeros(4, 5, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"network, Linear, takes no context.*context="):
        vae.draw(torch.zeros(4, 5), context=torch.zeros(4, 2))
    with pytest.raises(TypeError, match=r"prior, LearnedPrior, takes no context"):
        VAE(Blind(vae.posterior), LearnedPrior(2), vae.likelihood).draw(torch.zeros(4, 5), context=torch.zeros(4, 2))


def test_an_input_that_does_not_fit_beside_those_of_a_vamp_prior_is_explained() -> None:
    plain = model().float()
    vamp = Vamp(components=3).build(2, BuildContext((5,), posterior=plain.posterior))
    with pytest.raises(ValueError, match=r"posterior does not take an input of shape \(4, 3\)"):
        VAE(plain.posterior, vamp, plain.likelihood).draw(torch.zeros(4, 3))


@pytest.mark.parametrize("error", [RuntimeError("my own"), TypeError("my own"), ValueError("my own")])
def test_other_errors_of_a_part_pass_as_they_are(error: Exception) -> None:
    plain = model()
    with pytest.raises(type(error), match="my own") as found:
        VAE(Failing(error), plain.prior, plain.likelihood).draw(rows())
    assert found.value is error


class Failing(nn.Module):
    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Distribution:
        raise self.error


class Blind(nn.Module):
    """A part that does not look at its context."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor, context: Tensor) -> Distribution:
        return self.part(x)


def test_one_group_of_latents_may_be_given_as_a_tensor() -> None:
    vae, z = model(), torch.zeros(1, 2, dtype=torch.float64)
    assert vae.decode(z).mean.equal(vae.decode((z,)).mean)
    x = rows(1)
    assert vae.log_joint(x, z).equal(vae.log_joint(x, (z,)))


def test_a_network_of_the_wrong_width_is_refused_with_the_right_one() -> None:
    odd = Conditional(nn.Linear(5, 3), Gaussian())
    with pytest.raises(ValueError, match=r"gives 3 numbers.*makes 2"):
        odd(torch.zeros(2, 5))


@pytest.mark.parametrize("event_shape", [(3,), (1, 1, 3), (3, 1, 1)])
def test_rows_are_never_taken_for_parameters(event_shape: tuple[int, ...]) -> None:
    # two rows of three numbers, where one row of six is wanted
    conditional = Conditional(nn.Linear(5, 3), Gaussian(), event_shape=event_shape)
    with pytest.raises(ValueError, match=r"gives 3 numbers.*makes 6"):
        conditional(torch.zeros(2, 5))


@pytest.mark.parametrize("event_shape", [(2, 4, 6), (1, 4, 6), (1, 1, 1)])
def test_a_network_may_give_an_image(event_shape: tuple[int, int, int]) -> None:
    channels, *size = event_shape
    image = nn.Sequential(nn.Linear(5, 2 * channels), nn.Unflatten(-1, (2 * channels, 1, 1)), nn.Upsample(tuple(size)))
    flat = nn.Sequential(*image, nn.Flatten())
    x = torch.randn(3, 5)
    from_image = Conditional(image, Gaussian(), event_shape=event_shape)(x)
    from_flat = Conditional(flat, Gaussian(), event_shape=event_shape)(x)
    assert from_image.batch_shape == (3,)
    assert from_image.event_shape == event_shape
    assert from_image.mean.equal(from_flat.mean)
    assert from_image.stddev.equal(from_flat.stddev)


def test_levels_stay_integers_all_the_way() -> None:
    vae = VAE(
        Conditional(nn.Linear(5, 4), Gaussian(), transform=nn.Hardtanh()),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 15), Categorical(3), event_shape=(5,)),
    )
    x = vae.generate(6, generator=new_generator(1))
    assert x.dtype == torch.int64
    assert x.unique().tolist() == [0, 1, 2]
    assert vae.decode((torch.zeros(6, 2),)).log_prob(x).shape == (6,)
