"""Families over levels."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models import distributions as own
from vaekit.models.distributions.base import independent
from vaekit.models.families import Head
from vaekit.models.likelihoods.initialisation import counts_of_levels
from vaekit.models.parameters import Shape, unpack
from vaekit.spec import spec


class OverLevels(Head):
    """A family over the levels 0, ..., levels-1 of each dimension; `levels` must be the data's. Abstract."""

    levels: int
    accepts = ("levels", "binary")
    integers = True


@spec
class Categorical(OverLevels):
    """Categorical over the levels 0, ..., levels-1 of each dimension (the tutorial's formulation 1).

    The network gives `levels` logits for each dimension.

    >>> Categorical(17)(torch.zeros(5, 64 * 17)).event_shape
    torch.Size([64])
    """

    levels: Annotated[int, Field(ge=2)]
    kind: Literal["categorical"] = "categorical"

    family = own.Categorical

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) * self.levels

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        """`logits`, (..., levels, *event)."""
        return {"logits": unpack(raw, self.levels, event_shape)}

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        dims = 1 if event_shape is None else len(event_shape)
        return independent(own.Categorical(self.arguments(raw, event_shape)["logits"], -dims - 1), dims)

    def initial_parameters(self, x: Tensor) -> Tensor:
        return ((counts_of_levels(x, self.levels) + 1) / (len(x) + self.levels)).log().flatten()
