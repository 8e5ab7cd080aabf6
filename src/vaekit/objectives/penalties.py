"""What may be taken off a bound: how the codes of a whole batch lie together, and how steep or large the decoder is."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.distributions.delta import Delta
from vaekit.models.distributions.noise import draw_from, noise_map
from vaekit.models.drawing import Latent
from vaekit.models.vae import VAE, Draw
from vaekit.objectives.terms import PerRow, StepContext
from vaekit.spec import Several, spec

NotNegative = Annotated[float, Field(ge=0)]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What a penalty returns.

    Attributes:
        value: Subtracted from the value of each row, (batch,), in nats.
        discriminator: What its discriminator maximises, (batch,), where it has one.
    """

    value: PerRow
    discriminator: PerRow | None = None


class Penalty(ABC):
    """A cost beside a bound. Abstract; the final classes are the choices.

    Those that look at the codes look at the first of the K samples of z, and need a model with one group of latents.
    Where a batch goes through the model in pieces, what is said of the batch holds for each piece.
    """

    needs_noise = False  # whether it uses StepContext.noise
    needs_covariance = False  # whether the covariance of q(z|x) must be known in closed form
    needs_diagonal_gaussian = False  # whether q(z|x) must be a Gaussian with independent dimensions

    @abstractmethod
    def __call__(self, draw: Draw, ctx: StepContext) -> Cost: ...

    def build(self, context: BuildContext) -> nn.Module | None:
        """The discriminator, for z of `event_shape` and x of `data_shape`; None for a penalty without one."""
        return None


