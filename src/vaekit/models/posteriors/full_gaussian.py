"""Posteriors beyond the diagonal Gaussian: heads, so that q(z|x) is `Conditional(network, head)` like any other."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.families import Head
from vaekit.models.parameters import Shape, soft_bound
from vaekit.spec import spec


@spec
class FullGaussian(Head):
    """Gaussian with full covariance S S^T over one flat dimension: the network gives mu, ln diag(S), and S below it.

    Source: Kingma and Welling, 2019, arXiv 1906.02691, section 2.5.1.

    >>> FullGaussian()(torch.zeros(5, 9), (3,)).event_shape
    torch.Size([3])
    """

    kind: Literal["full_gaussian"] = "full_gaussian"

    family = td.MultivariateNormal
    accepts = ()

    def features(self, event_shape: Shape) -> int:
        size = math.prod(event_shape)
        return 2 * size + size * (size - 1) // 2

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        # features = s (s + 3) / 2
        size = (math.isqrt(9 + 8 * raw.shape[-1]) - 3) // 2 if event_shape is None else math.prod(event_shape)
        loc, log_diagonal, below = raw.split([size, size, size * (size - 1) // 2], -1)
        rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
        lower = raw.new_zeros(*raw.shape[:-1], size, size)
        lower[..., rows, columns] = below
        return {"loc": loc, "scale_tril": lower + torch.diag_embed(soft_bound(log_diagonal, 2).exp())}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return td.MultivariateNormal(**self.arguments(raw, event_shape), validate_args=False)

    def initial_parameters(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        below = x.new_zeros(x.shape[1] * (x.shape[1] - 1) // 2)
        return torch.cat([x.mean(0), x.std(0, correction=0).clamp_min(1e-4).log(), below])
