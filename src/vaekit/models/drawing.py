"""Samples of one group of latents, (*shape, *batch of q, *event), and their log-densities.

See `VAE.draw` for `reparametrised` and `score`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from vaekit.errors import SpecError
from vaekit.models.distributions.codes import Factorised, Quantised, kl_per_position
from vaekit.models.distributions.delta import Delta
from vaekit.models.distributions.noise import draw_scored

NARROW = 0.1  # standard deviations of z; the prior's is about 1

PerSample = Float[Tensor, "samples batch"]


@dataclass(frozen=True)
class Latent:
    """K samples of one group of latents, with their log-densities computed where they were drawn."""

    z: Tensor  # (samples, batch, *event)
    log_q: PerSample
    log_p: PerSample
    q: Distribution | None = None
    p: Distribution | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)  # penalties (batch,), in nats, that objectives subtract

    @property
    def is_deterministic(self) -> bool:
        """Whether q(z|x) is a single z, without a density: then no bound on ln p(x) is made of it."""
        return isinstance(self.q, Delta)

    def closed_kl(self) -> Tensor | None:
        """KL(q || p), in nats; None where torch knows no closed form.

        (batch,), but (samples, batch) for a group of a hierarchical VAE that depends on z above it.
        """
        return None if self.q is None or self.p is None else _closed_kl(self.q, self.p)

    def closed_kl_per_dimension(self) -> Tensor | None:
        """The KL of each dimension of z, or of each position of a discrete one, where both q and p factorise over them.

        Returns:
            (batch, *event) or (samples, batch, *event) as in `closed_kl`, in nats; None where there is none.
        """
        if isinstance(self.q, Factorised) and isinstance(self.p, Factorised):
            return kl_per_position(self.q, self.p)
        if not (isinstance(self.q, Independent) and isinstance(self.p, Independent)):
            return None
        return _closed_kl(self.q.base_dist, self.p.base_dist)


def draw_latent(
    q: Distribution,
    p: Distribution,
    shape: tuple[int, ...],
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    reparametrised: bool = True,
    score: bool = True,
) -> Latent:
    """Samples of one group of latents, and their log-densities.

    Args:
        q: The posterior.
        p: The prior.
        shape: Of the samples; z is (*shape, *batch of q, *event).
        noise: Base noise, where already drawn.
        generator: Source of the noise that is not given.
        reparametrised: See `VAE.draw`.
        score: See `VAE.draw`.

    Raises:
        ValueError: q and p are over z of different shapes.
    """
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"the posterior is over z of shape {tuple(q.event_shape)}, the prior over {tuple(p.event_shape)}: "
            "they must be the same"
        )
    with torch.set_grad_enabled(reparametrised and torch.is_grad_enabled()):
        z, log_q = draw_scored(q, shape, generator, noise)
    if torch.is_grad_enabled() and not score:
        log_q = reparametrised_log_prob(q, z)
    elif log_q is None or (torch.is_grad_enabled() and not reparametrised):
        log_q = q.log_prob(z)
    aux = q.penalties if isinstance(q, Quantised) else {}
    return Latent(z, log_q, p.log_prob(z), q, p, aux)


def enumerated_latent(q: Distribution, p: Distribution) -> Latent:
    """All values that z can have, as if each were a sample: z is (values, batch, *event)."""
    if not isinstance(q, Factorised):
        raise SpecError(f"the values of z of {type(q).__name__} cannot be listed: draw samples of it", field="q")
    z = q.enumerated()
    return Latent(z, q.log_prob(z), p.log_prob(z), q, p)


def reparametrised_log_prob(q: Distribution, z: Tensor) -> Tensor:
    """ln q(z) whose gradient flows through z alone, whatever the distribution.

    The slope of ln q is taken at a detached copy of z, and returned to z as the gradient of a zero.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        log_q = q.log_prob(leaf)
        (slope,) = torch.autograd.grad(log_q.sum(), leaf)
    through_z = (z - leaf.detach()) * slope
    return log_q.detach() + through_z.reshape(*log_q.shape, -1).sum(-1)


def steadied(latent: Latent) -> Tensor:
    """ln q(z) of a `latent` drawn with score=False, with as much of its score put back as narrow posteriors need.

    Through z alone, the gradient of -ln q to a mean is eps / sigma. That noise cancels the one in the gradient of
    ln p(x, z) where q is near the true posterior. A q that is far narrower, as after a few steps with a small weight of
    the KL, drowns in it: of 784 pixels and two latents at sigma = 2e-5 the gradient is 100,000 times as noisy as by the
    pathwise estimator, and training never recovers (docs/stability.md). The score, of mean zero, cancels it exactly; a
    dimension takes the share 1 - sigma / NARROW of it, so that its noise is never above eps / NARROW. The share does
    not depend on z, so the gradient is unbiased as before. Of posteriors other than Gaussians, nothing is put back.
    """
    q, z = latent.q, latent.z.detach()
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        log_q, width = q.base_dist.log_prob(z), q.base_dist.scale
    elif isinstance(q, MultivariateNormal):
        log_q, width = q.log_prob(z), q.scale_tril.diagonal(dim1=-2, dim2=-1).min(-1).values
    else:
        return latent.log_q
    score = (1 - width.detach() / NARROW).clamp_min(0) * (log_q - log_q.detach())
    return latent.log_q + score.reshape(*latent.log_q.shape, -1).sum(-1)


def without_score(latents: Sequence[Latent]) -> list[Latent]:
    """The same groups, with the gradient of ln q(z_1) + ... + ln q(z_L | z above) flowing through the z alone.

    Each z must lead to the others through the numbers of their q alone, and not by how they were drawn. The slope to a
    z is that of the whole sum, and is returned with the ln q of its own group.
    """
    live = [latent.z for latent in latents if latent.z.requires_grad]
    total = torch.stack([latent.log_q.sum() for latent in latents]).sum()
    slopes = iter(torch.autograd.grad(total, live, retain_graph=True) if live else ())

    def through_z(latent: Latent) -> Tensor:
        known = latent.log_q.detach()
        if not latent.z.requires_grad:
            return known
        along_z = (latent.z - latent.z.detach()) * next(slopes)
        return known + along_z.reshape(*known.shape, -1).sum(-1)

    return [replace(latent, log_q=through_z(latent)) for latent in latents]


def _closed_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) with the batch shape of q; None where torch knows no closed form."""
    if isinstance(q, MultivariateNormal) and isinstance(p, Independent) and isinstance(p.base_dist, Normal):
        p = MultivariateNormal(p.base_dist.loc, scale_tril=p.base_dist.scale.diag_embed(), validate_args=False)
    try:
        # not every closed form broadcasts (that of two Bernoullis does not)
        return kl_divergence(q, p if p.batch_shape == q.batch_shape else p.expand(q.batch_shape))
    except NotImplementedError:
        return None
