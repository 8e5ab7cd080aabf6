"""Penalties on the codes of a batch, against closed forms, enumeration and NumPy."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from unions import examples, name
from vaekit.errors import SpecError
from vaekit.models import (
    VAE,
    Bernoulli,
    Conditional,
    Deterministic,
    FlowPosterior,
    FullGaussian,
    Gaussian,
    Mlp,
    StandardNormal,
)
from vaekit.models.building import BuildContext
from vaekit.objectives import (
    DecoderSlope,
    DecoderWeights,
    Dip,
    Elbo,
    Mmd,
    Regularised,
    Regulariser,
    Score,
    StepContext,
    TotalCorrelation,
)
from vaekit.randomness import new_generator

LATENT = 2
every_penalty = pytest.mark.parametrize("penalty", examples(Regulariser), ids=name)


def model(head=None, size: int = LATENT) -> VAE:
    head = head or Gaussian()
    encoder = Mlp(widths=(8,), activation="tanh").build((6,), head.features((size,)))
    decoder = Mlp(widths=(8,), activation="tanh").build((size,), 6)
    parts = Conditional(encoder, head, (size,)), StandardNormal().build(size), Conditional(decoder, Bernoulli())
    return VAE(*parts).double()


def rows(n: int = 7) -> Tensor:
    return torch.bernoulli(torch.full((n, 6), 0.5, dtype=torch.float64), generator=new_generator(1))


def context(vae: VAE, objective: Regularised, **more) -> StepContext:
    discriminator = objective.build(BuildContext((6,), event_shape=(LATENT,)))
    discriminator = None if discriminator is None else discriminator.double()
    return StepContext(rows=50, model=vae, generator=new_generator(3), discriminator=discriminator, **more)


@every_penalty
def test_a_penalty_is_taken_off_the_value_and_is_among_the_parts(penalty) -> None:
    vae, objective = model(), Regularised(Elbo(beta=2.0), (penalty,))
    draw, ctx = vae.draw(rows(), 2, generator=new_generator(2)), context(model(), objective)
    ctx = replace(ctx, model=vae, noise=torch.randn(7, LATENT, dtype=torch.float64))
    terms, plain = objective(draw, ctx), Elbo(beta=2.0)(draw)
    assert terms.value.shape == (7,)
    torch.testing.assert_close(terms.value.detach(), plain.value.detach() - terms.parts[penalty.kind])
    assert set(terms.parts) == {"elbo", "distortion", "rate", penalty.kind}
    assert not any(part.requires_grad for part in terms.parts.values())
    gradients = torch.autograd.grad(terms.value.sum(), list(vae.parameters()), allow_unused=True)
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients)


@every_penalty
def test_a_penalty_can_be_asked_without_gradients(penalty) -> None:
    vae, objective = model(), Regularised(penalties=(penalty,))
    noise = torch.randn(7, LATENT, dtype=torch.float64)
    with_gradients = vae.draw(rows(), generator=new_generator(2))
    ctx = context(vae, objective, noise=noise)
    with torch.no_grad():
        draw = vae.draw(rows(), generator=new_generator(2))
        without = objective(draw, ctx).value
    assert not without.requires_grad
    torch.testing.assert_close(without, objective(with_gradients, ctx).value.detach())


class Halves:
    """What one of two processes sees: the rows of both, its own with their gradients."""

    def __init__(self, of_other: list[Tensor], first: bool):
        self.of_other, self.first = of_other, first

    def __call__(self, own: Tensor) -> tuple[Tensor, slice]:
        other = self.of_other.pop(0)
        if self.first:
            return torch.cat([own, other]), slice(0, len(own))
        return torch.cat([other, own]), slice(len(other), len(other) + len(own))


@pytest.mark.parametrize("penalty", [TotalCorrelation(1.0, 0.5, 0.3), Dip(of="z"), Mmd()], ids=name)
def test_the_gradients_of_two_processes_add_up_to_that_of_the_batch(penalty) -> None:
    vae, x, noise = model(), rows(7), torch.randn(1, 7, LATENT, dtype=torch.float64)
    of_prior = torch.randn(7, LATENT, dtype=torch.float64)
    weights = list(vae.posterior.parameters())

    def value(places: slice, ctx: StepContext) -> Tensor:
        draw = vae.draw(x[places], noise=(noise[:, places],))
        return penalty(draw, replace(ctx, noise=of_prior[places], rows=50)).value

    seen: list[Tensor] = []  # what the halves hand over to be gathered

    def note(own: Tensor) -> tuple[Tensor, slice]:
        seen.append(own.detach())
        return own, slice(0, len(own))

    parts = slice(0, 4), slice(4, 7)
    for places in parts:
        value(places, StepContext(gather=note))
    whole = value(slice(0, 7), StepContext())
    wanted = torch.autograd.grad(whole.mean(), weights)
    found = [torch.zeros_like(g) for g in wanted]
    for places, other, first in ((parts[0], seen[1], True), (parts[1], seen[0], False)):
        ours = value(places, StepContext(gather=Halves([other], first)))
        torch.testing.assert_close(ours, whole[places])
        for total, g in zip(found, torch.autograd.grad(ours.sum() / 7, weights), strict=True):
            total += g
    torch.testing.assert_close(found, list(wanted))


def codes(n: int, seed: int = 0, least: float = 0.2) -> Tensor:
    """(n, 3, size): z, loc and scale of n rows, scales from `least` upwards."""
    generator = new_generator(seed)
    loc, e = torch.randn(2, n, LATENT, dtype=torch.float64, generator=generator)
    scale = least + torch.rand(n, LATENT, dtype=torch.float64, generator=generator)
    return torch.stack([loc + scale * e, loc, scale], 1)


def test_where_the_batch_is_all_rows_the_aggregate_posterior_is_exact() -> None:
    every = codes(9)
    z, loc, scale = every.unbind(1)
    own, joint, marginal = TotalCorrelation().log_densities(every, 9)
    equal = td.Categorical(torch.ones(9, dtype=torch.float64))
    q = td.MixtureSameFamily(equal, td.Independent(td.Normal(loc, scale), 1))
    torch.testing.assert_close(joint, q.log_prob(z))
    torch.testing.assert_close(own, td.Normal(loc, scale).log_prob(z).sum(-1))
    singles = [td.MixtureSameFamily(equal, td.Normal(loc[:, i], scale[:, i])).log_prob(z[:, i]) for i in range(LATENT)]
    torch.testing.assert_close(marginal, sum(singles))


def test_stratified_sampling_is_unbiased_for_the_density() -> None:
    """The mean over all batches of 3 of 6 rows that hold row 0 is the density over all 6."""
    every = codes(6, least=0.8)
    exact = TotalCorrelation().log_densities(every, 6)[1][0].exp()
    batches = [every[[0, *others]] for others in itertools.combinations(range(1, 6), 2)]
    found = torch.stack([TotalCorrelation().log_densities(batch, 6)[1][0].exp() for batch in batches])
    assert found.std() > 0.02 * exact
    torch.testing.assert_close(found.mean(), exact)


def test_weighted_sampling_is_the_papers_formula() -> None:
    every, total = codes(4), 10
    z, loc, scale = every.numpy().swapaxes(0, 1)
    densities = np.exp(-0.5 * ((z[:, None] - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
    _, joint, marginal = TotalCorrelation(sampling="weighted").log_densities(every, total)
    np.testing.assert_allclose(joint, np.log(densities.prod(-1).sum(1) / (total * 4)))
    np.testing.assert_allclose(marginal, np.log(densities.sum(1) / (total * 4)).sum(-1))


class GivenPosterior(nn.Module):
    """Row by row N(x, scale^2), x the mean itself."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, x: Tensor) -> td.Distribution:
        return td.Independent(td.Normal(x, self.scale.expand_as(x)), 1)


