"""The deterministic posterior: the encoder of an autoencoder."""

from typing import Literal

from torch import Tensor

from vaekit.models.distributions.delta import Delta
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.parameters import Shape
from vaekit.spec import spec


@spec
class Deterministic(PosteriorFamily, Head):
    """A single z for each x, without noise.

    A single z has no density, so there is no lower bound on ln p(x): with it `Elbo` is E ln p(x|z) + beta ln p(z), and
    `evaluate` reports neither an ELBO nor a log-likelihood.

    Example:
        >>> Deterministic()(torch.ones(5, 3)).mean.shape
        torch.Size([5, 3])
    """

    kind: Literal["deterministic"] = "deterministic"

    has_density = False
    has_score = False
    known_covariance = True

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Delta:
        return Delta(raw)
