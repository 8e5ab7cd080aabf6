"""A hierarchical VAE over sequences, images and volumes: a vector, then maps of latents at rising resolutions."""

import itertools
import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.conditional import Conditional
from vaekit.models.families import LikelihoodFamily, PosteriorFamily
from vaekit.models.hierarchical.model import HierarchicalVAE
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.networks.context import with_context
from vaekit.models.networks.convolutional import (
    EVENT_DIMS,
    Convolution,
    Residual,
    Upwards,
    channels_last,
    convolution_over,
    stage_sizes,
)
from vaekit.models.networks.mlp import Activation, Linear, Width, Widths, non_linearity
from vaekit.models.networks.precision import run_network
from vaekit.models.parameters import Shape
from vaekit.models.priors import Prior
from vaekit.spec import Several, spec
from vaekit.words import counted

Counts = Annotated[Several[Annotated[int, Field(ge=0, le=64)]], Field(min_length=1)]


@spec
class SpatialHierarchy:
    """A hierarchy of spatial latents: the first group is a vector, the others are maps of rising resolution.

    Over sequences, images and volumes, whose sides each stage halves, as in `Conv`. Bottom-up, a convolution with
    stride 2 and residual blocks; top-down, each group's z is added to the state, and residual blocks follow.

    Args:
        latent: Dimensions of the first group.
        channels: Of each stage, from x inwards.
        groups: How many groups of latents each stage has, from x inwards.
        depth: Channels of each map of latents.
        blocks: Residual blocks at each stage bottom-up, and after each group top-down.
        hidden: Width of the fully connected layers between the innermost stage and the vector.
        activation: The non-linearity between layers.
        residual: See `DenseHierarchy`.
    """

    latent: Width = 20
    channels: Annotated[Widths, Field(min_length=1)] = (16, 32)
    groups: Counts = (1, 2)
    depth: Width = 2
    blocks: Annotated[int, Field(ge=1, le=64)] = 1
    hidden: Width = 256
    activation: Activation = "silu"
    residual: bool = True
    kind: Literal["spatial"] = "spatial"

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.channels):
            raise SpecError(
                f"groups is {self.groups} and channels {self.channels}: give one number for each stage in both",
                field="groups",
                value=self.groups,
            )
        if sum(self.groups) == 0:
            raise SpecError(
                "groups are all 0: a hierarchical VAE has at least one group below the first",
                field="groups",
                value=self.groups,
            )

    @property
    def summary(self) -> str:
        """The groups in a few words."""
        return f"{counted(self.latent, 'latent')} and {sum(self.groups)} maps of {self.depth}"

    def build(
        self, posterior: PosteriorFamily, prior: Prior, likelihood: LikelihoodFamily, ctx: BuildContext
    ) -> HierarchicalVAE:
        """The hierarchical VAE with these families, over sequences, images or volumes of `ctx.data_shape`.

        Raises:
            SpecError: x is none of these.
        """
        shape, context = ctx.data_shape, ctx.context_size
        if len(shape) == 1:
            raise SpecError(
                f"a spatial hierarchy is over sequences, images and volumes, and x has shape {shape}: use "
                "DenseHierarchy",
                field="BuildContext.data_shape",
                value=shape,
            )
        convolution = convolution_over(shape)
        sizes = stage_sizes(shape, len(self.channels))
        bottom_up = SpatialBottomUp(self, ctx.seen_shape, sizes, posterior.features((self.latent,)), context)
        q = Conditional(bottom_up, posterior.build(ctx.over((self.latent,))), (self.latent,), ctx.transform)
        start, blocks = self._downwards(convolution, sizes, context, "decoder" in ctx.context_to)
        head = likelihood.build(ctx.over(shape))
        px = Conditional(ToValues(self, head.features(shape), shape), head, shape)
        above = replace(ctx.over((self.latent,)), posterior=q)
        return HierarchicalVAE(q, prior.build(self.latent, above), start, blocks, px)

    def stage(self, convolution: Convolution, channels: int) -> nn.Sequential:
        """Residual blocks; the more of them there are, the less each adds at first."""
        blocks = [Residual(convolution, channels, self.activation) for _ in range(self.blocks)]
        for block in blocks:
            block.shrink(math.sqrt(self.blocks * (len(self.channels) + sum(self.groups))))
        return nn.Sequential(*blocks)

    def _downwards(
        self, convolution: Convolution, sizes: list[Shape], context: int, conditioned: bool
    ) -> tuple[nn.Module, list[nn.Module]]:
        """From z_1 to the first state, and the groups below; what leads to the next resolution goes with them."""
        innermost = len(self.channels) - 1
        inner = (self.channels[-1], *sizes[-1])
        rising: list[nn.Module] = []  # what follows on the first state, or on the last group so far
        start, groups = rising, list[tuple[int, list[nn.Module]]]()
        for number in range(innermost, -1, -1):
            channels = self.channels[number]
            if number < innermost:
                rising.append(Upwards(convolution, self.channels[number + 1], channels, sizes[number + 1]))
            for _ in range(self.groups[number]):
                rising = [self.stage(convolution, channels)]
                groups.append((channels, rising))

        def from_vector(shape: Shape) -> nn.Module:
            act = non_linearity(self.activation)
            first = [Linear(shape[0], self.hidden), act, Linear(self.hidden, math.prod(inner))]
            return Leading(nn.Sequential(*first, nn.Unflatten(-1, inner), *start), 1)

        blocks: list[nn.Module] = [
            SpatialBlock(self, convolution, channels, nn.Sequential(*then)) for channels, then in groups
        ]
        return with_context(from_vector, (self.latent,), context, conditioned), blocks


