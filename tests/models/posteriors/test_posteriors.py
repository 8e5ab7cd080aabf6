"""What every family of posteriors must do; a member of the union is tested as soon as it is listed there."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from unions import examples, name, over_real
from vaekit.errors import SpecError
from vaekit.models import (
    VAE,
    Bernoulli,
    Conditional,
    Deterministic,
    FlowPosterior,
    FullGaussian,
    Gaussian,
    Mixture,
    Posterior,
    PowerSpherical,
    StandardNormal,
    UniformSphere,
    Vamp,
    VonMisesFisher,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from, noise_shape
from vaekit.models.distributions.transformed import Transformed
from vaekit.models.drawing import draw_latent
from vaekit.models.networks.flow import FlowNetwork
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = {"rtol": 1e-9, "atol": 1e-9}
SIZE = 3
FLOWS = ["autoregressive", "coupling", "spline"]
FAMILIES = [*over_real(Posterior), *(FlowPosterior(flow=flow, hidden=(8,), context=5) for flow in FLOWS)]

ON_SPHERE = (VonMisesFisher, PowerSpherical)

every_posterior = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.kind}-{getattr(f, 'flow', '')}")


def posterior_of(family: Any) -> Conditional:
    return Conditional(nn.Linear(6, family.features((SIZE,))), family, (SIZE,)).double()


def prior_for(family: Any) -> nn.Module:
    return (UniformSphere() if isinstance(family, ON_SPHERE) else StandardNormal()).build(SIZE).double()


def rows(n: int = 4) -> Tensor:
    return torch.randn(n, 6, dtype=torch.float64, generator=new_generator(1))


@pytest.mark.parametrize("family", examples(Posterior), ids=name)
def test_a_family_survives_its_configuration(family: Any) -> None:
    adapter = TypeAdapter(Posterior)
    assert adapter.validate_python(adapter.dump_python(family)) == family
    assert adapter.validate_python(family.kind) == type(family)()
    with pytest.raises(ValidationError, match="nonsense"):
        adapter.validate_python({"kind": family.kind, "nonsense": 1})


@every_posterior
def test_a_posterior_is_one_distribution_for_each_row(family: Any) -> None:
    q = posterior_of(family)(rows())
    assert (q.batch_shape, q.event_shape) == ((4,), (SIZE,))
    assert noise_shape(q) == (4, SIZE + isinstance(family, ON_SPHERE))
    z = draw_from(q, (5,), new_generator(2))
    assert z.shape == (5, 4, SIZE)
    assert q.log_prob(z).shape == (5, 4)
    assert q.mean.shape == q.variance.shape == (4, SIZE)
    assert z.isfinite().all()


every_density = pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if not isinstance(family, Deterministic)],
    ids=every_posterior.kwargs["ids"],
)


@every_density
def test_a_density_is_that_of_its_draws(family: Any) -> None:
    """Weighted by N(0, 2 I) / q, draws of q average to 1."""
    with torch.no_grad():
        q = posterior_of(family)(rows(1))
        z = draw_from(q, (40_000,), new_generator(2))
        spread = z.std(0).mean()
        other = td.Independent(td.Normal(z.mean(0), 0.8 * spread * torch.ones(1, SIZE)), 1)
        other = prior_for(family)() if isinstance(family, ON_SPHERE) else other
        weights = (other.log_prob(z) - q.log_prob(z)).exp()
    assert abs(weights.mean() - 1) < 4 * weights.std() / 200


@every_posterior
@pytest.mark.parametrize("score", [True, False])
def test_a_density_computed_on_the_way_is_the_density(family: Any, score: bool) -> None:
    posterior = posterior_of(family)
    latent = draw_latent(posterior(rows()), prior_for(family)(), (3,), None, new_generator(4), True, score)
    assert latent.q is not None
    torch.testing.assert_close(latent.log_q, latent.q.log_prob(latent.z), **ROUNDING)
    gradients = torch.autograd.grad((latent.log_q - latent.log_p).sum(), list(posterior.parameters()))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient.any()


@every_posterior
def test_a_row_alone_has_the_posterior_that_it_has_in_a_batch(family: Any) -> None:
    posterior, x = posterior_of(family), rows()
    noise = torch.randn(2, *noise_shape(posterior(x)), dtype=torch.float64)
    together = draw_from(posterior(x), (2,), noise=noise)
    for i in range(4):
        alone = draw_from(posterior(x[i : i + 1]), (2,), noise=noise[:, i : i + 1])
        torch.testing.assert_close(alone[:, 0], together[:, i], **ROUNDING)


@every_posterior
def test_a_posterior_saved_and_loaded_is_the_same(family: Any) -> None:
    one, other = posterior_of(family), posterior_of(family)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()}, strict=True)
    z = draw_from(prior_for(family)(), (4,), new_generator(3))
    assert other(rows()).log_prob(z).equal(one(rows()).log_prob(z))


def test_a_full_gaussian_has_the_covariance_of_its_triangle() -> None:
    raw = torch.randn(2, FullGaussian().features((SIZE,)), dtype=torch.float64)
    q = FullGaussian()(raw, (SIZE,))
    assert isinstance(q, td.MultivariateNormal)
    tril = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    tril[[1, 2, 2], [0, 0, 1]] = raw[0, 6:]
    tril += raw[0, 3:6].exp().diag()
    torch.testing.assert_close(q.covariance_matrix[0], tril @ tril.T)
    assert FullGaussian()(raw).event_shape == (SIZE,)
    z = draw_from(q, (50_000,), new_generator(1))
    torch.testing.assert_close(z[:, 0].T.cov(), q.covariance_matrix[0], rtol=0.1, atol=0.1)


def test_a_full_gaussian_has_a_closed_kl_from_the_standard_normal() -> None:
    q = posterior_of(FullGaussian())(rows())
    latent = draw_latent(q, StandardNormal().build(SIZE).double()(), (20_000,), None, new_generator(1))
    closed = latent.closed_kl()
    assert closed is not None
    sampled = latent.log_q - latent.log_p
    assert ((sampled.mean(0) - closed).abs() < 4 * sampled.std(0) / 20_000**0.5).all()


def test_the_moments_of_a_flow_are_those_of_the_same_draws_each_time() -> None:
    flow = FlowNetwork("coupling", SIZE, 2, (8,)).double()
    p = flow()
    assert isinstance(p, Transformed)
    assert p.mean.equal(p.mean)
    many = draw_from(p, (50_000,), new_generator(1))
    assert ((many.mean(0) - p.mean).abs() < 5 * (p.variance / 256).sqrt()).all()


def test_a_flow_over_one_dimension_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("size", 1)):
        FlowPosterior().build(BuildContext(event_shape=(1,)))


def test_importing_flows_leaves_validation_of_torchs_distributions_as_it_was() -> None:
    FlowNetwork("coupling", 2, 1, (4,))
    with pytest.raises(ValueError, match="invalid values"):
        td.Normal(0.0, torch.tensor(-1.0))


def test_a_vamp_prior_goes_through_the_encoder_with_the_batch_and_is_the_mixture_of_posteriors() -> None:
    from vaekit.models import Vamp

    posterior = Conditional(nn.Linear(6, 4), Gaussian(), (2,))
    model = VAE(
        posterior,
        Vamp(components=7).build(2, BuildContext((6,), posterior=posterior)),
        Conditional(nn.Linear(2, 6), Bernoulli()),
    )
    calls: list[int] = []
    posterior.network.register_forward_hook(lambda module, given, out: calls.append(len(given[0])))
    draw = model.draw(torch.ones(5, 6), 3, generator=new_generator(1))
    assert calls == [12]
    components = posterior(model.prior.pseudo_inputs)
    z = draw.latents[0].z
    expected = components.log_prob(z[..., None, :]).logsumexp(-1) - torch.tensor(7.0).log()
    torch.testing.assert_close(draw.log_pz, expected)
    assert sum(p.numel() for p in model.parameters()) == 6 * 4 + 4 + 7 * 6 + 7 + 2 * 6 + 6


def test_a_mixture_starts_near_unit_variance() -> None:
    z = draw_from(Mixture(components=500).build(4)(), (20_000,), new_generator(1))
    torch.testing.assert_close(z.var(0), torch.ones(4), rtol=0.2, atol=0)


def test_a_point_is_where_the_network_says_and_has_no_density() -> None:
    posterior = posterior_of(Deterministic())
    q, x = posterior(rows()), rows()
    where = posterior.network(x)
    assert q.mean.equal(where)
    assert not q.variance.any()
    assert draw_from(q, (3,), new_generator(1)).equal(where.expand(3, -1, -1))
    assert q.log_prob(where).equal(torch.zeros(4, dtype=torch.float64))
    assert (q.log_prob(where + 1) == -torch.inf).all()
    vae = VAE(posterior, StandardNormal().build(SIZE), Conditional(nn.Linear(SIZE, 6), Gaussian(scale=1.0))).double()
    for score in (True, False):
        draw = vae.draw(x, 2, score=score)
        assert draw.latents[0].is_deterministic
        assert not draw.has_bound
        torch.testing.assert_close(draw.log_w, draw.log_px + draw.log_pz)
    assert draw.latents[0].closed_kl() is None


def test_a_vamp_prior_of_deterministic_posteriors_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("BuildContext.posterior")):
        Vamp().build(SIZE, BuildContext((6,), posterior=posterior_of(Deterministic())))
