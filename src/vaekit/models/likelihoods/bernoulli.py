"""Families over {0, 1} and [0, 1]."""

from typing import Literal

from torch import Tensor

from vaekit.models import distributions as own
from vaekit.models.families import Head
from vaekit.models.parameters import Shape, parameters
from vaekit.spec import spec


@spec
class Bernoulli(Head):
    """Bernoulli on {0, 1}; the network gives logits, so no probability is ever clamped.

    >>> Bernoulli()(torch.zeros(5, 6)).log_prob(torch.ones(5, 6)).exp()[0].item()
    0.015625
    """

    kind: Literal["bernoulli"] = "bernoulli"

    family = own.Bernoulli
    accepts = ("binary",)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def initial_parameters(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class SoftBernoulli(Head):
    """Binary cross-entropy with soft labels in [0, 1]: a training score, not a log-likelihood.

    Its values cannot be compared with a log-likelihood; see `distributions.SoftBernoulli` for what it is.
    """

    kind: Literal["soft_bernoulli"] = "soft_bernoulli"

    family = own.SoftBernoulli
    accepts = ("unit", "binary")

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def initial_parameters(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class ContinuousBernoulli(Head):
    """Continuous Bernoulli on [0, 1]: the density whose unnormalised form is `SoftBernoulli`.

    Source: Loaiza-Ganem and Cunningham, 2019, arXiv 1907.06845.
    """

    kind: Literal["continuous_bernoulli"] = "continuous_bernoulli"

    family = own.ContinuousBernoulli
    accepts = ("unit",)

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        return {"logits": parameters(raw, 1, event_shape)[0]}

    def initial_parameters(self, x: Tensor) -> Tensor:
        return own.logits_of_mean(_smoothed_mean(x))


def _smoothed_mean(x: Tensor) -> Tensor:
    return ((x.sum(0) + 1) / (len(x) + 2)).flatten()
