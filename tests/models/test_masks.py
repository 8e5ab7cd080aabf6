"""Rows with missing cells: densities, codes and gradients are those of the observed cells alone."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from unions import examples, name
from vaekit.errors import DataError, SpecError
from vaekit.models import (
    VAE,
    Bernoulli,
    CalibratedGaussian,
    Conditional,
    Conv,
    DenseHierarchy,
    Gaussian,
    Hamiltonian,
    Likelihood,
    LinearGaussian,
    LogisticMixture,
    Mlp,
    Poisson,
    SpatialHierarchy,
    StandardNormal,
    Vamp,
)
from vaekit.models.building import BuildContext
from vaekit.models.compatibility import likelihood_row, takes_missing_cells
from vaekit.models.distributions import cell_log_prob, check_values, independent, observed_log_prob
from vaekit.models.networks.columns import WithMask

JUNK = (math.nan, math.inf, 1e30, -7.0)


class PosteriorOfObserved(nn.Module):
    """p(z|x_observed) of a linear-Gaussian model: each row by its own mask."""

    def __init__(self, story: LinearGaussian):
        super().__init__()
        self.story = story

    def forward(self, x: Tensor, mask: Tensor) -> td.MultivariateNormal:
        loadings, noise = self.story.loadings, self.story.noise**2
        kept = loadings * mask[..., None]  # (batch, data, latent)
        precision = torch.eye(loadings.shape[1], dtype=x.dtype) + kept.mT @ kept / noise
        slope = ((x - self.story.offset) * mask)[..., None, :] @ loadings / noise
        mean = torch.linalg.solve(precision, slope.squeeze(-2))
        return td.MultivariateNormal(mean, precision_matrix=precision, validate_args=False)


@pytest.fixture
def story() -> LinearGaussian:
    generator = torch.Generator().manual_seed(0)
    loadings = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    return LinearGaussian(loadings, torch.randn(5, generator=generator, dtype=torch.float64), 0.3)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(40, 5, generator=generator) > 0.4
    mask[0], mask[1] = False, True
    return x, mask


def of_gaussian(story: LinearGaussian, x: Tensor, mask: Tensor) -> Tensor:
    """ln p(x_observed) of one row."""
    covariance = story.loadings @ story.loadings.T + story.noise**2 * torch.eye(len(x), dtype=x.dtype)
    if not mask.any():
        return x.new_zeros(())
    return td.MultivariateNormal(story.offset[mask], covariance[mask][:, mask]).log_prob(x[mask])


def test_the_bound_with_the_exact_posterior_is_the_marginal_of_the_observed_cells(story, rows):
    x, mask = rows
    draw = story.vae(PosteriorOfObserved(story)).draw(torch.where(mask, x, math.nan), samples=4, mask=mask)
    exact = torch.stack([of_gaussian(story, *row) for row in zip(x, mask, strict=True)])
    torch.testing.assert_close(draw.log_w, exact.expand(4, -1), rtol=0, atol=1e-10)


def test_the_density_of_cells_adds_up_and_is_zero_where_nothing_was_observed(story, rows):
    x, mask = rows
    draw = story.vae(PosteriorOfObserved(story)).draw(x, samples=3, mask=mask)
    cells = draw.log_px_cells
    assert cells.shape == (3, 40, 5)
    assert (cells[:, ~mask] == 0).all()
    assert (cells[:, mask] != 0).all()
    torch.testing.assert_close(cells.sum(-1), draw.log_px, rtol=1e-12, atol=0)


def dense() -> VAE:
    likelihood = Conditional(Mlp((8,)).build((2,), 10), Gaussian(), (5,))
    return VAE(Conditional(Mlp((8,)).build((5,), 4), Gaussian(), (2,)), StandardNormal().build(2), likelihood)


def with_vamp() -> VAE:
    posterior = Conditional(Mlp((8,)).build((5,), 4), Gaussian(), (2,))
    prior = Vamp(components=3).build(2, BuildContext((5,), posterior=posterior))
    return VAE(posterior, prior, Conditional(Mlp((8,)).build((2,), 10), Gaussian(), (5,)))


def refined() -> VAE:
    model, refine = dense(), Hamiltonian(steps=2).build(BuildContext(event_shape=(2,)))
    return VAE(model.posterior, model.prior, model.likelihood, refine)


def hierarchical() -> nn.Module:
    groups = DenseHierarchy(latent=(2, 2), widths=(8,))
    return groups.build(Gaussian(), StandardNormal(), CalibratedGaussian(), BuildContext((5,)))


def hierarchical_with_vamp() -> nn.Module:
    groups = DenseHierarchy(latent=(2, 2), widths=(8,))
    return groups.build(Gaussian(), Vamp(components=3), Gaussian(), BuildContext((5,)))


def convolutional() -> VAE:
    encoder, decoder = Conv((4,)).build((1, 8, 8), 4), Conv((4,)).build((2,), 64, (1, 8, 8))
    posterior = Conditional(encoder, Gaussian(), (2,))
    return VAE(posterior, StandardNormal().build(2), Conditional(decoder, Bernoulli(), (1, 8, 8)))


MODELS = [dense, with_vamp, refined, hierarchical, hierarchical_with_vamp, convolutional]


def inputs_of(model) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    built = model().double()
    shape = (6, 1, 8, 8) if model is convolutional else (6, 5)
    x = (torch.rand(shape, dtype=torch.float64) > 0.5).double()
    mask = torch.rand(shape) > 0.3
    mask[0] = False
    return built, x, mask


@pytest.mark.parametrize("model", MODELS)
def test_nothing_depends_on_what_stands_in_a_missing_cell(model):
    model, x, mask = inputs_of(model)
    weights, found = list(model.parameters()), []
    for junk in (0.0, *JUNK):
        seen = torch.where(mask, x, junk)
        draw = model.draw(seen, samples=2, mask=mask, generator=torch.Generator().manual_seed(2))
        gradients = torch.autograd.grad(draw.log_w.sum(), weights, allow_unused=True)
        code = [q.mean for q in model.encode(seen, mask=mask).posteriors]
        joint = model.log_joint(seen, [latent.z.detach() for latent in draw.latents], mask=mask)
        found += [[draw.log_w, draw.log_px_cells, draw.x, joint, *code, *(g for g in gradients if g is not None)]]
    assert all(part.isfinite().all() for part in found[0])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_a_mask_of_observed_cells_alone_changes_nothing(model):
    model, x, mask = inputs_of(model)
    with_mask, without = (
        model.draw(x, samples=3, mask=given, generator=torch.Generator().manual_seed(2))
        for given in (torch.ones_like(mask), None)
    )
    torch.testing.assert_close(with_mask.log_w, without.log_w, rtol=1e-12, atol=0)
    joint = [model.log_joint(x, [z.z for z in without.latents], mask=given) for given in (torch.ones_like(mask), None)]
    torch.testing.assert_close(*joint, rtol=1e-12, atol=0)


def test_a_missing_cell_gives_no_gradient_to_its_parameters():
    raw = torch.randn(3, 4, 10, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(4, 5) > 0.5
    log_p = observed_log_prob(Gaussian()(raw, (5,)), torch.where(mask, 1.0, math.nan).double(), mask)
    (gradient,) = torch.autograd.grad(log_p.sum(), raw)
    of_cells = gradient.unflatten(-1, (2, 5))
    assert (of_cells.movedim(-2, -1)[:, ~mask] == 0).all()
    assert (of_cells.movedim(-2, -1)[:, mask] != 0).all()


@pytest.mark.parametrize(
    "base",
    [
        td.LogNormal(torch.zeros(4, 5), 1.0),
        td.Beta(torch.full((4, 5), 2.0), 3.0),
        td.Pareto(torch.full((4, 5), 2.0), 3.0),
        td.Geometric(torch.full((4, 5), 0.5)),
    ],
    ids=lambda base: type(base).__name__,
)
def test_a_missing_cell_is_filled_by_a_value_that_has_a_density(base):
    mask = torch.zeros(4, 5, dtype=torch.bool)
    x = base.sample()
    mask[:, :2] = True
    px = independent(base, 1)
    cells = cell_log_prob(px, torch.where(mask, x, 0), mask)
    assert cells.isfinite().all()
    torch.testing.assert_close(cells[:, :2], base.log_prob(x)[:, :2])


def test_masses_are_added_up_before_they_are_rounded():
    px = Poisson()(torch.full((2, 1000), 15.0))
    x, mask = px.mean.round(), torch.ones(2, 1000, dtype=torch.bool)
    assert torch.equal(observed_log_prob(px, x, mask), px.log_prob(x))


def test_values_of_missing_cells_are_not_checked():
    px = Bernoulli()(torch.zeros(2, 3))
    x = torch.tensor([[0.0, 1.0, 5.0], [1.0, math.nan, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    check_values(px, x, mask)
    with pytest.raises(DataError, check=naming("row", 1)):
        check_values(px, x, mask | torch.tensor([[False], [True]]))


def test_a_likelihood_that_ties_cells_refuses_a_mask():
    x = torch.zeros(2, 3, 4, 4, dtype=torch.int64)
    head = LogisticMixture(levels=16, components=2)
    px = Conditional(nn.Linear(2, head.features((3, 4, 4))), head, (3, 4, 4))
    posterior = Conditional(nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), Gaussian(), (2,))
    model = VAE(posterior, StandardNormal().build(2), px)
    with pytest.raises(SpecError, match="ties the cells", check=naming("mask")):
        model.draw(x.float(), mask=torch.ones_like(x, dtype=torch.bool))
    grey = LogisticMixture(levels=16, components=2)(torch.zeros(2, 6 * 16), (1, 4, 4))
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    assert (cell_log_prob(grey, x[:, :1], mask) == 0).all()


def test_a_mask_that_does_not_fit_is_refused(story, rows):
    x, mask = rows
    model = story.vae()
    with pytest.raises(SpecError, match="shape", check=naming("mask")):
        model.draw(x, mask=mask[:, :3])
    with pytest.raises(TypeError, match="booleans"):
        model.draw(x, mask=mask.double())


@pytest.mark.parametrize("prior", [StandardNormal(), Vamp(components=3)], ids=lambda prior: prior.kind)
@pytest.mark.parametrize("shape", [(5,), (2, 8, 8)])
@pytest.mark.parametrize(
    "groups",
    [DenseHierarchy(latent=(2, 2), widths=(8,)), SpatialHierarchy(latent=2, channels=(4, 4), groups=(0, 1), hidden=8)],
    ids=["dense", "spatial"],
)
def test_a_hierarchy_sees_the_mask(groups, shape, prior):
    if groups.kind == "spatial" and len(shape) == 1:
        pytest.skip("a spatial hierarchy is over images")
    ctx = BuildContext(shape, transform=WithMask(shape))
    torch.manual_seed(0)
    model = groups.build(Gaussian(), prior, Gaussian(scale=1.0), ctx).double()
    x, mask = torch.randn(6, *shape, dtype=torch.float64), torch.rand(6, *shape) > 0.5
    zeros = torch.where(mask, x, 0)
    seen, all_seen = (model.encode(zeros, mask=m).posteriors[0].mean for m in (mask, torch.ones_like(mask)))
    assert not torch.allclose(seen, all_seen)
    assert torch.equal(seen, model.encode(torch.where(mask, x, math.nan), mask=mask).posteriors[0].mean)
    assert model.draw(x, 2, mask=mask).log_w.isfinite().all()
    assert torch.equal(model.encode(zeros).posteriors[0].mean, all_seen)


@pytest.mark.parametrize("shape", [(6,), (3, 2, 2)])
@pytest.mark.parametrize("likelihood", examples(Likelihood), ids=name)
def test_every_likelihood_of_independent_cells_leaves_out_the_missing_ones(likelihood, shape):
    if not takes_missing_cells(likelihood_row(likelihood), shape):
        pytest.skip("its cells depend on one another")
    head = likelihood.build(BuildContext(event_shape=shape))
    raw = torch.randn(4, likelihood.features(shape), dtype=torch.float64, requires_grad=True)
    px = head(raw, shape)
    x = px.sample()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    cells = cell_log_prob(px, x)
    torch.testing.assert_close(cells.flatten(1).sum(1), px.log_prob(x), rtol=1e-12, atol=1e-12)
    found = [observed_log_prob(px, torch.where(mask, x.double(), junk), mask) for junk in (0.0, *JUNK)]
    assert all(torch.equal(found[0], other) for other in found[1:])
    torch.testing.assert_close(found[0], torch.where(mask, cells, 0).flatten(1).sum(1), rtol=1e-12, atol=1e-12)
    everything = observed_log_prob(px, x, torch.ones_like(mask))
    torch.testing.assert_close(everything, px.log_prob(x), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found[1].sum(), raw)
    assert gradient.isfinite().all()
