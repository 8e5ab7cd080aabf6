"""Posteriors beyond the diagonal Gaussian: heads, so that q(z|x) is `Conditional(network, head)` like any other."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.discrete import BernoulliPosterior, CategoricalPosterior
from vaekit.models.distributions import Delta
from vaekit.models.families import Gaussian, Head, Shape, soft_bound
from vaekit.models.flows import FlowNetwork, Kind, Transforms, Widths
from vaekit.models.planar import Planar, Radial
from vaekit.models.quantised import FsqPosterior, VqPosterior
from vaekit.models.sphere import PowerSpherical, VonMisesFisher
from vaekit.spec import by_kind, spec


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

    def start(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        below = x.new_zeros(x.shape[1] * (x.shape[1] - 1) // 2)
        return torch.cat([x.mean(0), x.std(0, correction=0).clamp_min(1e-4).log(), below])


@spec
class FlowPosterior(Head):
    """A normalising flow whose every step sees what the encoder says of x.

    Args:
        flow: autoregressive is the inverse autoregressive flow (IAF: Kingma et al., 2016, arXiv 1606.04934), fast to
            draw from; coupling and spline are fast to score elsewhere, too.
        transforms: steps of the flow.
        hidden: widths of each step's network.
        context: numbers that the encoder gives the flow.
    """

    flow: Kind = "autoregressive"
    transforms: Transforms = 2
    hidden: Widths = (128,)
    context: Annotated[int, Field(ge=1, le=65536)] = 64
    kind: Literal["flow"] = "flow"

    accepts = ()

    def features(self, event_shape: Shape) -> int:
        return self.context

    def build(self, event_shape: Shape) -> "FlowHead":
        return FlowHead(self, math.prod(event_shape))

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        raise TypeError("a flow has weights: call .build(event_shape) and use what it returns")

    def start(self, x: Tensor) -> Tensor:
        raise TypeError("a flow posterior has no start from the data")


class FlowHead(nn.Module, Head):
    """What `FlowPosterior` builds."""

    accepts = ()

    def __init__(self, flow: FlowPosterior, size: int):
        super().__init__()
        self.network = FlowNetwork(flow.flow, size, flow.transforms, flow.hidden, flow.context, inverse=True)

    arguments = FlowPosterior.arguments
    start = FlowPosterior.start

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return self.network(raw)


@spec
class Point(Head):
    """A single z for each x, without noise: the encoder of an autoencoder.

    A point has no density, so there is no lower bound on ln p(x): with it `Elbo` is E ln p(x|z) + beta ln p(z), and
    `evaluate` reports neither an ELBO nor a log-likelihood.

    >>> Point()(torch.ones(5, 3)).mean.shape
    torch.Size([5, 3])
    """

    kind: Literal["point"] = "point"

    family = Delta
    accepts = ()

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"loc": raw}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return Delta(**self.arguments(raw, event_shape))

    def start(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(0)


Posterior = Annotated[
    Gaussian
    | FullGaussian
    | FlowPosterior
    | Planar
    | Radial
    | VonMisesFisher
    | PowerSpherical
    | Point
    | CategoricalPosterior
    | BernoulliPosterior
    | VqPosterior
    | FsqPosterior,
    Field(discriminator="kind"),
    by_kind,
]