class SpatialBottomUp(nn.Module):
    """The bottom-up network: see `model.BottomUp`.

    Args:
        net: The hierarchy.
        shape: Of what it sees of one row of x.
        sizes: Sides of x and of each stage.
        features: Raw numbers of q(z_1|x).
        context: Numbers of context; 0 for none.
    """

    def __init__(self, net: SpatialHierarchy, shape: Shape, sizes: list[Shape], features: int, context: int):
        super().__init__()
        self.groups, convolution = net.groups, convolution_over(shape)

        def outermost(shape: Shape) -> nn.Module:
            first = convolution(shape[0], net.channels[0], 3, 2, 1)
            return nn.Sequential(first, net.stage(convolution, net.channels[0]))

        deeper = [
            nn.Sequential(
                non_linearity(net.activation),
                convolution(fan_in, fan_out, 3, 2, 1),
                net.stage(convolution, fan_out),
            )
            for fan_in, fan_out in itertools.pairwise(net.channels)
        ]
        self.stages = nn.ModuleList([with_context(outermost, shape, context), *deeper])
        act, flat = non_linearity(net.activation), net.channels[-1] * math.prod(sizes[-1])
        self.top = nn.Sequential(act, nn.Flatten(), Linear(flat, net.hidden), act, Linear(net.hidden, features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.everything(x, context)[0]

    def everything(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        first, *others = self.stages
        found = [run_network(first, x, *(() if context is None else (context,)))]
        for stage in others:
            found.append(run_network(stage, found[-1]))
        features = [of_stage for of_stage, count in zip(found, self.groups, strict=True) for _ in range(count)]
        return run_network(self.top, found[-1]), *features[::-1]


class SpatialBlock(nn.Module):
    """A group of spatial latents: see `model.LatentBlock`.

    The state and the features are (..., channels, *sides).

    Args:
        net: The hierarchy.
        convolution: The class of convolutions over x.
        channels: Of the state.
        then: What the merged state goes through.
    """

    def __init__(self, net: SpatialHierarchy, convolution: Convolution, channels: int, then: nn.Module):
        super().__init__()
        self.residual, self.dims = net.residual, EVENT_DIMS[convolution]
        self.of_prior = Leading(_reader(net, convolution, channels), self.dims)
        self.of_features = convolution(channels, channels, 3, padding=1)
        self.of_state = Leading(convolution(channels, channels, 3, padding=1, bias=False), self.dims)
        self.of_both = Leading(_reader(net, convolution, channels), self.dims)
        self.of_z = Leading(convolution(net.depth, channels, 1), self.dims)
        self.then = Leading(then, self.dims)

    def prior(self, state: Tensor) -> Distribution:
        return _maps(run_network(self.of_prior, state), self.dims)

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        raw_p, raw_q = run_network(self.of_prior, state), run_network(self._posterior_numbers, features, state)
        return _maps(raw_p + raw_q if self.residual else raw_q, self.dims), _maps(raw_p, self.dims)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return run_network(self._merged, state, z)

    def _posterior_numbers(self, features: Tensor, state: Tensor) -> Tensor:
        return self.of_both(self.of_features(features) + self.of_state(state))

    def _merged(self, state: Tensor, z: Tensor) -> Tensor:
        return self.then(state + self.of_z(z))


class ToValues(nn.Module):
    """From the last state, (..., channels, *sides), to the raw numbers of p(x|z), each value of x with its bias.

    Args:
        net: The hierarchy.
        features: Raw numbers of p(x|z).
        shape: Of one row of x.
    """

    def __init__(self, net: SpatialHierarchy, features: int, shape: Shape):
        super().__init__()
        size, act = shape[1:], non_linearity(net.activation)
        last = Upwards(convolution_over(shape), net.channels[0], features // math.prod(size), size, bias=False)
        self.layers = Leading(nn.Sequential(act, last, nn.Flatten()), len(shape))
        self.output_bias = nn.Parameter(torch.zeros(features))

    def forward(self, state: Tensor) -> Tensor:
        return self.layers(state) + self.output_bias


class Leading(nn.Module):
    """A network over (n, ...) for any number of leading dimensions.

    Args:
        network: From (n, ...) to (n, ...).
        dims: The other dimensions of its input.
    """

    def __init__(self, network: nn.Module, dims: int):
        super().__init__()
        self.network, self.dims = network, dims

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: -self.dims]
        y = channels_last(self.network(x.reshape(math.prod(lead), *x.shape[-self.dims :])))
        return y.reshape(*lead, *y.shape[1:])


def _reader(net: SpatialHierarchy, convolution: Convolution, channels: int) -> nn.Module:
    return nn.Sequential(non_linearity(net.activation), convolution(channels, 2 * net.depth, 3, padding=1))


def _maps(raw: Tensor, dims: int) -> Distribution:
    """Gaussians over maps, from (..., 2 depth, *sides), whose last `dims` dimensions are one event."""
    return Gaussian()(raw.flatten(-dims), (raw.shape[-dims] // 2, *raw.shape[1 - dims :]))
