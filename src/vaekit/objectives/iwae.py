"""Importance-weighted bounds: one family, of which the papers are settings."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaekit.errors import SpecError
from vaekit.models.compatibility import gradient_row, objective_row, refuse
from vaekit.models.drawing import Latent
from vaekit.models.vae import Draw
from vaekit.objectives.gradients import Gradient, Pathwise
from vaekit.objectives.terms import StepContext, Terms, check_how_drawn
from vaekit.spec import spec

Count = Annotated[int, Field(ge=1)]
LEAST_SHARE = 1e-20


@spec
class Iwae:
    """The importance-weighted bound ln (1/K) sum_k w_k, w = p(x, z) / q(z|x), and its multiples.

    By K samples of z it lies between the ELBO (K = 1) and ln p(x), and rises with K. The samples may be divided into M
    groups of K whose bounds are averaged:

        (1/M) sum_m 1/(1 - alpha) ln (1/K) sum_k w_mk^(1 - alpha),  beside the ELBO with weight `elbo_share`

    - IWAE (Burda et al., 2015, arXiv 1509.00519, equation 8): the defaults.
    - MIWAE (Rainforth et al., 2018, arXiv 1802.04537): groups above 1. CIWAE: elbo_share above 0. PIWAE:
      encoder_groups above groups, so that the encoder learns by a looser bound, whose gradient is less noisy.
    - Renyi's bound (Li and Turner, 2016, arXiv 1602.02311, equation 4): alpha other than 0; towards 1 it is the ELBO.

    Args:
        samples: M K, z drawn for each row.
        groups: M.
        encoder_groups: M for the encoder's gradient; none is as `groups`. For doubly_reparametrised only.
        elbo_share: Weight of the ELBO, in [0, 1].
        alpha: Order, below 1.
        gradient: The estimator of the encoder's gradient. score has VIMCO's baseline (Mnih and Rezende, 2016, arXiv
            1602.06725); stick_the_landing is biased for K > 1, doubly_reparametrised is not.

    Example:
        >>> x = torch.zeros(5, 8)
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> draw = VAE(posterior, StandardNormal().build(2), likelihood).draw(x, samples=6)
        >>> bool((Iwae(samples=6)(draw).value >= Iwae(samples=6, groups=2)(draw).value).all())
        True
    """

    samples: Count = 5
    groups: Count = 1
    encoder_groups: Count | None = None
    elbo_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    alpha: Annotated[float, Field(lt=1)] = 0.0
    gradient: Gradient = Pathwise()
    kind: Literal["iwae"] = "iwae"

    importance_weighted = True

    def __post_init__(self) -> None:
        for name, groups in {"groups": self.groups, "encoder_groups": self.encoder_groups or 1}.items():
            if self.samples % groups:
                raise SpecError(
                    f"samples is {self.samples}, which {name}={groups} does not divide: make samples a multiple of it",
                    field=name,
                    value=groups,
                )
        if self.encoder_groups and not self.gradient.weighs_paths:
            raise SpecError(
                f"encoder_groups is for the gradient doubly_reparametrised, and the gradient is {self.gradient.kind}",
                field="encoder_groups",
                value=self.encoder_groups,
            )
        refuse("gradient", self.gradient, objective=objective_row(self), gradient=gradient_row(self.gradient))
        if self.gradient.has_baseline and self.samples == self.groups:
            raise SpecError(
                "the score's baseline is made of the other samples of a group, and each group has one: use more "
                "samples, fewer groups, or the elbo objective",
                field="samples",
                value=self.samples,
            )

    @property
    def unbiased(self) -> bool:
        """Whether the encoder's gradient is that of the bound, on average."""
        same_bound = self.encoder_groups in (None, self.groups)
        exact = self.samples == self.groups or self.gradient.score or self.gradient.weighs_paths
        return self.gradient.unbiased and same_bound and exact

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        check_how_drawn(draw, self.gradient)
        if not draw.has_bound:
            raise SpecError(
                "the samples of a deterministic posterior are all the same, and have no density to weigh them by: use "
                "the elbo objective, or another posterior",
                field="draw",
            )
        if len(draw.log_w) % math.lcm(self.groups, self.encoder_groups or 1):
            raise SpecError(
                f"{len(draw.log_w)} samples of z were drawn, which do not part into groups: draw {self.samples}",
                field="draw",
            )
        log_w = draw.log_w.unflatten(0, (self.groups, -1))  # (M, K, batch)
        bound = self._bound(log_w, 1).mean(0)
        value = self.elbo_share * draw.log_w.mean(0) + (1 - self.elbo_share) * bound
        if torch.is_grad_enabled():
            if self.gradient.weighs_paths:
                known = draw.log_w.detach()
                wanted, has = self._shares(known, self.encoder_groups or self.groups, True), self._has(known)
                if self.encoder_groups:
                    value = value.detach() + (has * (draw.log_w - known)).sum(0)
                _scale_paths(draw.latents, wanted / has)
            elif self.gradient.multiplies_score:
                signal = self._signal(log_w.detach()).flatten(0, 1)
                value = value + (signal * (draw.log_qz - draw.log_qz.detach())).sum(0)
        elbo, log_px = draw.log_w.detach().mean(0), draw.log_px.detach().mean(0)
        parts = {"bound": bound.detach(), "elbo": elbo, "distortion": -log_px, "rate": log_px - elbo}
        for name, cost in draw.aux.items():
            value, parts[name] = value - cost, cost.detach()
        return Terms(value, parts)

    def _bound(self, log_w: Tensor, dim: int) -> Tensor:
        order = 1 - self.alpha
        return ((order * log_w).logsumexp(dim) - math.log(log_w.shape[dim])) / order

    def _shares(self, log_w: Tensor, groups: int, twice: bool) -> Tensor:
        """The slope of the value in each ln w, (samples, batch).

        With `twice`, each path has its weight in place of its share.
        """
        order = 1 - self.alpha
        shares = (order * log_w.unflatten(0, (groups, -1))).softmax(1)
        if twice:
            shares = shares * (self.alpha + order * shares)
        return self.elbo_share / len(log_w) + (1 - self.elbo_share) / groups * shares.flatten(0, 1)

    def _has(self, log_w: Tensor) -> Tensor:
        """The weight that each path's gradient comes back with.

        A share too small for the model's gradient is raised where the encoder's bound may have use for it: from 0 no
        weight would bring it back.
        """
        least = LEAST_SHARE if self.encoder_groups else torch.finfo(log_w.dtype).tiny
        return self._shares(log_w, self.groups, twice=False).clamp_min(least)

    def _signal(self, log_w: Tensor) -> Tensor:
        """What each sample (M, K, batch) adds to the value, over what its group is expected to give without it."""
        groups, samples, _ = log_w.shape
        elbo = log_w / (groups * samples)
        bound = self._bound(log_w, 1)[:, None].expand_as(log_w)
        if self.gradient.has_baseline:
            others = (log_w.sum(1, keepdim=True) - log_w) / (samples - 1)  # mean of the others: (M, K, batch)
            own = torch.eye(samples, dtype=torch.bool, device=log_w.device)[:, :, None]
            without = torch.where(own, others[:, None], log_w[:, :, None])  # (M, j, k, batch): k replaced
            bound = bound - self._bound(without, 1)
            elbo = elbo - others / (groups * samples)
        return self.elbo_share * elbo + (1 - self.elbo_share) / groups * bound


def _scale_paths(latents: tuple[Latent, ...], weights: Tensor) -> None:
    """Multiply the gradient that will come back to each z by the weight of its sample and row."""
    for latent in latents:
        if latent.z.requires_grad:
            weight = weights.reshape(*weights.shape, *[1] * (latent.z.dim() - 2))
            latent.z.register_hook(lambda gradient, weight=weight: gradient * weight)
