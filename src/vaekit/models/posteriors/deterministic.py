"""Posteriors beyond the diagonal Gaussian: heads, so that q(z|x) is `Conditional(network, head)` like any other."""

from typing import Literal

from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions.delta import Delta
from vaekit.models.families import Head
from vaekit.models.parameters import Shape
from vaekit.spec import spec


@spec
class Deterministic(Head):
    """A single z for each x, without noise: the encoder of an autoencoder.

    A point has no density, so there is no lower bound on ln p(x): with it `Elbo` is E ln p(x|z) + beta ln p(z), and
    `evaluate` reports neither an ELBO nor a log-likelihood.

    >>> Deterministic()(torch.ones(5, 3)).mean.shape
    torch.Size([5, 3])
    """

    kind: Literal["deterministic"] = "deterministic"

    family = Delta
    accepts = ()

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"loc": raw}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return Delta(**self.arguments(raw, event_shape))

    def initial_parameters(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(0)