def test_the_total_correlation_of_a_gaussian_aggregate_is_its_closed_form() -> None:
    covariance = torch.tensor([[1.0, 0.7], [0.7, 1.0]], dtype=torch.float64)
    n, scale = 1500, 0.4
    x = torch.randn(n, 2, dtype=torch.float64, generator=new_generator(5)) @ torch.linalg.cholesky(covariance).T
    vae = VAE(
        GivenPosterior(scale), StandardNormal().build(2), Conditional(nn.Linear(2, 2), Gaussian(scale=1.0))
    ).double()
    draw = vae.draw(x, generator=new_generator(6))
    found = TotalCorrelation(weight=1.0)(draw, StepContext(rows=n)).value[0].item()
    aggregate = covariance + scale**2 * torch.eye(2, dtype=torch.float64)
    exact = float(0.5 * (aggregate.diagonal().log().sum() - aggregate.logdet()))
    # the spread of ln q(z) - sum ln q(z_i) over z, and what 1500 points leave open of the mixture
    assert found == pytest.approx(exact, abs=4 * 0.6 / math.sqrt(n))
    assert exact > 0.2


def test_the_three_parts_of_the_kl_add_up_to_it() -> None:
    vae = model()
    draw = vae.draw(rows(), generator=new_generator(2))
    whole = TotalCorrelation(weight=1.0, information=1.0, dimensions=1.0)(draw, StepContext(rows=40)).value
    torch.testing.assert_close(whole.mean(), (draw.log_qz - draw.log_pz).mean())
    kinds = [{"weight": 1.0}, {"weight": 0.0, "information": 1.0}, {"weight": 0.0, "dimensions": 1.0}]
    parts = [TotalCorrelation(**kind)(draw, StepContext(rows=40)).value for kind in kinds]
    torch.testing.assert_close(sum(parts), whole)


