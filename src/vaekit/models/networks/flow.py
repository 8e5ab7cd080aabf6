"""Normalising flows, built by zuko."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td

from vaekit.errors import SpecError
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.transformed import Transformed, zuko
from vaekit.spec import Several

Kind = Literal["autoregressive", "coupling", "spline"]

Transforms = Annotated[int, Field(ge=1, le=64)]

Widths = Annotated[Several[Annotated[int, Field(ge=1, le=4096)]], Field(max_length=16)]


class FlowNetwork(nn.Module):
    """A flow over z in R^size: called with nothing, or with a context (..., context), it returns a distribution.

    Args:
        flow: "autoregressive", masked and affine (MAF: Papamakarios et al., 2017, arXiv 1705.07057), fast to score and
            slow to draw from; "coupling", affine (RealNVP: Dinh et al., 2017, arXiv 1605.08803), fast in both;
            "spline", rational-quadratic couplings (NSF: Durkan et al., 2019, arXiv 1906.04032).
        size: Dimensions of z.
        transforms: Steps of the flow.
        hidden: Widths of each step's network.
        context: Numbers of context; 0 for none.
        inverse: Invert an autoregressive flow, so that its draws are fast and its densities elsewhere slow.

    Raises:
        SpecError: There are fewer than two dimensions.
    """

    zeros: Tensor

    def __init__(
        self, flow: Kind, size: int, transforms: int, hidden: tuple[int, ...], context: int = 0, inverse: bool = False
    ):
        super().__init__()
        if size < 2:
            raise SpecError(
                f"a flow transforms dimensions of z by one another, and there is {size}: use more, or a "
                "Mixture prior and a Gaussian posterior",
                field="size",
                value=size,
            )
        flows: Any = zuko().flows
        settings: dict[str, Any] = {"context": context, "transforms": transforms, "hidden_features": list(hidden)}
        if flow != "autoregressive":
            settings["passes"] = 2  # of two halves, each transformed by the other
        make = flows.NSF if flow == "spline" else flows.MAF
        with torch.device("cpu"):  # zuko reads its masks while it builds, which those on "meta" do not allow
            self.to_noise = make(size, **settings).transform
        self.is_conditional, self.inverse = context > 0, inverse and flow == "autoregressive"
        self.register_buffer("zeros", torch.zeros(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Transformed:
        context = context if self.is_conditional else None
        to_noise = self.to_noise(context)
        loc = self.zeros if context is None else self.zeros.expand(*context.shape[:-1], -1)
        base = independent(td.Normal(loc, torch.ones_like(loc), validate_args=False), 1)
        return Transformed(to_noise.inv if self.inverse else to_noise, base)