@spec
class TotalCorrelation(Penalty):
    """beta-TCVAE: the KL's three parts, estimated from the batch, with extra weights.

    E_x KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || prod_i q(z_i)) + sum_i KL(q(z_i) || p(z_i)), with the aggregate
    posterior q(z) = E_x q(z|x): mutual information, total correlation, and the KL of single dimensions. The ELBO
    counts each of them once; the weights here come on top, so beta of the paper is 1 + weight.

    Args:
        weight: On the total correlation.
        information: On the mutual information.
        dimensions: On the KL of single dimensions.
        sampling: How ln q(z) is had from a batch of n out of N rows. "stratified": the row that z came from counts
            1/N, the others share (N - 1)/N; unbiased for q(z), and exact where the batch is all rows. (It is the mean
            over all roles of the rows in the paper's stratified sampling.) "weighted": every row counts 1/(N n), the
            paper's equation 3.

    Not a bound on ln p(x). Estimates of ln q(z) from a batch are biased, the more the fewer its rows.

    Source: Chen, Li, Grosse and Duvenaud, 2018, arXiv 1802.04942, equations 2 to 4, appendix C.
    """

    weight: NotNegative = 5.0
    information: float = 0.0
    dimensions: float = 0.0
    sampling: Literal["stratified", "weighted"] = "stratified"
    kind: Literal["total_correlation"] = "total_correlation"

    needs_diagonal_gaussian = True

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        latent = only_latent(draw)
        q = latent.q.base_dist if isinstance(latent.q, Independent) else latent.q
        if not isinstance(q, Normal):
            raise SpecError(
                f"total_correlation needs a diagonal Gaussian posterior, and it is {type(q).__name__}: use the "
                "posterior gaussian, or the penalty factor",
                field="draw",
            )
        rows = torch.stack([latent.z[0].flatten(1), q.loc.flatten(1), q.scale.flatten(1)], 1)

        def measure(every: Tensor) -> Tensor:
            own, joint, marginal = self.log_densities(every, ctx.rows or len(every))
            information, correlation = own - joint, joint - marginal
            return (self.information * information + self.weight * correlation + self.dimensions * marginal).mean()

        return Cost(ctx.over_batch(rows, measure) - self.dimensions * latent.log_p[0])

    def log_densities(self, rows: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
        """ln q(z|x), and estimates of ln q(z) and sum_i ln q(z_i), (n,) each.

        rows: (n, 3, size), of each row z and the mean and scale of its posterior.
        total: rows of the data, N.
        """
        n = len(rows)
        z, loc, scale = rows.unbind(1)
        each = -0.5 * ((z[:, None] - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)  # (n, n, size)
        weights = self._log_weights(n, max(n, total), each)
        joint = (each.sum(-1) + weights).logsumexp(1)
        marginal = (each + weights[:, :, None]).logsumexp(1).sum(-1)
        return each.sum(-1).diagonal(), joint, marginal

    def _log_weights(self, n: int, total: int, like: Tensor) -> Tensor:
        if self.sampling == "weighted" or n == 1:
            return like.new_full((n, n), -math.log(total * n) if n > 1 else 0.0)
        others = like.new_full((n, n), math.log((total - 1) / (total * (n - 1))))
        return torch.where(torch.eye(n, dtype=torch.bool, device=like.device), -math.log(total), others)


@spec
class Dip(Penalty):
    """DIP-VAE: the covariance of the codes over the batch is drawn to the identity.

    off_diagonal sum_(i != j) C_ij^2 + diagonal sum_i (C_ii - 1)^2, where C is the covariance of the posterior's means
    (DIP-VAE-I), or that plus the mean of the posterior's covariance, which is the covariance of z (DIP-VAE-II).

    Args:
        off_diagonal, diagonal: weights.
        of: Whose covariance, "means" or "z".

    Not a bound on ln p(x).

    Source: Kumar, Sattigeri and Balakrishnan, 2018, arXiv 1711.00848, equations 6 and 7.
    """

    off_diagonal: NotNegative = 10.0
    diagonal: NotNegative = 100.0
    of: Literal["means", "z"] = "means"
    kind: Literal["dip"] = "dip"

    needs_covariance = True

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        mean, covariance = _moments(only_latent(draw).q)
        rows = torch.cat([mean[:, None], covariance], 1)  # (batch, 1 + size, size)

        def measure(every: Tensor) -> Tensor:
            means = every[:, 0] - every[:, 0].mean(0)
            found = means.t() @ means / len(every)
            if self.of == "z":
                found = found + every[:, 1:].mean(0)
            diagonal = found.diagonal()
            off = found.square().sum() - diagonal.square().sum()
            return self.off_diagonal * off + self.diagonal * (diagonal - 1).square().sum()

        return Cost(ctx.over_batch(rows, measure))


@spec
class Mmd(Penalty):
    """The maximum mean discrepancy between the codes of a batch and as many draws of p(z): InfoVAE, WAE-MMD.

    The mean of k over different codes, plus that over different draws, less twice that over pairs of both: unbiased
    for MMD^2, so it may be negative. With s over all scales and D latents, k(a, b) is the sum of

        c / (c + |a - b|^2)   (imq)       or       exp(-|a - b|^2 / c)   (rbf),       with c = 2 D s

    - InfoVAE (Zhao et al., 2017, arXiv 1706.02262, equation 6): beta = 1 - alpha, weight = alpha + lambda - 1.
    - WAE-MMD (Tolstikhin et al., 2018, arXiv 1711.01558, algorithm 2): beta = 0, weight = lambda, with a posterior that
      is deterministic or Gaussian.

    Not a bound on ln p(x). Draws of a mixture prior carry no gradient to its weights.

    Args:
        weight: On the discrepancy, in nats.
        kernel: Imq or rbf.
        scales: s, the squared bandwidths, in units of the prior's variance.
    """

    weight: NotNegative = 100.0
    kernel: Literal["imq", "rbf"] = "imq"
    scales: Annotated[Several[Annotated[float, Field(gt=0)]], Field(min_length=1)] = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    kind: Literal["mmd"] = "mmd"

    needs_noise = True

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        latent = only_latent(draw)
        rows = torch.stack([latent.z[0].flatten(1), prior_draw(latent, ctx).flatten(1)], 1)
        return Cost(self.weight * ctx.over_batch(rows, lambda every: self.squared(*every.unbind(1))))

    def squared(self, a: Tensor, b: Tensor) -> Tensor:
        """The unbiased estimate of MMD^2 between what a and b, (n, size) each, were drawn from."""
        pairs, n = max(1, len(a) * (len(a) - 1)), len(a)
        within = (self._off_diagonal(a) + self._off_diagonal(b)) / pairs
        return within - 2 * self._kernel(_squared_distances(a, b), a.shape[1]).sum() / n**2

    def _off_diagonal(self, a: Tensor) -> Tensor:
        kernel = self._kernel(_squared_distances(a, a), a.shape[1])
        return kernel.sum() - kernel.diagonal().sum()

    def _kernel(self, squares: Tensor, size: int) -> Tensor:
        c = squares.new_tensor([2 * size * s for s in self.scales])[:, None, None]
        each = c / (c + squares) if self.kernel == "imq" else (-squares / c).exp()
        return each.sum(0)


@spec
class DecoderWeights(Penalty):
    """RAE-L2: weight times the sum of the squares of the decoder's weights.

    With a deterministic posterior and an `Elbo` whose beta weighs ln p(z). Not a bound on ln p(x).

    Source: Ghosh, Sajjadi, Vergari, Black and Schoelkopf, 2020, arXiv 1903.12436, section 3.
    """

    weight: NotNegative = 1e-3
    kind: Literal["decoder_weights"] = "decoder_weights"

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        if not isinstance(ctx.model, VAE):
            raise SpecError(
                "decoder_weights needs a VAE, whose likelihood is its decoder, in StepContext(model=)",
                field="StepContext.model",
            )
        squares = [weight.square().sum() for weight in ctx.model.likelihood.parameters()]
        return Cost((self.weight * torch.stack(squares).sum()).expand(len(draw.x)))


@spec
class DecoderSlope(Penalty):
    """RAE-GP: weight times |J|^2, the squares of the slopes of E[x|z] in z, summed.

    Estimated by |J u|^2 with random signs u, whose mean it is (Hutchinson, 1989), for each row and z. With a
    deterministic posterior and an `Elbo` whose beta weighs ln p(z). Not a bound on ln p(x).

    Source: Ghosh, Sajjadi, Vergari, Black and Schoelkopf, 2020, arXiv 1903.12436, section 3.
    """

    weight: NotNegative = 1e-3
    kind: Literal["decoder_slope"] = "decoder_slope"

    needs_noise = True

    def __call__(self, draw: Draw, ctx: StepContext) -> Cost:
        latent = only_latent(draw)
        signs = ctx.normal(latent.z[0]).sign()
        z, mean = latent.z, draw.px.mean
        with torch.enable_grad():
            if not mean.requires_grad or not z.requires_grad:
                if not isinstance(ctx.model, VAE):
                    raise SpecError(
                        "without gradients, decoder_slope needs the model in StepContext(model=)",
                        field="StepContext.model",
                    )
                z = z.detach().requires_grad_()
                mean = ctx.model.decode((z,), draw.context).mean
            # J^T v is linear in v, and its slope in v, along u, is J u
            v = torch.zeros_like(mean).requires_grad_()
            (back,) = torch.autograd.grad(mean, z, v, create_graph=True)
            (slope,) = torch.autograd.grad(back, v, signs.expand_as(back), create_graph=True)
            squares = slope.square().flatten(2).sum(-1).mean(0)
        return Cost(self.weight * (squares if torch.is_grad_enabled() else squares.detach()))


def only_latent(draw: Draw) -> Latent:
    """The one group of latents of a draw."""
    if len(draw.latents) != 1:
        raise SpecError(
            f"penalties on the codes are for models with one group of latents, and this one has {len(draw.latents)}",
            field="draw",
        )
    return draw.latents[0]


def prior_draw(latent: Latent, ctx: StepContext) -> Tensor:
    """One draw of p(z) for each row, (batch, *event)."""
    p = latent.p
    if p is None:
        raise SpecError("this penalty draws from the prior, and the model's draw does not hold it", field="draw")
    found = noise_map(p)
    normal = found is not None and found.base is torch.randn  # as the context's noise is; codes take another
    noise = ctx.noise if normal else None
    return draw_from(p, tuple(latent.z.shape[1:2]) if not p.batch_shape else (), ctx.generator, noise)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().sum(-1)


def _moments(q: Distribution | None) -> tuple[Tensor, Tensor]:
    """The mean (batch, size) and the covariance (batch, size, size) of q(z|x)."""
    if isinstance(q, MultivariateNormal):
        return q.mean, q.covariance_matrix
    if isinstance(q, Independent | Delta):
        return q.mean.flatten(1), q.variance.flatten(1).diag_embed()
    raise SpecError(
        f"dip needs a posterior whose covariance is known, and that of {type(q).__name__} is not: use the posterior "
        "gaussian",
        field="draw",
    )