def test_a_batch_of_one_row_has_no_total_correlation() -> None:
    draw = model().draw(rows(1), generator=new_generator(2))
    assert TotalCorrelation()(draw, StepContext(rows=50)).value.item() == 0
    assert Mmd()(draw, StepContext(generator=new_generator(1))).value.isfinite().all()


@pytest.mark.parametrize("of", ["means", "z"])
@pytest.mark.parametrize("head", [Gaussian(), FullGaussian(), Deterministic()], ids=name)
def test_dip_takes_the_covariance_that_numpy_gives(head, of: str) -> None:
    vae = model(head)
    draw = vae.draw(rows(), generator=new_generator(2))
    q = draw.latents[0].q
    covariance = np.cov(q.mean.detach().numpy(), rowvar=False, bias=True)
    if of == "z":
        spread = q.covariance_matrix if isinstance(q, td.MultivariateNormal) else q.variance.diag_embed()
        covariance = covariance + spread.detach().numpy().mean(0)
    off = covariance - np.diag(np.diag(covariance))
    wanted = 3 * (off**2).sum() + 5 * ((np.diag(covariance) - 1) ** 2).sum()
    found = Dip(off_diagonal=3, diagonal=5, of=of)(draw, StepContext()).value
    np.testing.assert_allclose(found.detach().numpy(), np.full(7, wanted))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_the_double_loop(kernel: str) -> None:
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    penalty = Mmd(kernel=kernel, scales=(0.5, 2.0))

    def k(u: Tensor, v: Tensor) -> float:
        distance = float((u - v).square().sum())
        cs = (2 * 3 * s for s in penalty.scales)
        return sum(c / (c + distance) if kernel == "imq" else math.exp(-distance / c) for c in cs)

    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = sum(k(a[i], a[j]) + k(b[i], b[j]) for i, j in pairs if i != j) / 30
    between = sum(k(a[i], b[j]) for i, j in pairs) / 36
    assert float(penalty.squared(a, b)) == pytest.approx(within - 2 * between, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_mmd_is_unbiased(shift: float) -> None:
    """Between N(0, I) and N(m, I): 2 (1 + 4 / c)^(-D/2) (1 - exp(-|m|^2 / (c + 4))), zero where m is."""
    penalty, size = Mmd(kernel="rbf", scales=(0.5,)), 3
    a, b = torch.randn(2, 3000, 8, size, dtype=torch.float64, generator=new_generator(7))
    found = torch.stack([penalty.squared(one, other + shift) for one, other in zip(a, b, strict=True)])
    c = 2 * size * 0.5
    exact = 2 * (1 + 4 / c) ** (-size / 2) * (1 - math.exp(-size * shift**2 / (c + 4)))
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found))
    assert (exact > 5 * float(found.std()) / math.sqrt(len(found))) == (shift > 0)


