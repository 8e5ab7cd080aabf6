"""Sampling z from a Gaussian mixture fitted to codes."""

import math
import warnings
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import ALONE, BuildContext
from vaekit.models.distributions.mixtures import mixture
from vaekit.randomness import Purpose, sklearn_seed
from vaekit.spec import spec
from vaekit.words import counted


class FullMixture(nn.Module):
    """A mixture of Gaussians with full covariances."""

    logits: Tensor
    loc: Tensor
    scale_tril: Tensor

    def __init__(self, size: int, components: int):
        super().__init__()
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("loc", torch.zeros(components, size))
        self.register_buffer("scale_tril", torch.eye(size).repeat(components, 1, 1))

    def forward(self) -> Distribution:
        return mixture(td.MultivariateNormal(self.loc, scale_tril=self.scale_tril, validate_args=False), self.logits)


@spec
class FromMixture:
    """z from a mixture of Gaussians with full covariances, fitted to codes of the training rows by EM (scikit-learn).

    Codes are draws of q(z|x), which the decoder was trained on, so what is fitted is the aggregated posterior.

    Source: Ghosh et al., 2020, arXiv 1903.12436, section 4 (ex-post density estimation; there 10 components, too).

    Example:
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> z = torch.cat([torch.randn(500, 2) - 5, torch.randn(500, 2) + 5])
        >>> FromMixture(components=2).fit(z)().component_distribution.mean.sort(0).values.round()
        tensor([[-5., -5.],
                [ 5.,  5.]])
    """

    components: Annotated[int, Field(ge=1, le=10_000)] = 10
    kind: Literal["mixture"] = "mixture"

    over = ("real",)

    def __str__(self) -> str:
        return f"a mixture of {self.components} Gaussians fitted to the training codes after training"

    def build(self, context: BuildContext) -> FullMixture:
        """The mixture over z of `context.event_shape`, before it is fitted."""
        return FullMixture(math.prod(context.event_shape), self.components)

    def fit(self, codes: Tensor, seed: int = 0) -> FullMixture:
        """The mixture of the highest likelihood that EM finds for codes (n, size), on the CPU.

        Raises:
            SpecError: There are fewer codes than components.
        """
        from sklearn.exceptions import ConvergenceWarning  # slow to import
        from sklearn.mixture import GaussianMixture

        if len(codes) < self.components:
            raise SpecError(
                f"{counted(len(codes), 'code is', 'codes are')} too few for {self.components} components: use "
                "fewer components",
                field="FromMixture.components",
                value=self.components,
            )
        random_state = sklearn_seed(seed, Purpose.SAMPLER_MIXTURE)
        em = GaussianMixture(self.components, max_iter=200, reg_covar=1e-6, random_state=random_state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is nearly the best will do
            em.fit(codes.double().cpu().numpy())
        fitted = self.build(ALONE.over(codes.shape[1:]))
        covariances = torch.from_numpy(em.covariances_)
        fitted.logits.copy_(torch.from_numpy(em.weights_).log())
        fitted.loc.copy_(torch.from_numpy(em.means_))
        fitted.scale_tril.copy_(torch.linalg.cholesky(covariances))
        return fitted
