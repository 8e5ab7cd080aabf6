"""The multinomial likelihood of rows whose total is given: ratings, words, clicks."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.distributions.multinomial import Multinomial as MultinomialByLogits
from vaekit.models.families import FittedHead, LikelihoodFamily
from vaekit.models.parameters import Shape, parameters
from vaekit.spec import spec

HALF = 0.5  # a count, in a column without any, so that its share is above 0


@spec
class Multinomial(LikelihoodFamily):
    """Multinomial: each count of a row is one of n draws, with n the row's total; the network gives logits.

    p(x|z) is that of x given its total, which nothing models. Samples have the mean total of the training rows. Where
    each draw goes depends on all values, so that none of them can be missing.

    Source: Liang et al., 2018, arXiv 1802.05814.

    Example:
        >>> head = Multinomial().build(BuildContext(event_shape=(3,)))
        >>> head(torch.zeros(3)).log_prob(torch.tensor([2.0, 0.0, 1.0])).exp()
        tensor(0.1111)
    """

    kind: Literal["multinomial"] = "multinomial"

    accepts = ("count", "binary")
    integers = True

    def ties_cells(self, event_shape: Shape) -> bool:
        return True

    def build(self, context: BuildContext) -> "MultinomialHead":
        if math.prod(context.event_shape) < 2:
            raise SpecError(
                "multinomial divides a total among values, and a row has one: use negative_binomial",
                field="BuildContext.event_shape",
                value=context.event_shape,
            )
        return MultinomialHead()


class MultinomialHead(nn.Module, FittedHead):
    """The head of `Multinomial`.

    Attributes:
        total: Of a sample; 1 until it is measured.
    """

    accepts = Multinomial.accepts
    integers = True
    total: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.ones(()))

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        (logits,) = parameters(raw, 1, event_shape)
        return MultinomialByLogits(logits, self.total, 1 if event_shape is None else len(event_shape))

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take the total of a sample from rows x (n, *event)."""
        self.total.copy_((x.sum(dtype=torch.float64) / len(x)).round().clamp_min(1))

    def initial_parameters(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(0, dtype=torch.float64).clamp_min(HALF).log()