@pytest.mark.parametrize("grad", [True, False])
def test_the_decoders_slope_is_its_jacobian(grad: bool) -> None:
    """Over all signs the estimate's mean is |J|^2; a linear decoder's J is its weight."""
    size = 3
    decoder = nn.Linear(size, 6)
    posterior = Conditional(nn.Linear(6, size), Deterministic(), (size,))
    vae = VAE(posterior, StandardNormal().build(size), Conditional(decoder, Gaussian(scale=1.0))).double()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=size)), dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        draw = vae.draw(rows(1).expand(8, -1), 2)
        found = DecoderSlope(weight=2.0)(draw, StepContext(model=vae, noise=0.3 * signs)).value
    torch.testing.assert_close(found.mean().detach(), 2 * decoder.weight.square().sum().detach())
    assert found.detach().std() > 0
    if grad:
        (slope,) = torch.autograd.grad(found.mean(), decoder.weight)
        torch.testing.assert_close(slope, 4 * decoder.weight.detach())


def test_decoder_weights_are_those_of_the_likelihood_alone() -> None:
    vae = model()
    draw = vae.draw(rows(), generator=new_generator(2))
    found = DecoderWeights(weight=0.5)(draw, StepContext(model=vae)).value
    wanted = 0.5 * sum(p.detach().square().sum() for p in vae.likelihood.parameters())
    torch.testing.assert_close(found.detach(), wanted.expand(7))
    with pytest.raises(SpecError, check=naming("StepContext.model")):
        DecoderWeights()(draw, StepContext())


def test_a_posterior_without_what_a_penalty_needs_is_refused() -> None:
    draw = model(FullGaussian()).draw(rows(), generator=new_generator(2))
    with pytest.raises(SpecError, match="it is MultivariateNormal", check=naming("draw")):
        TotalCorrelation()(draw, StepContext())
    flow = model(FlowPosterior(hidden=(8,), context=4)).draw(rows(), generator=new_generator(2))
    with pytest.raises(SpecError, match="that of Transformed is not", check=naming("draw")):
        Dip()(flow, StepContext())
    two = replace(draw, latents=draw.latents * 2)
    with pytest.raises(SpecError, match="one group of latents, and this one has 2", check=naming("draw")):
        Mmd()(two, StepContext())


def test_penalties_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(SpecError, check=naming("penalties", ["factor", "adversary"])):
        Regularised(penalties=("factor", "adversary"))
    with pytest.raises(SpecError, check=naming("penalties", ["mmd", "mmd"])):
        Regularised(penalties=("mmd", "mmd"))
    with pytest.raises(SpecError, check=naming("penalties", ["mmd"])):
        Regularised(Elbo(gradient=Score()), penalties=("mmd",))


def test_without_penalties_it_is_the_elbo() -> None:
    draw = model().draw(rows(), generator=new_generator(2))
    assert Regularised(Elbo(beta=3.0))(draw).value.equal(Elbo(beta=3.0)(draw).value)
