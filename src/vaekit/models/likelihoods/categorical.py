"""Likelihood families over levels."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models import distributions as own
from vaekit.models.families import LikelihoodHead
from vaekit.models.likelihoods.initialisation import counts_of_levels
from vaekit.models.parameters import Shape, unpack
from vaekit.spec import spec


class OverLevels(LikelihoodHead):
    """A family over the levels 0, ..., levels-1 of each dimension. Abstract.

    Attributes:
        levels: Their number, which must be the data's.
    """

    levels: int
    accepts = ("levels", "binary")
    integers = True

    @property
    def levels_of_x(self) -> int:
        return self.levels


@spec
class Categorical(OverLevels):
    """Categorical over the levels 0, ..., levels-1 of each dimension (the tutorial's formulation 1).

    The network gives `levels` logits for each dimension.

    Args:
        levels: Of the data.

    Example:
        >>> Categorical(17)(torch.zeros(5, 64 * 17)).event_shape
        torch.Size([64])
    """

    levels: Annotated[int, Field(ge=2)]
    kind: Literal["categorical"] = "categorical"

    gives_logits = True

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) * self.levels

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        dims = 1 if event_shape is None else len(event_shape)
        return own.Categorical(unpack(raw, self.levels, event_shape), -dims - 1)

    def initial_parameters(self, x: Tensor) -> Tensor:
        return ((counts_of_levels(x, self.levels) + 1) / (len(x) + self.levels)).log().flatten()
