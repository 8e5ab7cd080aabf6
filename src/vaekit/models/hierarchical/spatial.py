"""A hierarchical VAE over images: a vector at the top, maps of latents at rising resolutions below it."""

import itertools
import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.conditional import Conditional
from vaekit.models.families import LikelihoodFamily, PosteriorFamily
from vaekit.models.hierarchical.model import HierarchicalVAE
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.networks.context import with_context
from vaekit.models.networks.convolutional import Residual, Upwards, channels_last, stage_sizes
from vaekit.models.networks.mlp import Activation, Linear, Width, Widths, non_linearity
from vaekit.models.networks.precision import run_network
from vaekit.models.parameters import Shape
from vaekit.models.priors import Prior
from vaekit.spec import Several, spec

Counts = Annotated[Several[Annotated[int, Field(ge=0, le=64)]], Field(min_length=1)]


@spec
class SpatialHierarchy:
    """A hierarchy of spatial latents: the first group is a vector, the others are maps of rising resolution.

    Each stage halves the image, as in `Conv`. Bottom-up, a convolution with stride 2 and residual blocks; top-down,
    each group's z is added to the state, and residual blocks follow.

    Args:
        latent: Dimensions of the first group.
        channels: Of each stage, from the image inwards.
        groups: How many groups of latents each stage has, from the image inwards.
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
            raise ValueError(
                f"groups is {self.groups} and channels {self.channels}: give one number for each stage in both"
            )
        if sum(self.groups) == 0:
            raise ValueError("groups are all 0: a hierarchical VAE has at least one group below the first")

    @property
    def summary(self) -> str:
        """The groups in a few words."""
        return f"{self.latent} latents and {sum(self.groups)} maps of {self.depth}"

    def build(
        self, posterior: PosteriorFamily, prior: Prior, likelihood: LikelihoodFamily, ctx: BuildContext
    ) -> HierarchicalVAE:
        """The hierarchical VAE with these families, over images of `ctx.data_shape`.

        Raises:
            ValueError: x is no image.
        """
        shape, context = ctx.data_shape, ctx.context_size
        if len(shape) != 3:
            raise ValueError(f"a spatial hierarchy is over images, and x has shape {shape}: use DenseHierarchy")
        sizes = stage_sizes(shape, len(self.channels))
        bottom_up = SpatialBottomUp(self, shape, sizes, posterior.features((self.latent,)), context)
        q = Conditional(bottom_up, posterior, (self.latent,), ctx.transform)
        start, blocks = self._downwards(sizes, context)
        px = Conditional(ToPixels(self, likelihood.features(shape), shape), likelihood, shape)
        return HierarchicalVAE(q, prior.build(self.latent, replace(ctx, posterior=q)), start, blocks, px)

    def stage(self, channels: int) -> nn.Sequential:
        """Residual blocks; the more of them there are, the less each adds at first."""
        blocks = [Residual(nn.Conv2d, channels, self.activation) for _ in range(self.blocks)]
        for block in blocks:
            block.shrink(math.sqrt(self.blocks * (len(self.channels) + sum(self.groups))))
        return nn.Sequential(*blocks)

    def _downwards(self, sizes: list[Shape], context: int) -> tuple[nn.Module, list[nn.Module]]:
        """From z_1 to the first state, and the groups below; what leads to the next resolution goes with them."""
        innermost = len(self.channels) - 1
        inner = (self.channels[-1], *sizes[-1])
        rising: list[nn.Module] = []  # what follows on the first state, or on the last group so far
        start, groups = rising, list[tuple[int, list[nn.Module]]]()
        for number in range(innermost, -1, -1):
            channels = self.channels[number]
            if number < innermost:
                rising.append(Upwards(nn.Conv2d, self.channels[number + 1], channels, sizes[number + 1]))
            for _ in range(self.groups[number]):
                rising = [self.stage(channels)]
                groups.append((channels, rising))

        def from_vector(shape: Shape) -> nn.Module:
            act = non_linearity(self.activation)
            first = [Linear(shape[0], self.hidden), act, Linear(self.hidden, math.prod(inner))]
            return Leading(nn.Sequential(*first, nn.Unflatten(-1, inner), *start), 1)

        blocks: list[nn.Module] = [SpatialBlock(self, channels, nn.Sequential(*then)) for channels, then in groups]
        return with_context(from_vector, (self.latent,), context), blocks


class SpatialBottomUp(nn.Module):
    """The bottom-up network: see `model.BottomUp`.

    Args:
        net: The hierarchy.
        shape: Of one row of x.
        sizes: Height and width of the image and of each stage.
        features: Raw numbers of q(z_1|x).
        context: Numbers of context; 0 for none.
    """

    def __init__(self, net: SpatialHierarchy, shape: Shape, sizes: list[Shape], features: int, context: int):
        super().__init__()
        self.groups = net.groups

        def outermost(shape: Shape) -> nn.Module:
            return nn.Sequential(nn.Conv2d(shape[0], net.channels[0], 3, 2, 1), net.stage(net.channels[0]))

        deeper = [
            nn.Sequential(non_linearity(net.activation), nn.Conv2d(fan_in, fan_out, 3, 2, 1), net.stage(fan_out))
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

    The state and the features are (..., channels, height, width).

    Args:
        net: The hierarchy.
        channels: Of the state.
        then: What the merged state goes through.
    """

    def __init__(self, net: SpatialHierarchy, channels: int, then: nn.Module):
        super().__init__()
        self.residual = net.residual
        self.of_prior = Leading(self._reader(net, channels), 3)
        self.of_features = nn.Conv2d(channels, channels, 3, padding=1)
        self.of_state = Leading(nn.Conv2d(channels, channels, 3, padding=1, bias=False), 3)
        self.of_both = Leading(self._reader(net, channels), 3)
        self.of_z = Leading(nn.Conv2d(net.depth, channels, 1), 3)
        self.then = Leading(then, 3)

    def prior(self, state: Tensor) -> Distribution:
        return _maps(run_network(self.of_prior, state))

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        raw_p, raw_q = run_network(self.of_prior, state), run_network(self._posterior_numbers, features, state)
        return _maps(raw_p + raw_q if self.residual else raw_q), _maps(raw_p)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return run_network(self._merged, state, z)

    def _posterior_numbers(self, features: Tensor, state: Tensor) -> Tensor:
        return self.of_both(self.of_features(features) + self.of_state(state))

    def _merged(self, state: Tensor, z: Tensor) -> Tensor:
        return self.then(state + self.of_z(z))

    def _reader(self, net: SpatialHierarchy, channels: int) -> nn.Module:
        return nn.Sequential(non_linearity(net.activation), nn.Conv2d(channels, 2 * net.depth, 3, padding=1))


class ToPixels(nn.Module):
    """From the last state, (..., channels, height, width), to the raw numbers of p(x|z), each pixel with its bias.

    Args:
        net: The hierarchy.
        features: Raw numbers of p(x|z).
        image: Shape of one row of x.
    """

    def __init__(self, net: SpatialHierarchy, features: int, image: Shape):
        super().__init__()
        size, act = image[1:], non_linearity(net.activation)
        last = Upwards(nn.Conv2d, net.channels[0], features // math.prod(size), size, bias=False)
        self.layers = Leading(nn.Sequential(act, last, nn.Flatten()), 3)
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


def _maps(raw: Tensor) -> Distribution:
    """Gaussians over maps, from (..., 2 depth, height, width)."""
    return Gaussian()(raw.flatten(-3), (raw.shape[-3] // 2, *raw.shape[-2:]))
