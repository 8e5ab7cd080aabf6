"""The evidence lower bound and its weighted forms."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaekit.errors import SpecError
from vaekit.models.drawing import Latent, steadied
from vaekit.models.vae import Draw
from vaekit.objectives.gradients import Gradient, Pathwise
from vaekit.objectives.terms import StepContext, Terms, check_has_gradient, check_how_drawn
from vaekit.schedules import Cyclical, Warmup, Weight
from vaekit.spec import spec

_LEAST = 0.01  # nats, so that a group whose KL is zero has some weight


@spec
class Elbo:
    """ELBO = E_q[ln p(x|z)] - beta KL(q(z|x) || p(z)), by K samples for each row.

    With beta = 1, no free nats and no capacity this is the lower bound on ln p(x); otherwise it is a training objective
    alone, and the bound is among the parts as `elbo`. Where the posterior is deterministic, it is the value of a
    regularised autoencoder, E[ln p(x|z)] + beta ln p(z), of a plain one with beta = 0, and there is no bound.
    Penalties that latents bring along (the commitment of quantised codes) are subtracted, and are among the parts by
    name.

    Args:
        beta: Weight of the KL, a number, a warm-up or cyclical (Higgins et al., 2017).
        free_nats: A group of latents whose mean KL over the batch is below this is not pushed lower
            (Kingma et al., 2016, arXiv 1606.04934, equation 15).
        capacity: C, the nats that a row's KL is drawn to, from either side: its cost is beta |KL - C| (Burgess et al.,
            2018, arXiv 1804.03599, equation 8; there beta is gamma, and C rises in a straight line).
        balance: While beta is below 1, weigh the KL of each group of latents by its share, as a mean over the batch
            and per latent number; the weights' mean is 1 (Vahdat and Kautz, 2020, arXiv 2007.03898, appendix A).
        samples: K, samples of z for each row, averaged.
        kl: "closed" where q and p have a closed form, "sampled" as ln q(z|x) - ln p(z) at the samples (the tutorial's
            way), "auto" closed where it exists.
        gradient: The estimator of the encoder's gradient.

    Source: Kingma and Welling, 2014, arXiv 1312.6114, equations 3 and 7 (sampled), 10 (closed).

    Example:
        >>> x = torch.zeros(5, 8)
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> model = VAE(posterior, StandardNormal().build(2), likelihood)
        >>> Elbo()(model.draw(x, samples=3)).value.shape
        torch.Size([5])
    """

    beta: Weight = 1.0
    free_nats: Annotated[float, Field(ge=0)] = 0.0
    capacity: Weight | None = None
    balance: bool = False
    samples: Annotated[int, Field(ge=1)] = 1
    kl: Literal["auto", "closed", "sampled"] = "auto"
    gradient: Gradient = Pathwise()
    kind: Literal["elbo"] = "elbo"

    def __post_init__(self) -> None:
        if self.kl == "closed" and not self.gradient.score:
            raise SpecError(
                f"kl 'closed' leaves {self.gradient.kind} no ln q(z|x) to act on: use kl 'sampled' or 'auto'",
                field="kl",
                value=self.kl,
            )
        if self.capacity is not None and self.free_nats:
            raise SpecError(
                f"free_nats is {self.free_nats} and capacity is set: one keeps the KL above a floor, the other at a "
                "value; use one of them",
                field="free_nats",
                value=self.free_nats,
            )

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        if ctx is None:
            for name, weight in (("beta", self.beta), ("capacity", self.capacity)):
                if isinstance(weight, Warmup | Cyclical):
                    raise SpecError(
                        f"{name} changes with the step ({weight.kind}): call objective(draw, StepContext(step, steps)) "
                        "to say how far it is",
                        field="ctx",
                    )
            ctx = StepContext()
        check_how_drawn(draw, self.gradient)
        check_has_gradient(draw, self.gradient)
        beta = _at(self.beta, ctx)
        reward, cost = draw.log_px, torch.zeros_like(draw.log_px)  # (samples, batch)
        penalty = torch.zeros_like(draw.log_px[0])  # (batch,)
        closed = [self._closed_kl(latent) for latent in draw.latents]
        kls = [_per_row(draw, latent, kl) for latent, kl in zip(draw.latents, closed, strict=True)]
        rate = torch.stack([kl.detach() for kl in kls]).sum(0)
        # in a hierarchical VAE, the numbers of q depend on the z above, whose paths hold that gradient already
        steady = not self.gradient.score and len(draw.latents) == 1 and torch.is_grad_enabled()
        weights = self._weights(draw.latents, kls, beta, ctx)
        if self.capacity is not None:
            # |KL - C| is sign (KL - C)
            capacity = _at(self.capacity, ctx)
            side = torch.sign(rate - capacity)
            weights = [weight * side for weight in weights]
            penalty = penalty - beta * side * capacity
        for latent, kl, weight, known in zip(draw.latents, kls, weights, closed, strict=True):
            if self.free_nats:
                above = (ctx.batch_mean(kl.detach()) >= self.free_nats).to(kl.dtype)
                penalty = penalty + weight * (1 - above) * self.free_nats
                weight = weight * above
            if known is None:
                reward = reward + weight * latent.log_p
                cost = cost + weight * (steadied(latent) if steady else latent.log_q)
            elif known.dim() > 1:  # it depends on the samples of the groups above, as a reward does
                reward = reward - weight * known
            else:
                penalty = penalty + weight * known
        surrogate = self.gradient.surrogate(reward, cost, draw.log_qz, ctx.signal_mean)
        log_px = draw.mean(draw.log_px).detach()
        bound = {"elbo": log_px - rate, "distortion": -log_px, "rate": rate}
        value, parts = draw.mean(surrogate) - penalty, bound if draw.has_bound else {"distortion": -log_px}
        for name, cost in draw.aux.items():
            value, parts[name] = value - cost, cost.detach()
        return Terms(value, parts)

    def _weights(
        self, latents: tuple[Latent, ...], kls: list[Tensor], beta: float | Tensor, ctx: StepContext
    ) -> list[Any]:
        """The weight of each group's KL."""
        if not self.balance:
            return [beta] * len(kls)
        sizes = [latent.z[0, 0].numel() for latent in latents]
        shares = torch.stack(
            [(ctx.batch_mean(kl.detach()).abs() + _LEAST) / n for kl, n in zip(kls, sizes, strict=True)]
        )
        full = torch.as_tensor(beta, dtype=shares.dtype, device=shares.device) >= 1
        return list((beta * torch.where(full, 1.0, shares / shares.mean())).unbind())

    def _closed_kl(self, latent: Latent) -> Tensor | None:
        if self.kl == "sampled" or not self.gradient.score:
            return None
        closed = latent.closed_kl()
        if closed is None and self.kl == "closed":
            raise SpecError(
                f"Elbo.kl is closed, but KL({type(latent.q).__name__} || {type(latent.p).__name__}) has no closed "
                "form: use Elbo.kl=sampled",
                field="Elbo.kl",
                value=self.kl,
            )
        return closed


def _per_row(draw: Draw, latent: Latent, closed: Tensor | None) -> Tensor:
    """The KL of a group for each row, (batch,): in closed form, or as the samples have it."""
    kl = latent.log_q - latent.log_p if closed is None else closed
    return kl if kl.dim() == 1 else draw.mean(kl)


def _at(weight: float | Warmup | Cyclical, ctx: StepContext) -> float | Tensor:
    return weight.at(ctx.step, ctx.steps) if isinstance(weight, Warmup | Cyclical) else weight
