"""Priors: modules whose call returns p(z). A spec says `over` which supports of z it can be."""

from typing import Literal

from torch import nn

from vaekit.models.networks.flow import FlowNetwork, Kind, Transforms, Widths
from vaekit.models.parameters import Shape
from vaekit.spec import spec


@spec
class Flow:
    """A learned normalising flow (Rezende and Mohamed, 2015, arXiv 1505.05770), trained by its density.

    Args:
        flow: autoregressive (MAF), fast to score and slow to sample; coupling (RealNVP) and spline (NSF), fast in both.
        transforms: steps of the flow.
        hidden: widths of each step's network.
    """

    flow: Kind = "coupling"
    transforms: Transforms = 3
    hidden: Widths = (64, 64)
    kind: Literal["flow"] = "flow"

    over = ("real",)

    def build(
        self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0
    ) -> FlowNetwork:
        return FlowNetwork(self.flow, size, self.transforms, self.hidden, context)
