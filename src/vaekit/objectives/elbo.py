"""The evidence lower bound and its weighted kin."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaekit.errors import ConfigError
from vaekit.models.vae import Draw, Latent
from vaekit.objectives.gradients import DoublyReparametrised, Gradient, Pathwise, StickTheLanding
from vaekit.objectives.schedules import Warmup
from vaekit.objectives.terms import StepContext, Terms, check_how_drawn
from vaekit.spec import spec

_NO_SCORE = (StickTheLanding, DoublyReparametrised)


@spec
class Elbo:
    """ELBO = E_q[ln p(x|z)] - beta KL(q(z|x) || p(z)), by K samples for each row.

    With beta = 1 and no free nats this is the lower bound on ln p(x); otherwise it is a training objective alone, and
    the bound is among the parts as `elbo`. Penalties that latents bring along (the commitment of quantised codes) are
    subtracted, and are among the parts by name.

    Args:
        beta: weight of the KL, a number or a warm-up (Higgins et al., 2017).
        free_nats: a group of latents whose mean KL over the batch is below this is not pushed lower
            (Kingma et al., 2016, arXiv 1606.04934, equation 15).
        samples: K, samples of z for each row, averaged.
        kl: "closed" where q and p have a closed form, "sampled" as ln q(z|x) - ln p(z) at the samples (the tutorial's
            way), "auto" closed where it exists.
        gradient: the estimator of the encoder's gradient.

    Source: Kingma and Welling, 2014, arXiv 1312.6114, equations 3 and 7 (sampled), 10 (closed).

    >>> x = torch.zeros(5, 8)
    >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
    >>> model = VAE(posterior, Standard().build(2), likelihood)
    >>> Elbo()(model.draw(x, samples=3)).value.shape
    torch.Size([5])
    """

    beta: Annotated[float, Field(ge=0)] | Warmup = 1.0
    free_nats: Annotated[float, Field(ge=0)] = 0.0
    samples: Annotated[int, Field(ge=1)] = 1
    kl: Literal["auto", "closed", "sampled"] = "auto"
    gradient: Gradient = Pathwise()
    kind: Literal["elbo"] = "elbo"

    def __post_init__(self) -> None:
        if self.kl == "closed" and isinstance(self.gradient, _NO_SCORE):
            raise ValueError(
                f"kl 'closed' leaves {self.gradient.kind} no ln q(z|x) to act on: use kl 'sampled' or 'auto'"
            )

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        if ctx is None:
            if isinstance(self.beta, Warmup):
                raise ValueError(
                    "beta is a warm-up: call objective(draw, StepContext(step, steps)) to say how far it is"
                )
            ctx = StepContext()
        check_how_drawn(draw, self.gradient)
        beta = self.beta.at(ctx.step, ctx.steps) if isinstance(self.beta, Warmup) else self.beta
        reward, cost = draw.log_px, torch.zeros_like(draw.log_px)  # (samples, batch)
        penalty = rate = torch.zeros_like(draw.log_px[0])  # (batch,)
        for latent in draw.latents:
            closed = self._closed_kl(latent)
            kl = latent.log_q - latent.log_p if closed is None else closed
            kl = draw.mean(kl) if kl.dim() > 1 else kl
            rate = rate + kl.detach()
            weight = beta
            if self.free_nats:
                above = (ctx.batch_mean(kl.detach()) >= self.free_nats).to(kl.dtype)
                weight = beta * above
                penalty = penalty + beta * (1 - above) * self.free_nats
            if closed is None:
                reward = reward + weight * latent.log_p
                cost = cost + weight * latent.log_q
            elif closed.dim() > 1:  # it depends on the samples of the groups above, as a reward does
                reward = reward - weight * closed
            else:
                penalty = penalty + weight * closed
        surrogate = self.gradient.surrogate(reward, cost, draw.log_qz, ctx.signal_mean)
        log_px = draw.mean(draw.log_px).detach()
        parts = {"elbo": log_px - rate, "distortion": -log_px, "rate": rate}
        value = draw.mean(surrogate) - penalty
        for name, cost in draw.aux.items():
            value, parts[name] = value - cost, cost.detach()
        return Terms(value, parts)

    def _closed_kl(self, latent: Latent) -> Tensor | None:
        if self.kl == "sampled" or isinstance(self.gradient, _NO_SCORE):
            return None
        closed = latent.closed_kl()
        if closed is None and self.kl == "closed":
            raise ConfigError(
                f"objective.kl is 'closed', but KL({type(latent.q).__name__} || {type(latent.p).__name__}) has no "
                "closed form: use objective.kl=sampled"
            )
        return closed
