"""The flow prior."""

from typing import Literal

from vaekit.models.building import ALONE, BuildContext
from vaekit.models.networks.flow import FlowNetwork, Kind, Transforms, Widths
from vaekit.spec import spec


@spec
class Flow:
    """A learned normalising flow (Rezende and Mohamed, 2015, arXiv 1505.05770), trained by its density.

    Args:
        flow: Autoregressive (MAF), fast to score and slow to sample; coupling (RealNVP) and spline (NSF), fast in both.
        transforms: Steps of the flow.
        hidden: Widths of each step's network.
    """

    flow: Kind = "coupling"
    transforms: Transforms = 3
    hidden: Widths = (64, 64)
    kind: Literal["flow"] = "flow"

    over = ("real",)
    is_conditional = True

    def build(self, size: int, ctx: BuildContext = ALONE) -> FlowNetwork:
        """The prior over z of `size` numbers."""
        return FlowNetwork(self.flow, size, self.transforms, self.hidden, ctx.context_of("prior"))
