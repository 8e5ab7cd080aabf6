"""Posteriors beyond the diagonal Gaussian: heads, so that q(z|x) is `Conditional(network, head)` like any other."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.families import Head
from vaekit.models.networks.flow import FlowNetwork, Kind, Transforms, Widths
from vaekit.models.parameters import Shape
from vaekit.spec import spec


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

    def initial_parameters(self, x: Tensor) -> Tensor:
        raise TypeError("a flow posterior has no start from the data")


class FlowHead(nn.Module, Head):
    """What `FlowPosterior` builds."""

    accepts = ()

    def __init__(self, flow: FlowPosterior, size: int):
        super().__init__()
        self.network = FlowNetwork(flow.flow, size, flow.transforms, flow.hidden, flow.context, inverse=True)

    arguments = FlowPosterior.arguments
    initial_parameters = FlowPosterior.initial_parameters

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return self.network(raw)
