"""Sampling z from a normalising flow fitted to codes."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td

from vaekit.models.building import ALONE, BuildContext
from vaekit.models.distributions.transformed import Transformed, zuko
from vaekit.models.networks.flow import FlowNetwork, Kind, Transforms, Widths
from vaekit.randomness import Purpose, new_generator
from vaekit.samplers.fitting import fit_network, seeded
from vaekit.spec import spec


class StandardisedFlow(nn.Module):
    """A flow over (z - loc) / scale."""

    loc: Tensor
    scale: Tensor

    def __init__(self, flow: FlowNetwork, size: int):
        super().__init__()
        self.flow = flow
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self) -> Transformed:
        inner = self.flow()
        standardise = td.AffineTransform(-self.loc / self.scale, 1 / self.scale, event_dim=1)
        return Transformed(zuko().transforms.ComposedTransform(standardise, inner.to_noise), inner.base)


@spec
class FromFlow:
    """z from a normalising flow fitted to codes of the training rows (draws of q(z|x)) by maximum likelihood.

    Args:
        flow: See `vaekit.priors.Flow`.
        transforms: See `vaekit.priors.Flow`.
        hidden: See `vaekit.priors.Flow`.
        steps: Updates of its weights, of 256 codes each.
    """

    flow: Kind = "autoregressive"
    transforms: Transforms = 3
    hidden: Widths = (64, 64)
    steps: Annotated[int, Field(ge=1)] = 2000
    kind: Literal["flow"] = "flow"

    over = ("real",)

    def __str__(self) -> str:
        return f"a flow ({self.flow}) fitted to the training codes after training"

    def build(self, context: BuildContext) -> StandardisedFlow:
        """The untrained flow over z of `context.event_shape`."""
        size = math.prod(context.event_shape)
        return StandardisedFlow(FlowNetwork(self.flow, size, self.transforms, self.hidden), size)

    def fit(self, codes: Tensor, seed: int = 0) -> StandardisedFlow:
        """The flow of a high likelihood for codes (n, size), on the CPU."""
        codes = codes.float().cpu()
        with seeded(new_generator(seed, Purpose.SAMPLER_FLOW)):
            fitted = self.build(ALONE.over(codes.shape[1:]))
        fitted.loc.copy_(codes.mean(0))
        fitted.scale.copy_(codes.std(0).clamp_min(1e-6))

        def loss(index: Tensor) -> Tensor:
            return -fitted().log_prob(codes[index]).mean()

        fit_network(fitted, loss, len(codes), steps=self.steps, generator=new_generator(seed, Purpose.SAMPLER_ORDER))
        return fitted.requires_grad_(False)
