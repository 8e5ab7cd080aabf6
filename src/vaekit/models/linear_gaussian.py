"""The linear-Gaussian VAE, all of whose quantities are known in closed form.

It is the oracle of this library's tests, and reads a trained linear VAE as probabilistic principal components.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributions as td

from vaekit.errors import SpecError
from vaekit.models.conditional import Conditional
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.priors.standard_normal import StandardNormalPrior
from vaekit.models.vae import VAE

PerRow = Float[Tensor, "batch"]
Rows = Float[Tensor, "batch data"]
Codes = Float[Tensor, "batch latent"]


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """z ~ N(0, I) in R^L, x | z ~ N(W z + b, noise^2 I) in R^D. All densities are in nats, summed over D or L.

    ln p(x) = ln N(x; b, W W^T + noise^2 I)
    p(z|x) = N(z; m, P^-1) with precision P = I + W^T W / noise^2 and mean m = P^-1 W^T (x - b) / noise^2

    Args:
        loadings: W, (D, L), in units of x.
        offset: b, (D,), in units of x.
        noise: Standard deviation of x given z, > 0, in units of x.

    Source: Tipping and Bishop, 1999, "Probabilistic principal component analysis", equations 2 to 6.

    Example:
        >>> story = LinearGaussian(loadings=torch.ones(3, 1), offset=torch.zeros(3), noise=0.5)
        >>> x = torch.zeros(2, 3)
        >>> torch.allclose(story.vae().draw(x, samples=5).log_w, story.log_px(x).expand(5, 2))
        True
    """

    loadings: Float[Tensor, "data latent"]
    offset: Float[Tensor, "data"]
    noise: float

    def __post_init__(self) -> None:
        if not (self.noise > 0 and math.isfinite(self.noise)):
            raise SpecError(
                f"noise is a standard deviation: finite and > 0, not {self.noise}", field="noise", value=self.noise
            )

    @classmethod
    def from_vae(cls, model: VAE) -> "LinearGaussian":
        """The linear-Gaussian model of a VAE with prior N(0, I) and a decoder of one linear layer.

        The decoder's scale may be fixed or learned, but is one number. Loadings, offset and noise are read off p(x|z)
        at z = 0 and at the unit vectors; x is flattened.

        Raises:
            SpecError: The model is no such VAE.
        """
        prior = _factors(model.prior(), "prior")
        if prior.loc.dim() != 1 or prior.loc.any() or (prior.scale != 1).any():
            raise SpecError("the prior is not N(0, I) over one flat dimension", field="model")
        unit = torch.eye(len(prior.loc), dtype=prior.loc.dtype, device=prior.loc.device)
        elsewhere = 5 * unit - 2
        with torch.no_grad():
            px = _factors(model.decode((torch.cat([0 * unit[:1], unit, elsewhere]),)), "likelihood")
        loc, scale = px.loc.flatten(1), px.scale
        offset, loadings = loc[0], (loc[1 : len(unit) + 1] - loc[0]).T
        seen = loc[len(unit) + 1 :]
        if (elsewhere @ loadings.T + offset - seen).abs().max() > 1e-4 * seen.abs().max():
            raise SpecError("the decoder's mean is not linear in z", field="model")
        if not torch.allclose(scale, scale.flatten()[0]):
            raise SpecError(
                "the decoder's scale is not one number: it varies over z or over the dimensions of x", field="model"
            )
        return cls(loadings, offset, scale.flatten()[0].item())

    def true_posterior(self, x: Rows) -> td.MultivariateNormal:
        """p(z|x), with batch shape (batch,) and a covariance that is the same for every x."""
        slope = (x - self.offset) @ self.loadings / self.noise**2
        mean = torch.linalg.solve(self._precision(), slope.T).T
        return td.MultivariateNormal(mean, precision_matrix=self._precision(), validate_args=False)

    def best_diagonal(self) -> Float[Tensor, "latent"]:
        """The standard deviations of the diagonal Gaussian q with the highest ELBO; its mean is the posterior's.

        They are 1 / sqrt(P_ll); where loadings are orthogonal, that q is the posterior itself.
        """
        return self._precision().diagonal().rsqrt()

    def log_px(self, x: Rows) -> PerRow:
        """ln p(x), in nats."""
        noise = torch.full_like(self.offset, self.noise**2)
        return td.LowRankMultivariateNormal(self.offset, self.loadings, noise, validate_args=False).log_prob(x)

    def elbo(self, x: Rows, loc: Codes, scale: Codes) -> PerRow:
        """The ELBO of x, in nats, at q(z|x) = N(loc, diag scale^2).

        E_q ln p(x|z) = -D/2 ln(2 pi noise^2) - (|x - W loc - b|^2 + sum_l scale_l^2 |w_l|^2) / (2 noise^2)
        KL(q || p) = sum_l (scale_l^2 + loc_l^2 - 1) / 2 - ln scale_l
        """
        variance = self.noise**2
        error = (x - loc @ self.loadings.T - self.offset).square().sum(-1)
        spread = scale**2 @ self.loadings.square().sum(0)
        log_px = -0.5 * (error + spread) / variance - 0.5 * len(self.offset) * math.log(2 * math.pi * variance)
        return log_px - (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum(-1)

    def elbo_gradients(self, loc: Codes, log_scale: Codes, x: Rows) -> tuple[Codes, Codes]:
        """The exact gradients of the ELBO of each row to loc and to log_scale = ln scale.

        d/d loc = W^T (x - W loc - b) / noise^2 - loc, and d/d ln scale_l = 1 - scale_l^2 P_ll
        """
        error = x - loc @ self.loadings.T - self.offset
        to_loc = error @ self.loadings / self.noise**2 - loc
        return to_loc, 1 - (2 * log_scale).exp() * self._precision().diagonal()

    def vae(self, posterior: nn.Module | None = None) -> VAE:
        """This model as a VAE, with copies of its numbers as weights; without a posterior, with the exact one."""
        features, size = self.loadings.shape
        # made on "meta", because its initial weights would be drawn from torch's global random state
        network = nn.Linear(size, features, device="meta").to_empty(device=self.offset.device).to(self.offset)
        with torch.no_grad():
            network.weight.copy_(self.loadings)
            network.bias.copy_(self.offset)
        prior = StandardNormalPrior(size).to(self.offset)
        likelihood = Conditional(network, Gaussian(scale=self.noise))
        return VAE(ExactPosterior(self) if posterior is None else posterior, prior, likelihood)

    def _precision(self) -> Tensor:
        eye = torch.eye(self.loadings.shape[1], dtype=self.loadings.dtype, device=self.loadings.device)
        return eye + self.loadings.T @ self.loadings / self.noise**2


class ExactPosterior(nn.Module):
    """x -> p(z|x) of a linear-Gaussian model: a plain module, as anyone would write one."""

    def __init__(self, story: LinearGaussian):
        super().__init__()
        self.story = story

    def forward(self, x: Tensor) -> td.MultivariateNormal:
        return self.story.true_posterior(x)


def _factors(distribution: td.Distribution, role: str) -> td.Normal:
    base = distribution.base_dist if isinstance(distribution, td.Independent) else distribution
    if not isinstance(base, td.Normal):
        raise SpecError(
            f"the {role} is {type(base).__name__}, not a Gaussian with independent dimensions", field="model"
        )
    return base
