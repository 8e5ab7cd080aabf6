"""What every hierarchical VAE must do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import Bernoulli, DenseHierarchy, Gaussian, HierarchicalVAE, StandardNormal
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import noise_shape
from vaekit.models.hierarchical.dense import DenseBlock
from vaekit.models.hierarchical.spatial import SpatialHierarchy
from vaekit.models.networks.precision import networks_in_bf16
from vaekit.models.priors.vamp import Vamp
from vaekit.objectives import Elbo
from vaekit.randomness import new_generator
from vaekit.training.noise import NoiseSource

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE, FLAT = (1, 5, 7), (6,)
HIERARCHIES = {
    "dense": (DenseHierarchy(latent=(3, 2), widths=(8,)), FLAT),
    "dense of four": (DenseHierarchy(latent=(2, 3, 4, 2), widths=(8, 6), activation="silu", residual=False), FLAT),
    "dense on images": (DenseHierarchy(latent=(3, 2), widths=(8,)), IMAGE),
    "spatial": (SpatialHierarchy(latent=3, channels=(4, 8), groups=(1, 2), hidden=16), IMAGE),
    "spatial, 3 channels": (
        SpatialHierarchy(latent=3, channels=(4, 6), groups=(1, 1), hidden=16, residual=False),
        (3, 9, 9),
    ),
    "nothing outside": (SpatialHierarchy(latent=3, channels=(4, 8), groups=(0, 2), hidden=16), IMAGE),
    "nothing inside": (SpatialHierarchy(latent=3, channels=(4, 8), groups=(2, 0), hidden=16), (1, 3, 4)),
    "many": (SpatialHierarchy(latent=3, channels=(4, 4, 4), groups=(4, 3, 2), depth=1, hidden=8), (1, 9, 6)),
    "sequences": (SpatialHierarchy(latent=3, channels=(4, 8), groups=(1, 1), hidden=16), (2, 9)),
    "volumes": (SpatialHierarchy(latent=3, channels=(4, 6), groups=(1, 1), hidden=16), (2, 3, 4, 5)),
    "one pixel": (SpatialHierarchy(latent=2, channels=(4,), groups=(1,), hidden=8, blocks=2), (1, 1, 1)),
}


def built(name: str, context: int = 0, prior: Any = None) -> HierarchicalVAE:
    groups, shape = HIERARCHIES[name]
    torch.manual_seed(0)
    return groups.build(Gaussian(), prior or StandardNormal(), Bernoulli(), BuildContext(shape, context)).double()


def data(name: str, n: int) -> Tensor:
    return torch.rand(n, *HIERARCHIES[name][1], generator=new_generator(4), dtype=torch.float64).round()


def context_rows(n: int, context: int) -> Tensor | None:
    return torch.randn(n, context, generator=new_generator(7), dtype=torch.float64) if context else None


every_hierarchy = pytest.mark.parametrize("name", HIERARCHIES)


@every_hierarchy
@pytest.mark.parametrize("context", [0, 2])
def test_shapes_and_consistency(name: str, context: int) -> None:
    model, x, known = built(name, context), data(name, 4), context_rows(4, context)
    draw = model.draw(x, 3, context=known, generator=new_generator(1))
    assert draw.log_w.shape == (3, 4)
    assert draw.log_w.isfinite().all()
    groups = HIERARCHIES[name][0]
    below = len(groups.latent) - 1 if isinstance(groups, DenseHierarchy) else sum(groups.groups)
    assert len(draw.latents) == 1 + below
    latents = [latent.z for latent in draw.latents]
    torch.testing.assert_close(model.log_joint(x, latents, known), draw.log_px + draw.log_pz)
    torch.testing.assert_close(model.decode(latents, known).log_prob(x), draw.log_px)
    again = model.draw(x, 3, context=known, code=model.encode(x, known), generator=new_generator(1))
    torch.testing.assert_close(again.log_w, draw.log_w)
    code = model.encode(x, known)
    for q, latent in zip(code.posteriors, draw.latents, strict=True):
        assert (q.batch_shape, q.event_shape) == ((4,), latent.q.event_shape)
    made, simulated_latents = model.simulate(
        3, generator=new_generator(1), context=None if known is None else known[:3]
    )
    assert made.shape == (3, *x.shape[1:])
    assert [z.shape[1:] for z in simulated_latents] == [z.shape[2:] for z in latents]


@every_hierarchy
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    model, x, known = built(name, 2), data(name, 5), context_rows(5, 2)
    noise = [torch.randn(2, 5, *latent.z.shape[2:]).double() for latent in model.draw(x, context=known).latents]
    whole = model.draw(x, 2, context=known, noise=noise).log_w
    for row in range(5):
        part = slice(row, row + 1)
        alone = model.draw(x[part], 2, context=known[part], noise=[eps[:, part] for eps in noise]).log_w
        torch.testing.assert_close(alone, whole[:, part], rtol=1e-10, atol=1e-10)


@every_hierarchy
def test_every_weight_learns_and_every_group_and_the_context_reach_x(name: str) -> None:
    model, x = built(name, 2, Vamp(components=3)), data(name, 4)
    known = context_rows(4, 2).requires_grad_()
    draw = model.draw(x, 2, context=known, generator=new_generator(1))
    Elbo()(draw).value.sum().backward()
    for label, weight in model.named_parameters():
        assert weight.grad is not None, label
        assert weight.grad.isfinite().all(), label
        assert weight.grad.any(), label
    assert known.grad.any(1).all()
    latents = [latent.z.detach().requires_grad_() for latent in draw.latents]
    for slope in torch.autograd.grad(model.decode(latents, known.detach()).log_prob(x).sum(), latents):
        assert slope.flatten(2).any(2).all()


@every_hierarchy
def test_a_residual_posterior_is_its_prior_where_x_says_nothing(name: str) -> None:
    model = built(name)
    for block in model.blocks:
        last = block.of_posterior if isinstance(block, DenseBlock) else block.of_both.network[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    kls = [latent.closed_kl() for latent in model.draw(data(name, 3), generator=new_generator(1)).latents[1:]]
    same = all(kl.abs().max() < 1e-12 for kl in kls)
    assert same == HIERARCHIES[name][0].residual


@pytest.mark.parametrize("name", ["dense of four", "many"])
def test_saved_weights_are_the_model(name: str) -> None:
    model, x = built(name, 2), data(name, 3)
    torch.manual_seed(9)
    groups, shape = HIERARCHIES[name]
    other = groups.build(Gaussian(), StandardNormal(), Bernoulli(), BuildContext(shape, 2)).double()
    assert not other.draw(x, context=context_rows(3, 2), generator=new_generator(1)).log_w.equal(
        model.draw(x, context=context_rows(3, 2), generator=new_generator(1)).log_w
    )
    other.load_state_dict(model.state_dict())
    one, two = (m.draw(x, context=context_rows(3, 2), generator=new_generator(1)).log_w for m in (model, other))
    assert one.equal(two)


@pytest.mark.parametrize("name", ["dense of four", "spatial"])
def test_noise_of_parts_of_a_batch_is_that_of_the_whole(name: str) -> None:
    model, x = built(name), data(name, 7)
    source = NoiseSource(model, x, None, samples=3, seed=1)
    whole = source(slice(0, 7), 7, 5).latents
    events = [latent.z.shape[2:] for latent in model.draw(x).latents]
    assert [eps.shape for eps in whole] == [(3, 7, *event) for event in events]
    assert not any(one.equal(two) for one, two in zip(whole, source(slice(0, 7), 7, 6).latents, strict=True))
    for number, eps in enumerate(whole):
        for part in (slice(0, 3), slice(3, 7)):
            assert source(part, 7, 5).latents[number].equal(eps[:, part])
    fresh = NoiseSource(model, x, None, samples=3, seed=1)(slice(0, 7), 7, 5).latents
    assert all(one.equal(two) for one, two in zip(whole, fresh, strict=True))
    total = Elbo(samples=3)(model.draw(x, 3, noise=whole)).value
    parts = [
        Elbo(samples=3)(model.draw(x[p], 3, noise=source(p, 7, 5).latents)).value for p in (slice(0, 3), slice(3, 7))
    ]
    torch.testing.assert_close(torch.cat(parts), total)
    q = model.draw(x, 3).latents[1].q
    assert noise_shape(q) == (3, 7, *events[1])
    with pytest.raises(SpecError, check=naming("noise")):
        model.draw(x, 3, noise=[eps[:, :5] for eps in whole])


@pytest.mark.parametrize("name", ["dense", "spatial"])
def test_networks_in_bf16_come_close(name: str) -> None:
    model, x = built(name).float(), data(name, 4).float()
    exact = model.draw(x, generator=new_generator(1))
    with networks_in_bf16():
        rough = model.draw(x, generator=new_generator(1))
        raw, *features = model.posterior.network.everything(x)
    assert rough.log_w.dtype == raw.dtype == features[0].dtype == torch.float32
    assert 0 < (rough.log_w - exact.log_w).abs().max() < 0.3
    assert (raw == raw.bfloat16()).all(), "the way up is in bf16, too"


def test_what_is_no_hierarchy_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("BuildContext.data_shape", (6,))):
        SpatialHierarchy().build(Gaussian(), StandardNormal(), Bernoulli(), BuildContext((6,)))
    model, x = built("dense", 2), data("dense", 3)
    with pytest.raises(SpecError, match=r"needs a context \(rows, 2\), and none was given", check=naming("context")):
        model.draw(x)
    with pytest.raises(SpecError, match="the one given has 3", check=naming("context")):
        model.draw(x, context=torch.zeros(3, 3))
    with pytest.raises(SpecError, check=naming("samples", 0)):
        model.draw(x, 0, context=context_rows(3, 2))
    with pytest.raises(SpecError, check=naming("enumerate", True)):
        model.draw(x, enumerate=True, context=context_rows(3, 2))
    unknown = HierarchicalVAE(model.posterior, model.prior, model.start, list(model.blocks), Always())
    with pytest.raises(ValueError, match="likelihood is over x of shape"):
        unknown.draw(x, context=context_rows(3, 2))


class Always(nn.Module):
    def forward(self, state: Tensor) -> Distribution:
        return td.Independent(td.Normal(torch.zeros(*state.shape[:-1], 2), 1.0), 1)
