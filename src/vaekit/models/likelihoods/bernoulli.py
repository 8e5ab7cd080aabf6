"""Likelihood families over {0, 1} and [0, 1]."""

from typing import Literal

from torch import Tensor
from torch.distributions import Distribution

from vaekit.models import distributions as own
from vaekit.models.families import LikelihoodHead
from vaekit.models.parameters import Shape, parameters
from vaekit.spec import spec


@spec
class Bernoulli(LikelihoodHead):
    """Bernoulli on {0, 1}; the network gives logits, so no probability is ever clamped.

    Example:
        >>> Bernoulli()(torch.zeros(5, 6)).log_prob(torch.ones(5, 6)).exp()[0].item()
        0.015625
    """

    kind: Literal["bernoulli"] = "bernoulli"

    accepts = ("binary",)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return own.Bernoulli(logits=parameters(raw, 1, event_shape)[0], validate_args=False)

    def initial_parameters(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class SoftBernoulli(LikelihoodHead):
    """Binary cross-entropy with soft labels in [0, 1]: a training score, not a log-likelihood.

    Its values cannot be compared with a log-likelihood; see `distributions.SoftBernoulli` for what it is.
    """

    kind: Literal["soft_bernoulli"] = "soft_bernoulli"

    accepts = ("unit", "binary")
    is_score = True

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return own.SoftBernoulli(logits=parameters(raw, 1, event_shape)[0])

    def initial_parameters(self, x: Tensor) -> Tensor:
        return _smoothed_mean(x).logit()


@spec
class ContinuousBernoulli(LikelihoodHead):
    """Continuous Bernoulli on [0, 1]: the density whose unnormalised form is `SoftBernoulli`.

    Source: Loaiza-Ganem and Cunningham, 2019, arXiv 1907.06845.
    """

    kind: Literal["continuous_bernoulli"] = "continuous_bernoulli"

    accepts = ("unit",)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return own.ContinuousBernoulli(logits=parameters(raw, 1, event_shape)[0])

    def initial_parameters(self, x: Tensor) -> Tensor:
        return own.logits_of_mean(_smoothed_mean(x))


def _smoothed_mean(x: Tensor) -> Tensor:
    return ((x.sum(0) + 1) / (len(x) + 2)).flatten()
