"""Discriminators: model and discriminator learn by their own losses alone, and log-odds are what they should be."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import VAE, Bernoulli, Conditional, Deterministic, Gaussian, Mlp, StandardNormal
from vaekit.models.building import BuildContext
from vaekit.objectives import Adversary, Critic, Elbo, Factor, FeatureGan, Regularised, StepContext
from vaekit.objectives.critics import shuffled_codes
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Critic(network=Mlp((32, 32), "leaky_relu"), features=16)
KINDS = [Factor(critic=SMALL), Adversary(critic=SMALL), FeatureGan(critic=SMALL)]
every_kind = pytest.mark.parametrize("penalty", KINDS, ids=lambda penalty: penalty.kind)


def model() -> VAE:
    posterior = Conditional(Mlp(widths=(8,), activation="tanh").build((6,), 4), Gaussian())
    likelihood = Conditional(Mlp(widths=(8,), activation="tanh").build((2,), 6), Bernoulli())
    return VAE(posterior, StandardNormal().build(2), likelihood).double()


def rows(n: int = 7) -> Tensor:
    return torch.bernoulli(torch.full((n, 6), 0.5, dtype=torch.float64), generator=new_generator(1))


@every_kind
def test_model_and_discriminator_learn_by_their_own_values_alone(penalty) -> None:
    vae, objective = model(), Regularised(penalties=(penalty,))
    critic = objective.build(BuildContext((6,), event_shape=(2,))).double()
    ctx = StepContext(model=vae, discriminator=critic, noise=torch.randn(7, 2, dtype=torch.float64))
    terms = objective(vae.draw(rows(), generator=new_generator(2)), ctx)
    assert terms.discriminator is not None
    ours, theirs = list(vae.parameters()), list(critic.parameters())
    of_model = torch.autograd.grad(terms.value.sum(), [*ours, *theirs], retain_graph=True, allow_unused=True)
    of_critic = torch.autograd.grad(terms.discriminator.sum(), [*ours, *theirs], retain_graph=True, allow_unused=True)
    assert all(g is not None and g.any() for g in of_model[: len(ours)])
    assert all(g is None for g in of_model[len(ours) :])
    assert all(g is None for g in of_critic[: len(ours)])
    assert all(g is not None and g.any() for g in of_critic[len(ours) :])


@every_kind
def test_an_objective_without_its_discriminator_is_refused(penalty) -> None:
    vae = model()
    with pytest.raises(SpecError, check=naming("StepContext.discriminator")):
        Regularised(penalties=(penalty,))(vae.draw(rows()), StepContext(model=vae))


def learn(critic: nn.Module, penalty, x: Tensor, steps: int, batch: int = 500) -> VAE:
    """Train the critic alone, against codes that are x itself."""
    identity = nn.Linear(2, 2)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(2))
        identity.bias.zero_()
    parts = (
        Conditional(identity, Deterministic(), (2,)),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 2), Gaussian(scale=1.0)),
    )
    vae, optimiser = VAE(*parts), torch.optim.Adam(critic.parameters(), lr=3e-3)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        places = torch.randint(len(x), (batch,), generator=new_generator(1, step))
        ctx = StepContext(discriminator=critic, generator=new_generator(2, step))
        optimiser.zero_grad()
        (-penalty(vae.draw(x[places]), ctx).discriminator.mean()).backward()
        optimiser.step()
    return vae


def test_the_critics_log_odds_are_the_total_correlation() -> None:
    """Of a Gaussian with correlation 0.8 it is -1/2 ln (1 - 0.64) = 0.51 nats."""
    z = torch.randn(20_000, 2, generator=new_generator(3))
    x = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1)
    penalty = Factor(weight=1.0, critic=SMALL)
    critic = penalty.build(BuildContext((2,), event_shape=(2,)))
    vae = learn(critic, penalty, x, 250)
    found = penalty(vae.draw(x), StepContext(discriminator=critic, generator=new_generator(4))).value
    assert found.mean().item() == pytest.approx(-0.5 * math.log(1 - 0.64), abs=0.05)
    assert Factor(weight=3.0, critic=SMALL)(vae.draw(x[:9]), StepContext(discriminator=critic)).value.allclose(
        3 * found[:9]
    )


def test_a_critic_tells_codes_from_the_prior_by_their_odds() -> None:
    """Of N(1, I) codes beside a N(0, I) prior the log-odds at z are sum z_i - 1."""
    x = 1 + torch.randn(20_000, 2, generator=new_generator(3))
    penalty = Adversary(weight=1.0, critic=SMALL)
    critic = penalty.build(BuildContext((2,), event_shape=(2,)))
    learn(critic, penalty, x, 250)
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.5, 0.0], [0.5, -0.5]])
    with torch.no_grad():
        torch.testing.assert_close(critic(z)[0], z.sum(1) - 1, atol=0.25, rtol=0)


def test_shuffled_codes_keep_each_dimension_and_lose_their_rows() -> None:
    z = torch.arange(20.0).reshape(10, 2)
    found = shuffled_codes(z, StepContext(generator=new_generator(0)))
    assert found.sort(0).values.equal(z)
    assert (found[:, 1] - found[:, 0] != 1).sum() > 5


def test_the_critics_part_of_the_loss_reaches_the_decoder_and_not_the_encoder() -> None:
    vae, penalty = model(), KINDS[2]
    critic = penalty.build(BuildContext((6,), event_shape=(2,))).double()
    ctx = StepContext(model=vae, discriminator=critic, noise=torch.randn(7, 2, dtype=torch.float64))

    def gradients(weight: float) -> tuple[list[Tensor], list[Tensor]]:
        value = replace(penalty, weight=weight)(vae.draw(rows(), generator=new_generator(2)), ctx).value
        parts = [list(part.parameters()) for part in (vae.posterior, vae.likelihood)]
        return tuple(list(torch.autograd.grad(value.sum(), part, retain_graph=True)) for part in parts)

    (encoder, decoder), (encoder_of_none, decoder_of_none) = gradients(5.0), gradients(0.0)
    torch.testing.assert_close(encoder, encoder_of_none)
    assert all(not a.allclose(b) for a, b in zip(decoder, decoder_of_none, strict=True))


@pytest.mark.parametrize("pixels", [0.0, 1.0])
def test_pixels_weigh_what_is_left_of_the_likelihood(pixels: float) -> None:
    vae, x = model(), rows()
    critic = SMALL.build((6,)).double()
    ctx = StepContext(model=vae, discriminator=critic, noise=torch.randn(7, 2, dtype=torch.float64))
    draw = vae.draw(x, generator=new_generator(2))
    found = Regularised(Elbo(), (FeatureGan(weight=0.0, pixels=pixels, critic=SMALL),))(draw, ctx)
    features = [critic(part)[1] for part in (x, draw.px.mean[0])]
    distance = 0.5 * (features[0] - features[1]).square().sum(-1)
    wanted = pixels * draw.log_px[0] - distance - found.parts["rate"]
    torch.testing.assert_close(found.value, wanted)
