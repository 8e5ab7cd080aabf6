"""The flow posterior: a normalising flow given the encoder's numbers."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.networks.flow import FlowNetwork, Kind, Transforms, Widths
from vaekit.models.parameters import Shape
from vaekit.spec import spec


@spec
class FlowPosterior(PosteriorFamily):
    """A normalising flow whose every step is conditioned on numbers of the encoder.

    Args:
        flow: Autoregressive is the inverse autoregressive flow (IAF: Kingma et al., 2016, arXiv 1606.04934), fast to
            draw from; coupling and spline are fast to score elsewhere, too.
        transforms: Steps of the flow.
        hidden: Widths of each step's network.
        context: Numbers that the encoder gives the flow.
    """

    flow: Kind = "autoregressive"
    transforms: Transforms = 2
    hidden: Widths = (128,)
    context: Annotated[int, Field(ge=1, le=65536)] = 64
    kind: Literal["flow"] = "flow"

    def features(self, event_shape: Shape) -> int:
        return self.context

    def build(self, context: BuildContext) -> "FlowHead":
        return FlowHead(self, math.prod(context.event_shape))


class FlowHead(nn.Module, Head):
    """The head of `FlowPosterior`, with the flow's weights.

    Args:
        flow: Its settings.
        size: Dimensions of z.
    """

    def __init__(self, flow: FlowPosterior, size: int):
        super().__init__()
        self.context = flow.context
        self.network = FlowNetwork(flow.flow, size, flow.transforms, flow.hidden, flow.context, inverse=True)

    def features(self, event_shape: Shape) -> int:
        return self.context

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return self.network(raw)
