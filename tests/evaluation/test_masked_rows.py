"""Evaluation and training steps of rows with missing cells."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from vaekit import VAE, Bernoulli, Conditional, Elbo, Gaussian, Iwae, StandardNormal, evaluate
from vaekit.data import Rows
from vaekit.evaluation import Annealing, annealed_bound, bound_curve, bound_rows, kl_per_dimension
from vaekit.evaluation.estimate import mean_of
from vaekit.models import LinearGaussian, Mlp
from vaekit.models.building import BuildContext
from vaekit.objectives import Adversary, Critic, FeatureGan, Regularised, StepContext
from vaekit.processes import World
from vaekit.randomness import new_generator
from vaekit.training.noise import Noise
from vaekit.training.step import Step, StepInputs

pytestmark = pytest.mark.usefixtures("one_thread")


class OfObserved(nn.Module):
    """p(z|x_observed) of a linear-Gaussian model, with its deviations times `stretch`."""

    def __init__(self, story: LinearGaussian, stretch: float = 1.0):
        super().__init__()
        self.story, self.stretch = story, stretch

    def forward(self, x: Tensor, mask: Tensor) -> td.MultivariateNormal:
        loadings, noise = self.story.loadings, self.story.noise**2
        kept = loadings * mask[..., None]
        precision = torch.eye(loadings.shape[1], dtype=x.dtype) + kept.mT @ kept / noise
        slope = ((x - self.story.offset) * mask)[..., None, :] @ loadings / noise
        mean = torch.linalg.solve(precision, slope.squeeze(-2))
        return td.MultivariateNormal(mean, precision_matrix=precision / self.stretch**2, validate_args=False)


def a_story() -> tuple[LinearGaussian, Tensor, Tensor, Tensor]:
    """A model, rows with NaN where the mask is False, the mask, and ln p of the observed cells of each row."""
    generator = torch.Generator().manual_seed(0)
    loadings, offset = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 2), (4,)))
    story = LinearGaussian(loadings, offset, 0.5)
    x = story.vae().generate(150, generator=generator)
    mask = torch.rand(x.shape, generator=generator) > 0.3
    covariance = loadings @ loadings.T + 0.25 * torch.eye(4, dtype=torch.float64)
    exact = [
        td.MultivariateNormal(offset[m], covariance[m][:, m]).log_prob(row[m]) if m.any() else x.new_zeros(())
        for row, m in zip(x, mask, strict=True)
    ]
    return story, torch.where(mask, x, math.nan), mask, torch.stack(exact)


@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_errors_in_stored_units_are_those_of_each_rows_observed_cells(weighted):
    story, x, mask, exact = a_story()
    scales = torch.tensor([1e-4, 1.0, 30.0, 5e6], dtype=torch.float64)
    weight = (torch.arange(len(x)) % 3).float() if weighted else None
    log_scales = scales.log()
    rows = Rows(torch.where(mask, x, 0.0), mask=mask, log_scales=log_scales, weight=weight)
    stored = exact - (mask * log_scales).sum(1)  # of stored = scale x
    right, scaled = mean_of(stored, "nats", weight=weight), mean_of(exact, "nats", weight=weight)
    model, per_row = story.vae(OfObserved(story)).double(), {}

    def agrees(found, tolerance=1e-6):
        assert found.value == pytest.approx(right.value, abs=tolerance)
        assert found.stderr == pytest.approx(right.stderr, abs=tolerance)
        assert found.scaled == pytest.approx(scaled.value, abs=tolerance)

    found = evaluate(model, rows, samples=3, per_row=per_row.update)
    agrees(found["log_likelihood"])
    torch.testing.assert_close(torch.as_tensor(per_row["log_likelihood"]), stored, rtol=0, atol=1e-5)
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)
    (point,) = bound_curve(model, rows, (2,))
    agrees(point.bound)
    agrees(annealed_bound(model, rows, Annealing(chains=1, temperatures=1)).lower, 1e-4)


def test_bounds_are_on_the_observed_cells():
    story, x, mask, exact = a_story()
    model = story.vae(OfObserved(story))
    found = evaluate(model, x, samples=8, mask=mask)
    assert found["log_likelihood"].value == pytest.approx(float(exact.mean()), abs=1e-10)
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)
    (point,) = bound_curve(model, x, (4,), mask=mask)
    assert point.bound.value == pytest.approx(float(exact.mean()), abs=1e-10)
    distortion, rate, bound = bound_rows(model, x, None, new_generator(0), 3, mask)
    torch.testing.assert_close(bound, exact, rtol=0, atol=1e-10)
    assert distortion.isfinite().all()
    assert rate.isfinite().all()


def test_annealing_finds_the_density_of_the_observed_cells():
    story, x, mask, exact = a_story()
    model = story.vae(OfObserved(story, stretch=1.3))
    found = annealed_bound(model, x, Annealing(chains=16, temperatures=60), mask=mask).lower
    assert found.value == pytest.approx(float(exact.mean()), abs=0.02)


def a_vae(dtype: torch.dtype = torch.float64) -> tuple[VAE, Tensor, Tensor]:
    torch.manual_seed(0)
    posterior = Conditional(Mlp((8,)).build((6,), 4), Gaussian(), (2,))
    model = VAE(posterior, StandardNormal().build(2), Conditional(Mlp((8,)).build((2,), 6), Bernoulli(), (6,)))
    x, mask = (torch.rand(130, 6) > 0.5).to(dtype), torch.rand(130, 6) > 0.4
    mask[0] = False
    return model.to(dtype), x, mask


def test_bits_are_of_the_observed_cells():
    model, x, mask = a_vae()
    values: dict[str, Tensor] = {}
    found = evaluate(model, torch.where(mask, x, 7), samples=4, mask=mask, per_row=lambda rows: values.update(rows))
    bits = -values["log_likelihood"].sum() / (float(mask.sum()) * math.log(2))
    assert found["bits_per_dim"].value == pytest.approx(bits, rel=1e-9)
    assert values["log_likelihood"][0] < 0.0  # of nothing, ln p is 0, and the bound below it
    everything, without = (evaluate(model, x, samples=4, mask=m) for m in (torch.ones_like(mask), None))
    for name, estimate in without.items():
        assert everything[name].value == pytest.approx(estimate.value, rel=1e-12)
        assert everything[name].stderr == pytest.approx(estimate.stderr, rel=1e-6)


def test_evaluation_does_not_depend_on_missing_cells():
    model, x, mask = a_vae()
    one, other = (torch.where(mask, x, junk) for junk in (0.0, 1e30))
    assert evaluate(model, one, samples=2, mask=mask) == evaluate(model, other, samples=2, mask=mask)
    assert kl_per_dimension(model, one, mask=mask) == kl_per_dimension(model, other, mask=mask)


CRITIC = Critic(Mlp((4,)), features=4)


@pytest.mark.parametrize(
    "objective",
    [
        Elbo(),
        Iwae(samples=3),
        Regularised(Elbo(), (Adversary(critic=CRITIC),)),
        Regularised(Elbo(), (FeatureGan(critic=CRITIC),)),
    ],
    ids=["elbo", "iwae", "adversary", "feature_gan"],
)
def test_no_objective_sees_a_missing_cell(objective):
    model, x, mask = a_vae()
    discriminator = None
    if isinstance(objective, Regularised):
        discriminator = objective.build(BuildContext((6,), event_shape=(2,))).double()
    found = []
    for junk in (0.0, math.nan, 1e30):
        draw = model.draw(torch.where(mask, x, junk), objective.samples, mask=mask, generator=new_generator(1))
        ctx = StepContext(model=model, generator=new_generator(2), discriminator=discriminator)
        terms = objective(draw, ctx)
        total = terms.value.sum() + (0 if terms.discriminator is None else terms.discriminator.sum())
        gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        found += [[total.detach(), *(g for g in gradients if g is not None)]]
    assert all(part.isfinite().all() for part in found[0])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_the_critic_of_reconstructions_sees_the_same_gaps_in_both():
    """Where all cells are missing, what it compares is the same."""
    model, x, _ = a_vae()
    objective = Regularised(Elbo(), (FeatureGan(critic=CRITIC),))
    draw = model.draw(x, mask=torch.zeros_like(x, dtype=torch.bool), generator=new_generator(1))
    discriminator = objective.build(BuildContext((6,), event_shape=(2,))).double()
    ctx = StepContext(model=model, generator=new_generator(2), discriminator=discriminator)
    (gradient,) = torch.autograd.grad(objective(draw, ctx).value.sum(), model.likelihood.network.output_bias)
    assert (gradient == 0).all()


def test_a_step_takes_a_mask_and_weights_of_rows():
    model, x, mask = a_vae()
    step = Step(model, Elbo(), len(x), World())
    weight = torch.rand(len(x), dtype=torch.float64)
    noise = Noise([torch.randn(1, len(x), 2, dtype=torch.float64)])
    sums = step(StepInputs(x, Elbo(), mask=mask, weight=weight, noise=noise))
    assert set(sums) == {"loss", "elbo", "distortion", "rate"}
    draw = model.draw(x, mask=mask, noise=noise.latents)
    torch.testing.assert_close(sums["loss"], -(weight * Elbo()(draw).value).sum())
