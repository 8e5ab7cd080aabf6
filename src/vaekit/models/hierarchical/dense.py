"""A hierarchical VAE whose groups are vectors: fully connected layers lead from one group to the next."""

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.conditional import Conditional
from vaekit.models.families import LikelihoodFamily, PosteriorFamily
from vaekit.models.hierarchical.model import HierarchicalVAE
from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.networks.context import with_context
from vaekit.models.networks.mlp import Activation, Linear, Mlp, Widths, hidden_layers, non_linearity
from vaekit.models.networks.precision import run_network
from vaekit.models.parameters import Shape
from vaekit.models.priors import Prior
from vaekit.spec import Several, spec

Sizes = Annotated[Several[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=64)]


@spec
class DenseHierarchy:
    """A hierarchy of dense latents: each group is a vector.

    Upwards, x goes through `widths`, and again for each further group; downwards, the state, a vector of the last of
    `widths` numbers, goes through `widths` together with each z.

    Args:
        latent: Dimensions of each group, from the top down.
        widths: Hidden layers from one group to the next.
        activation: See `Mlp`.
        residual: The encoder's numbers are added to the raw numbers of p(z_l | z above), so q is p at initialisation
            (Vahdat and Kautz, 2020, arXiv 2007.03898, section 3.2).
    """

    latent: Sizes = (40, 40)
    widths: Annotated[Widths, Field(min_length=1)] = (300, 300)
    activation: Activation | Literal["gated"] = "gated"
    residual: bool = True
    kind: Literal["dense"] = "dense"

    @property
    def summary(self) -> str:
        """The groups in a few words."""
        return f"{' + '.join(map(str, self.latent))} latents"

    def build(
        self, posterior: PosteriorFamily, prior: Prior, likelihood: LikelihoodFamily, ctx: BuildContext
    ) -> HierarchicalVAE:
        """The hierarchical VAE with these families, over x of `ctx.data_shape`."""
        shape, context = ctx.data_shape, ctx.context_size
        first, *others = self.latent
        bottom_up = DenseBottomUp(self, ctx.seen_shape, posterior.features((first,)), context)
        q = Conditional(bottom_up, posterior.build(ctx.over((first,))), (first,), ctx.transform)
        start = with_context(lambda shape: self.layers(shape[0]), (first,), context, "decoder" in ctx.context_to)
        blocks = [DenseBlock(self, size) for size in others]
        head = likelihood.build(ctx.over(shape))
        px = Conditional(Mlp(()).build((self.widths[-1],), head.features(shape), shape), head, shape)
        above = replace(ctx.over((first,)), posterior=q)
        return HierarchicalVAE(q, prior.build(first, above), start, blocks, px)

    def layers(self, fan_in: int) -> nn.Sequential:
        """The hidden layers of one step."""
        return nn.Sequential(*hidden_layers((fan_in, *self.widths), self.activation))


class DenseBottomUp(nn.Module):
    """The bottom-up network: see `model.BottomUp`.

    Args:
        net: The hierarchy.
        shape: Of what it sees of one row of x.
        features: Raw numbers of q(z_1|x).
        context: Numbers of context; 0 for none.
    """

    def __init__(self, net: DenseHierarchy, shape: Shape, features: int, context: int):
        super().__init__()
        first = with_context(lambda shape: nn.Sequential(nn.Flatten(), net.layers(math.prod(shape))), shape, context)
        self.steps = nn.ModuleList([first, *(net.layers(net.widths[-1]) for _ in net.latent[1:])])
        self.top = Linear(net.widths[-1], features)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.everything(x, context)[0]

    def everything(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        first, *others = self.steps
        found = [run_network(first, x, *(() if context is None else (context,)))]
        for step in others:
            found.append(run_network(step, found[-1]))
        return run_network(self.top, found[-1]), *found[-2::-1]


class DenseBlock(nn.Module):
    """A group of dense latents: see `model.LatentBlock`. The state and the features are (..., width).

    Args:
        net: The hierarchy.
        size: Dimensions of the group.
    """

    def __init__(self, net: DenseHierarchy, size: int):
        super().__init__()
        width = net.widths[-1]
        self.residual = net.residual
        self.of_prior = Linear(width, 2 * size)
        self.joint = Joined(width, width, width, net.activation)
        self.of_posterior = Linear(width, 2 * size)
        self.merged = Joined(width, size, net.widths[0], net.activation)
        self.layers = nn.Sequential(*hidden_layers(net.widths, net.activation))

    def prior(self, state: Tensor) -> Distribution:
        return Gaussian()(run_network(self.of_prior, state))

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        raw_p, raw_q = run_network(self.of_prior, state), run_network(self._posterior_numbers, features, state)
        return Gaussian()(raw_p + raw_q if self.residual else raw_q), Gaussian()(raw_p)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return run_network(self._merged, state, z)

    def _posterior_numbers(self, features: Tensor, state: Tensor) -> Tensor:
        return self.of_posterior(self.joint(features, state))

    def _merged(self, state: Tensor, z: Tensor) -> Tensor:
        return self.layers(self.merged(state, z))


class Joined(nn.Module):
    """A fully connected layer over two inputs, of which one may lack the dimension of samples.

    Args:
        first: Numbers of the first input.
        second: Numbers of the second input.
        width: Numbers of the output.
        activation: See `Mlp`.
    """

    def __init__(self, first: int, second: int, width: int, activation: str):
        super().__init__()
        factor = 2 if activation == "gated" else 1
        self.of_first = Linear(first, factor * width)
        self.of_second = Linear(second, factor * width, bias=False)
        self.act = non_linearity(activation)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.act(self.of_first(first) + self.of_second(second))
