"""Penalties with a discriminator (or critic): a network trained beside the model to distinguish two kinds of inputs.

The discriminator's weights have gradients of its own objective alone, `Terms.discriminator`, and the model's weights
of the model's value alone.
"""

from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.distributions.cells import observed
from vaekit.models.networks import Network
from vaekit.models.networks.mlp import Mlp
from vaekit.models.parameters import floating
from vaekit.models.vae import Draw, Model
from vaekit.objectives.penalties import Cost, NotNegative, Penalty, Shape, only_latent, prior_draw
from vaekit.objectives.terms import StepContext
from vaekit.spec import spec

Decay = Annotated[float, Field(ge=0, lt=1)]


@spec
class Critic:
    """A discriminator, trained by Adam with a learning rate of its own, which follows the schedule of the training.

    Args:
        network: From what it looks at to its features.
        features: Numbers that the network gives; one linear layer follows.
        lr: Learning rate.
        betas: Of Adam.
    """

    network: Network = Mlp((256, 256), "leaky_relu")
    features: Annotated[int, Field(ge=1, le=65536)] = 256
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: tuple[Decay, Decay] = (0.5, 0.9)

    def build(self, shape: Shape) -> "CriticNetwork":
        """The untrained network over values of this shape."""
        return CriticNetwork(self.network.build(shape, self.features), self.features)


@runtime_checkable
class Penalised(Protocol):
    """An objective with penalties, which may draw numbers and train a discriminator, as `Regularised` does."""

    @property
    def needs_noise(self) -> bool:
        """Whether a penalty draws numbers of its own."""
        ...

    @property
    def critic(self) -> Critic | None:
        """The settings of the discriminator, where there is one."""
        ...

    def build(self, context: BuildContext) -> nn.Module | None:
        """The untrained discriminator, where there is one; see `Penalty.build`."""
        ...


class CriticNetwork(nn.Module):
    """Of x (batch, *shape): the log-odds that it is of the first of two kinds, (batch,), and features."""

    def __init__(self, network: nn.Module, features: int):
        super().__init__()
        self.network = network
        self.verdict = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = nn.functional.leaky_relu(self.network(x))
        return self.verdict(features).squeeze(-1), features


@spec
class Factor(Penalty):
    """FactorVAE: weight times the total correlation KL(q(z) || prod_i q(z_i)), by a critic's log-odds.

    The critic tells codes from codes whose every dimension is of another row of the batch; at its best, its mean
    log-odds over codes are the total correlation.

    Not a bound on ln p(x).

    Source: Kim and Mnih, 2018, arXiv 1802.05983, equations 2 and 3, algorithm 2; the rows that are shuffled are those
    of the batch itself. There weight is gamma.
    """

    weight: NotNegative = 10.0
    critic: Critic = Critic()
    kind: Literal["factor"] = "factor"

    needs_noise = True

    def build(self, context: BuildContext) -> CriticNetwork:
        return self.critic.build(context.event_shape)

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        z, critic = only_latent(draw).z[0], _discriminator(ctx)
        known = z.detach()
        shuffled = shuffled_codes(known, ctx)
        distinguished = -softplus(-critic(known)[0]) - softplus(critic(shuffled)[0])
        return Cost(self.weight * _held(critic, z)[0], distinguished)


@spec
class Adversary(Penalty):
    """Adversarial autoencoder: the codes are to pass for draws of p(z) with a critic that tells them apart.

    weight times -ln P(z is of the prior), by the critic, which brings q(z) to p(z). With beta = 0 it stands in for the
    KL; the posterior may be deterministic.

    Not a bound on ln p(x).

    Source: Makhzani, Shlens, Jaitly, Goodfellow and Frey, 2015, arXiv 1511.05644, section 2.
    """

    weight: NotNegative = 1.0
    critic: Critic = Critic()
    kind: Literal["adversary"] = "adversary"

    needs_noise = True

    def build(self, context: BuildContext) -> CriticNetwork:
        return self.critic.build(context.event_shape)

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        latent, critic = only_latent(draw), _discriminator(ctx)
        z = latent.z[0]
        of_codes, of_prior = critic(z.detach())[0], critic(prior_draw(latent, ctx).detach())[0]
        distinguished = -softplus(-of_codes) - softplus(of_prior)
        return Cost(self.weight * softplus(_held(critic, z)[0]), distinguished)


@spec
class FeatureGan(Penalty):
    """VAE-GAN: the reconstruction is judged by the features of a critic that tells data from what is decoded.

    ln p(x|z) gives way to -1/2 |f(x) - f(E[x|z])|^2, f the critic's last features, and the decoder is to make the
    critic take for data what it decodes from codes and from draws of p(z), -ln P(it is data) of each, which does not
    reach the encoder.

    Not a bound on ln p(x); the bound among the parts is that of the likelihood, which is not what is trained.

    Args:
        weight: On the decoder's part against the critic; 1 / gamma of the paper.
        pixels: Weight of ln p(x|z) that is left.
        critic: Looks at x.

    Source: Larsen, Sonderby, Larochelle and Winther, 2016, arXiv 1512.09300, equations 7 to 9, algorithm 1; the decoder
    maximises ln P(data) where the paper has it minimise ln P(decoded), as usual since Goodfellow et al., 2014.
    """

    weight: NotNegative = 1.0
    pixels: NotNegative = 0.0
    critic: Critic = Critic()
    kind: Literal["feature_gan"] = "feature_gan"

    needs_noise = True

    def build(self, context: BuildContext) -> CriticNetwork:
        return self.critic.build(context.data_shape)

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        latent, critic = only_latent(draw), _discriminator(ctx)
        if not isinstance(ctx.model, Model):
            raise SpecError(
                "feature_gan decodes draws of the prior: pass the model in StepContext(model=)",
                field="StepContext.model",
            )
        x, decoded = floating(draw.x), observed(draw.px.mean[0], draw.mask)
        distance = 0.5 * (_held(critic, x)[1] - _held(critic, decoded)[1]).square().sum(-1)
        z = torch.stack([latent.z[0].detach(), prior_draw(latent, ctx).detach()])
        made = ctx.model.decode((z,), draw.context).mean
        if draw.mask is not None:
            made = torch.where(draw.mask, made, 0)
        made = made.flatten(0, 1)
        passes = softplus(-_held(critic, made)[0]).unflatten(0, z.shape[:2]).sum(0)
        found_out = softplus(critic(made.detach())[0]).unflatten(0, z.shape[:2]).sum(0)
        distinguished = -softplus(-critic(x)[0]) - found_out
        pixels = (1 - self.pixels) * draw.log_px.mean(0)
        return Cost(pixels + distance + self.weight * passes, distinguished)


def _discriminator(ctx: StepContext) -> nn.Module:
    if ctx.discriminator is None:
        raise SpecError(
            "this objective has a discriminator: build it with objective.build(BuildContext(data_shape, "
            "event_shape=z_shape)), and pass it in StepContext(discriminator=)",
            field="StepContext.discriminator",
        )
    return ctx.discriminator


def _held(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the critic makes of x, with gradients for x and none for its weights."""
    return functional_call(critic, {name: weight.detach() for name, weight in critic.named_parameters()}, (x,))


def shuffled_codes(z: Tensor, ctx: StepContext) -> Tensor:
    """Codes each of whose dimensions is of a row of its own, drawn from the whole batch."""
    every, own = ctx.gather(torch.stack([z, ctx.normal(z)], 1))
    codes, noise = every.unbind(1)
    return codes.gather(0, noise.argsort(0))[own]
