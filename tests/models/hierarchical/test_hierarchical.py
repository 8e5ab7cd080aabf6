"""Hierarchical VAEs, against a linear-Gaussian one of which every number is known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from naming import naming
from vaekit.errors import SpecError
from vaekit.evaluation import Annealing, annealed_bound, bidirectional, evaluate
from vaekit.evaluation.annealing import simulated
from vaekit.models import Conditional, HierarchicalVAE, StandardNormal
from vaekit.models.families import Head
from vaekit.objectives import DoublyReparametrised, Elbo, Iwae, Score, StickTheLanding
from vaekit.randomness import new_generator

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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("part", "given", "why"),
    [
        ("prior", StandardNormal(), "prior is a StandardNormal that is not built"),
        ("likelihood", nn.Linear, "likelihood is the class Linear"),
        ("blocks", [nn.Identity(), 3], r"blocks\[1\] is a int: give a torch.nn.Module"),
    ],
)
def test_a_part_that_is_no_module_is_refused(part: str, given: Any, why: str) -> None:
    parts: dict[str, Any] = dict.fromkeys(("posterior", "prior", "start", "likelihood"), nn.Identity())
    with pytest.raises(TypeError, match=why):
        HierarchicalVAE(**{**parts, "blocks": [], part: given})


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

    def forward(self, raw: Tensor, event_shape: Any = None) -> Distribution:
        if self.diagonal:
            return td.Independent(td.Normal(raw, self.root.diagonal().expand_as(raw)), 1)
        return td.MultivariateNormal(raw, scale_tril=self.root.tril())


class LinearBlock(nn.Module):
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


def linear(stretch: float = 1.0, shift: float = 0.0, diagonal: bool = False) -> HierarchicalVAE:
    """With the exact posterior, or one that is stretched, shifted, or without its correlations."""
    posterior = Conditional(Up(shift), Correlated(ROOT_Z1, stretch, diagonal), (TOP,))
    prior = StandardNormal().build(TOP).double()
    return HierarchicalVAE(posterior, prior, nn.Identity(), [LinearBlock(stretch, diagonal)], LinearPixels())


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
    with pytest.raises(SpecError, check=naming("latents")):
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


def exact_elbo(model: HierarchicalVAE, x: Tensor) -> Tensor:
    """E_q[ln p(x, z) - ln q(z|x)] of one row: the joint q(z_1, z_2|x) is Gaussian, and ln p(x, z) is quadratic."""
    up, block = model.posterior.network, model.blocks[0]
    root1, root2 = model.posterior.head.root.tril(), block.of_posterior.root.tril()
    mean1 = (x - OFFSET) @ up.to_z1.T + up.bias
    of_z1, of_x = block.weights.split([TOP, DATA], 1)
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
            reparametrised=gradient.reparametrised,
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
    lowest, others = list(model.blocks.parameters()), list(model.posterior.parameters())
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
    own = (model.posterior.head.root, model.blocks[0].of_posterior.root)[held]
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
