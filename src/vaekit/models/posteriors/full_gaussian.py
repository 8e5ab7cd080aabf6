"""The Gaussian posterior with full covariance."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch import distributions as td

from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.parameters import Shape, soft_bound
from vaekit.spec import spec


@spec
class FullGaussian(PosteriorFamily, Head):
    """Gaussian with full covariance S S^T over one flat dimension: the network gives mu, ln diag(S), and S below it.

    Source: Kingma and Welling, 2019, arXiv 1906.02691, section 2.5.1.

    Example:
        >>> FullGaussian()(torch.zeros(5, 9), (3,)).event_shape
        torch.Size([3])
    """

    kind: Literal["full_gaussian"] = "full_gaussian"

    closed_kl_to = ("standard_normal",)
    known_covariance = True

    def features(self, event_shape: Shape) -> int:
        size = math.prod(event_shape)
        return 2 * size + size * (size - 1) // 2

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> td.MultivariateNormal:
        # features = s (s + 3) / 2
        size = (math.isqrt(9 + 8 * raw.shape[-1]) - 3) // 2 if event_shape is None else math.prod(event_shape)
        loc, log_diagonal, below = raw.split([size, size, size * (size - 1) // 2], -1)
        rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
        lower = raw.new_zeros(*raw.shape[:-1], size, size)
        lower[..., rows, columns] = below
        scale_tril = lower + torch.diag_embed(soft_bound(log_diagonal, 2).exp())
        return td.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
