"""Ladders: against a linear-Gaussian one of which every number is known, and what every ladder must do."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit import Annealing, annealed_bound, bidirectional
from vaekit.evaluation import evaluate
from vaekit.evaluation.annealing import simulated
from vaekit.models import Bernoulli, Conditional, Dense, Gaussian, Ladder, Standard
from vaekit.models.dense_ladder import DenseRung
from vaekit.models.families import Head
from vaekit.models.noise import new_generator, noise_shape
from vaekit.models.precision import networks_in_bf16
from vaekit.models.priors import Vamp
from vaekit.models.spatial_ladder import Spatial
from vaekit.objectives import DoublyReparametrised, Elbo, Iwae, Score, StickTheLanding
from vaekit.training.step import NoiseSource

pytestmark = pytest.mark.usefixtures("one_thread")

DATA, TOP, BELOW = 5, 2, 3
SCALE_BELOW, NOISE = 0.8, 0.6
B = torch.tensor([[0.9, -0.4], [0.3, 0.7], [-0.5, 0.2]], dtype=torch.float64)  # z_2 | z_1 ~ N(B z_1, 0.8^2)
A = torch.randn(DATA, TOP, dtype=torch.float64, generator=new_generator(5))  # x | z ~ N(A z_1 + C z_2 + offset, 0.6^2)
C = torch.randn(DATA, BELOW, dtype=torch.float64, generator=new_generator(6))
OFFSET = torch.linspace(-1, 1, DATA, dtype=torch.float64)


def joint() -> td.MultivariateNormal:
    """The density of (z_1, z_2, x), by its precision: the quadratic form of ln p(z_1) + ln p(z_2|z_1) + ln p(x|z)."""
    rows = [
        (torch.cat([torch.eye(TOP), torch.zeros(TOP, BELOW + DATA)], 1).double(), 1.0),
        (torch.cat([-B, torch.eye(BELOW).double(), torch.zeros(BELOW, DATA).double()], 1), SCALE_BELOW),
        (torch.cat([-A, -C, torch.eye(DATA).double()], 1), NOISE),
    ]
    precision = torch.stack([row.T @ row / scale**2 for row, scale in rows]).sum(0)
    mean = torch.cat([torch.zeros(TOP + BELOW).double(), OFFSET])
    return td.MultivariateNormal(mean, precision_matrix=precision)


COVARIANCE = joint().covariance_matrix
Z1, Z2, X = slice(0, TOP), slice(TOP, TOP + BELOW), slice(TOP + BELOW, TOP + BELOW + DATA)


def given(wanted: slice, known: list[slice]) -> tuple[Tensor, Tensor]:
    """E[wanted | known] = weights (known - its mean) + ..., and the Cholesky factor of the covariance that is left."""
    places = torch.cat([torch.arange(part.start, part.stop) for part in known])
    across, among = COVARIANCE[wanted][:, places], COVARIANCE[places][:, places]
    weights = across @ torch.linalg.inv(among)
    return weights, torch.linalg.cholesky(COVARIANCE[wanted, wanted] - weights @ across.T)


TO_Z1, ROOT_Z1 = given(Z1, [X])
TO_Z2, ROOT_Z2 = given(Z2, [Z1, X])


def log_px(x: Tensor) -> Tensor:
    return td.MultivariateNormal(OFFSET, COVARIANCE[X, X]).log_prob(x)


class Up(nn.Module):
    """The mean of q(z_1|x), shifted, and x itself as what the group below sees."""

    def __init__(self, shift: float):
        super().__init__()
        self.to_z1 = nn.Parameter(TO_Z1.clone())
        self.bias = nn.Parameter(torch.full((TOP,), shift).double())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.everything(x, context)[0]

    def everything(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        return (x - OFFSET) @ self.to_z1.T + self.bias, x - OFFSET


class Correlated(nn.Module, Head):
    """Raw numbers as the mean of a Gaussian with one covariance, or with its diagonal."""

    def __init__(self, root: Tensor, stretch: float, diagonal: bool = False):
        super().__init__()
        self.root = nn.Parameter(stretch * root)
        self.diagonal = diagonal

    accepts = ()

    def features(self, event_shape: tuple[int, ...]) -> int:
        return math.prod(event_shape)

    def arguments(self, raw: Tensor, event_shape: Any = None) -> dict[str, Tensor]:
        return {"loc": raw}

    def start(self, x: Tensor) -> Tensor:
        return x.mean(0)

    def forward(self, raw: Tensor, event_shape: Any = None) -> Distribution:
        if self.diagonal:
            return td.Independent(td.Normal(raw, self.root.diagonal().expand_as(raw)), 1)
        return td.MultivariateNormal(raw, scale_tril=self.root.tril())


class LinearRung(nn.Module):
    """The state is (z_1), then (z_1, z_2)."""

    def __init__(self, stretch: float, diagonal: bool):
        super().__init__()
        self.weights = nn.Parameter(TO_Z2.clone())
        self.of_posterior = Correlated(ROOT_Z2, stretch, diagonal)

    def prior(self, state: Tensor) -> Distribution:
        mean = state @ B.T
        return td.Independent(td.Normal(mean, torch.full_like(mean, SCALE_BELOW)), 1)

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        x = features.expand(*state.shape[:-1], -1)
        return self.of_posterior(torch.cat([state, x], -1) @ self.weights.T), self.prior(state)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return torch.cat([state, z], -1)


class LinearPixels(nn.Module):
    def forward(self, state: Tensor) -> Distribution:
        mean = state @ torch.cat([A, C], 1).T + OFFSET
        return td.Independent(td.Normal(mean, torch.full_like(mean, NOISE)), 1)


def linear(stretch: float = 1.0, shift: float = 0.0, diagonal: bool = False) -> Ladder:
    """With the exact posterior, or one that is stretched, shifted, or without its correlations."""
    posterior = Conditional(Up(shift), Correlated(ROOT_Z1, stretch, diagonal), (TOP,))
    prior = Standard().build(TOP).double()
    return Ladder(posterior, prior, nn.Identity(), [LinearRung(stretch, diagonal)], LinearPixels())


def rows(n: int) -> Tensor:
    return linear().generate(n, generator=new_generator(1))


def z_score(values: Tensor, truth: Tensor | float = 0.0) -> Tensor:
    return ((values.mean(0) - truth) / (values.std(0) / math.sqrt(len(values)))).abs().max()


def test_with_exact_posteriors_log_w_is_ln_px_for_every_z() -> None:
    x = rows(20)
    draw = linear().draw(x, 30, generator=new_generator(2))
    assert [latent.z.shape for latent in draw.latents] == [(30, 20, TOP), (30, 20, BELOW)]
    assert min(latent.z.std(0).min() for latent in draw.latents) > 0.05  # z does vary
    torch.testing.assert_close(draw.log_w, log_px(x).expand(30, 20), rtol=1e-10, atol=0)


def test_log_joint_of_a_draw_is_its_log_px_and_log_pz() -> None:
    model, x = linear(1.3, 0.2), rows(7)
    draw = model.draw(x, 4, generator=new_generator(2))
    latents = [latent.z for latent in draw.latents]
    torch.testing.assert_close(model.log_joint(x, latents), draw.log_px + draw.log_pz, rtol=1e-12, atol=0)
    direct = joint().log_prob(torch.cat([*latents, x.expand(4, 7, DATA)], -1))
    torch.testing.assert_close(model.log_joint(x, latents), direct, rtol=1e-10, atol=0)
    torch.testing.assert_close(model.decode(latents).log_prob(x), draw.log_px, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="got 1 groups of latents, and this ladder has 2"):
        model.decode(latents[:1])


def test_importance_weighting_rises_with_samples_and_stays_below_ln_px() -> None:
    x = rows(1).expand(5000, -1)
    log_w = linear(1.2, 0.2).draw(x, 16, generator=new_generator(2)).log_w.detach()
    bounds = [(log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean(0) for k in (1, 4, 16)]
    for fewer, more in zip(bounds, [*bounds[1:], log_px(x)], strict=True):
        gain = more - fewer
        assert gain.mean() / gain.std() * math.sqrt(len(gain)) > 4
    found = evaluate(linear(1.2, 0.2), x[:400], 64)
    assert (
        found["elbo"].value < found["log_likelihood"].value < float(log_px(x[:1])) + 4 * found["log_likelihood"].stderr
    )


def test_the_closed_kl_of_a_lower_group_is_the_mean_of_the_sampled_one() -> None:
    x = rows(1).expand(20_000, -1)
    draw = linear(1.3, 0.2).draw(x, 1, generator=new_generator(2))
    first, second = draw.latents
    assert first.closed_kl().shape == (20_000,)
    assert second.closed_kl().shape == (1, 20_000)
    difference = (second.log_q - second.log_p - second.closed_kl())[0].detach()
    assert difference.std() > 0.1
    assert z_score(difference) < 4
    per_dimension = linear(1.3, 0.2, diagonal=True).draw(x[:50], 3, generator=new_generator(2)).latents[1]
    by_dimension = per_dimension.closed_kl_per_dimension()
    assert by_dimension.shape == (3, 50, BELOW)
    torch.testing.assert_close(by_dimension.sum(-1), per_dimension.closed_kl())


def exact_elbo(model: Ladder, x: Tensor) -> Tensor:
    """E_q[ln p(x, z) - ln q(z|x)] of one row: the joint q(z_1, z_2|x) is Gaussian, and ln p(x, z) is quadratic."""
    up, rung = model.posterior.network, model.rungs[0]
    root1, root2 = model.posterior.head.root.tril(), rung.of_posterior.root.tril()
    mean1 = (x - OFFSET) @ up.to_z1.T + up.bias
    of_z1, of_x = rung.weights.split([TOP, DATA], 1)
    mean2 = mean1 @ of_z1.T + (x - OFFSET) @ of_x.T
    root = torch.cat([torch.cat([root1, torch.zeros(TOP, BELOW)], 1), torch.cat([of_z1 @ root1, root2], 1)], 0)
    entropy = 0.5 * (TOP + BELOW) * math.log(2 * math.pi * math.e) + sum(
        part.diagonal().abs().log().sum() for part in (root1, root2)
    )
    precision = joint().precision_matrix[: TOP + BELOW, : TOP + BELOW]
    at_mean = joint().log_prob(torch.cat([mean1, mean2, x], -1))
    return (at_mean - 0.5 * (precision @ root @ root.T).trace() + entropy).squeeze()


ESTIMATORS = {
    "pathwise, closed": Elbo(kl="closed"),
    "pathwise, sampled": Elbo(kl="sampled"),
    "landing": Elbo(gradient=StickTheLanding()),
    "score, closed": Elbo(kl="closed", samples=4, gradient=Score()),
    "score, sampled": Elbo(kl="sampled", samples=4, gradient=Score()),
    "iwae of one": Iwae(samples=1),
    "doubly, of one": Iwae(samples=1, gradient=DoublyReparametrised()),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_of_the_elbo_are_exact_on_average(name: str) -> None:
    """By 60 batches of 400 rows that are all alike: 22 numbers each within 4.5 standard errors."""
    objective, model, x = ESTIMATORS[name], linear(1.3, 0.2), rows(1)
    weights = list(model.parameters())
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(exact_elbo(model, x), weights)])
    found = []
    for number in range(60):
        gradient = objective.gradient
        draw = model.draw(
            x.expand(400, -1),
            objective.samples,
            generator=new_generator(3, number),
            path=gradient.path,
            score=gradient.score,
        )
        value = objective(draw).value.mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)]))
    free = exact != 0  # above the diagonal of a root nothing counts
    found = torch.stack(found)[:, free]
    assert exact.abs().max() > 1
    assert z_score(found, exact[free]) < 4.5


def test_the_exact_elbo_is_the_mean_of_log_w() -> None:
    model, x = linear(1.3, 0.2), rows(1)
    log_w = model.draw(x, 20_000, generator=new_generator(2)).log_w[:, 0].detach()
    assert z_score(log_w, exact_elbo(model, x).detach()) < 4
    assert float(exact_elbo(linear(), x).detach()) == pytest.approx(float(log_px(x)), rel=1e-10)


def test_sticking_to_the_landing_has_no_variance_at_the_exact_posterior() -> None:
    model, x = linear(), rows(10)
    lowest, others = list(model.rungs.parameters()), list(model.posterior.parameters())
    value = Elbo(gradient=StickTheLanding())(model.draw(x, generator=new_generator(2), score=False)).value.sum()
    for gradient in torch.autograd.grad(value, lowest, retain_graph=True):
        assert gradient.abs().max() < 1e-10
    assert max(gradient.abs().max() for gradient in torch.autograd.grad(value, others)) < 1e-9
    value = Elbo(kl="sampled")(model.draw(x, generator=new_generator(2))).value.sum()
    assert max(gradient.abs().max() for gradient in torch.autograd.grad(value, lowest)) > 0.1


def test_free_nats_hold_each_group_by_itself() -> None:
    model, x = linear(1.3, 0.2), rows(50)
    draw = model.draw(x, 3, generator=new_generator(2))
    kls = [latent.closed_kl() for latent in draw.latents]
    kls = [kl if kl.dim() == 1 else kl.mean(0) for kl in kls]
    low, high = sorted(kls, key=lambda kl: float(kl.detach().mean()))
    floor = float((low + high).detach().mean()) / 2
    found = Elbo(free_nats=floor)(draw)
    torch.testing.assert_close(found.value, draw.log_px.mean(0) - high - floor)
    torch.testing.assert_close(found.parts["rate"], (low + high).detach())
    held = 0 if low is kls[0] else 1
    own = (model.posterior.head.root, model.rungs[0].of_posterior.root)[held]
    cost = (Elbo(free_nats=floor)(draw).value + high).sum()  # what is left has no KL of the group that is held
    (with_floor,) = torch.autograd.grad(cost, own, retain_graph=True)
    (of_log_px,) = torch.autograd.grad(draw.log_px.mean(0).sum(), own, retain_graph=True)
    torch.testing.assert_close(with_floor, of_log_px)


def test_simulated_rows_have_the_moments_of_the_story_and_their_latents() -> None:
    n = 40_000
    x, latents = linear().simulate(n, generator=new_generator(3))
    both = torch.cat([*latents, x], -1)
    whitened = torch.linalg.solve_triangular(joint().scale_tril, (both - joint().mean).T, upper=False)
    eye = torch.eye(len(whitened))
    assert (whitened.mean(1) * n**0.5).abs().max() < 4.5
    assert ((whitened @ whitened.T / n - eye) * n**0.5 / (1 + eye).sqrt()).abs().max() < 4.5
    assert linear().generate(300, generator=new_generator(3)).equal(x[:300])
    mean, few = linear().simulate(5, generator=new_generator(3), mean=True)
    assert few[1].equal(latents[1][:5])
    torch.testing.assert_close(mean, few[0] @ A.T + few[1] @ C.T + OFFSET)


def test_bidirectional_bounds_meet_at_the_likelihood() -> None:
    model, settings = linear(1.2, 0.1), Annealing(chains=32, temperatures=40, leapfrogs=2)
    both = bidirectional(model, 20, settings)
    x, latents = simulated(model, 20)
    assert [z.shape for z in latents] == [(20, TOP), (20, BELOW)]
    exact = float(log_px(x).mean())
    assert both.lower.value == pytest.approx(exact, abs=0.03)
    assert both.upper.value == pytest.approx(exact, abs=0.03)
    assert annealed_bound(model, x, settings).lower == both.lower


# what every ladder must do

IMAGE, FLAT = (1, 5, 7), (6,)
LADDERS = {
    "dense": (Dense(latent=(3, 2), widths=(8,)), FLAT),
    "dense of four": (Dense(latent=(2, 3, 4, 2), widths=(8, 6), activation="silu", residual=False), FLAT),
    "dense on images": (Dense(latent=(3, 2), widths=(8,)), IMAGE),
    "spatial": (Spatial(latent=3, channels=(4, 8), groups=(1, 2), hidden=16), IMAGE),
    "spatial, 3 channels": (Spatial(latent=3, channels=(4, 6), groups=(1, 1), hidden=16, residual=False), (3, 9, 9)),
    "nothing outside": (Spatial(latent=3, channels=(4, 8), groups=(0, 2), hidden=16), IMAGE),
    "nothing inside": (Spatial(latent=3, channels=(4, 8), groups=(2, 0), hidden=16), (1, 3, 4)),
    "many": (Spatial(latent=3, channels=(4, 4, 4), groups=(4, 3, 2), depth=1, hidden=8), (1, 9, 6)),
    "one pixel": (Spatial(latent=2, channels=(4,), groups=(1,), hidden=8, blocks=2), (1, 1, 1)),
}


def built(name: str, context: int = 0, prior: Any = None) -> Ladder:
    groups, shape = LADDERS[name]
    torch.manual_seed(0)
    return groups.build(shape, Gaussian(), prior or Standard(), Bernoulli(), None, context).double()


def data(name: str, n: int) -> Tensor:
    return torch.rand(n, *LADDERS[name][1], generator=new_generator(4), dtype=torch.float64).round()


def told(n: int, context: int) -> Tensor | None:
    return torch.randn(n, context, generator=new_generator(7), dtype=torch.float64) if context else None


every_ladder = pytest.mark.parametrize("name", LADDERS)


@every_ladder
@pytest.mark.parametrize("context", [0, 2])
def test_shapes_and_consistency(name: str, context: int) -> None:
    model, x, known = built(name, context), data(name, 4), told(4, context)
    draw = model.draw(x, 3, context=known, generator=new_generator(1))
    assert draw.log_w.shape == (3, 4)
    assert draw.log_w.isfinite().all()
    groups = LADDERS[name][0]
    below = len(groups.latent) - 1 if isinstance(groups, Dense) else sum(groups.groups)
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


@every_ladder
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    model, x, known = built(name, 2), data(name, 5), told(5, 2)
    noise = [torch.randn(2, 5, *latent.z.shape[2:]).double() for latent in model.draw(x, context=known).latents]
    whole = model.draw(x, 2, context=known, noise=noise).log_w
    for row in range(5):
        part = slice(row, row + 1)
        alone = model.draw(x[part], 2, context=known[part], noise=[eps[:, part] for eps in noise]).log_w
        torch.testing.assert_close(alone, whole[:, part], rtol=1e-10, atol=1e-10)


@every_ladder
def test_every_weight_learns_and_every_group_and_the_context_reach_x(name: str) -> None:
    model, x = built(name, 2, Vamp(components=3)), data(name, 4)
    known = told(4, 2).requires_grad_()
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


@every_ladder
def test_a_residual_posterior_is_its_prior_where_x_says_nothing(name: str) -> None:
    model = built(name)
    for rung in model.rungs:
        last = rung.of_posterior if isinstance(rung, DenseRung) else rung.of_both.network[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    kls = [latent.closed_kl() for latent in model.draw(data(name, 3), generator=new_generator(1)).latents[1:]]
    same = all(kl.abs().max() < 1e-12 for kl in kls)
    assert same == LADDERS[name][0].residual


@pytest.mark.parametrize("name", ["dense of four", "many"])
def test_saved_weights_are_the_model(name: str) -> None:
    model, x = built(name, 2), data(name, 3)
    torch.manual_seed(9)
    groups, shape = LADDERS[name]
    other = groups.build(shape, Gaussian(), Standard(), Bernoulli(), None, 2).double()
    assert not other.draw(x, context=told(3, 2), generator=new_generator(1)).log_w.equal(
        model.draw(x, context=told(3, 2), generator=new_generator(1)).log_w
    )
    other.load_state_dict(model.state_dict())
    one, two = (m.draw(x, context=told(3, 2), generator=new_generator(1)).log_w for m in (model, other))
    assert one.equal(two)


@pytest.mark.parametrize("name", ["dense of four", "spatial"])
def test_noise_of_parts_of_a_batch_is_that_of_the_whole(name: str) -> None:
    model, x = built(name), data(name, 7)
    source = NoiseSource(model, x, None, samples=3, seed=1)
    whole = source(slice(0, 7), 7, 5)
    events = [latent.z.shape[2:] for latent in model.draw(x).latents]
    assert [eps.shape for eps in whole] == [(3, 7, *event) for event in events]
    assert not any(one.equal(two) for one, two in zip(whole, source(slice(0, 7), 7, 6), strict=True))
    for number, eps in enumerate(whole):
        for part in (slice(0, 3), slice(3, 7)):
            assert source(part, 7, 5)[number].equal(eps[:, part])
    fresh = NoiseSource(model, x, None, samples=3, seed=1)(slice(0, 7), 7, 5)
    assert all(one.equal(two) for one, two in zip(whole, fresh, strict=True))
    total = Elbo(samples=3)(model.draw(x, 3, noise=whole)).value
    parts = [Elbo(samples=3)(model.draw(x[p], 3, noise=source(p, 7, 5))).value for p in (slice(0, 3), slice(3, 7))]
    torch.testing.assert_close(torch.cat(parts), total)
    q = model.draw(x, 3).latents[1].q
    assert noise_shape(q) == (3, 7, *events[1])
    with pytest.raises(ValueError, match="noise has shape"):
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


def test_what_is_no_ladder_is_refused() -> None:
    with pytest.raises(ValueError, match="a spatial ladder is over images, and x has shape"):
        Spatial().build((6,), Gaussian(), Standard(), Bernoulli(), None, 0)
    model, x = built("dense", 2), data("dense", 3)
    with pytest.raises(ValueError, match=r"needs a context \(rows, 2\), and none was given"):
        model.draw(x)
    with pytest.raises(ValueError, match="the one given has 3"):
        model.draw(x, context=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="samples is 0"):
        model.draw(x, 0, context=told(3, 2))
    with pytest.raises(ValueError, match="cannot be enumerated"):
        model.draw(x, every=True, context=told(3, 2))
    stranger = Ladder(model.posterior, model.prior, model.start, list(model.rungs), Always())
    with pytest.raises(ValueError, match="likelihood is over x of shape"):
        stranger.draw(x, context=told(3, 2))


class Always(nn.Module):
    def forward(self, state: Tensor) -> Distribution:
        return td.Independent(td.Normal(torch.zeros(*state.shape[:-1], 2), 1.0), 1)
