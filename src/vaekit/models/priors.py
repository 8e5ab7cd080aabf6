"""Priors: modules whose call returns p(z). A spec says `over` which supports of z it can be."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.models.code_priors import AutoregressiveCodes, FactorisedCodes, FactorisedPrior, space_of
from vaekit.models.conditional import Conditional
from vaekit.models.families import Gaussian, Shape, independent
from vaekit.models.flows import FlowNetwork, Kind, Transforms, Widths
from vaekit.models.mixtures import mixture
from vaekit.models.posteriors import Point
from vaekit.models.sphere import UniformSphere
from vaekit.spec import by_kind, spec

Components = Annotated[int, Field(ge=1, le=100_000)]


class StandardPrior(nn.Module):
    """N(0, I) over z in R^size."""

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Distribution:
        return independent(td.Normal(self.loc, self.scale, validate_args=False), 1)


@spec
class Standard:
    """The standard normal prior, N(0, I); for a discrete z, the uniform one over its codes. Whatever the context.

    >>> Standard().build(16)().event_shape
    torch.Size([16])
    """

    kind: Literal["standard"] = "standard"

    over = ("real", "discrete")

    def build(self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0) -> nn.Module:
        space = space_of(posterior)
        return StandardPrior(size) if space is None else FactorisedPrior(space, learned=False)


class Weights(nn.Module):
    """ln of the probabilities of a mixture's components, up to a constant; a context shifts each of them."""

    def __init__(self, components: int, context: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.of_context = nn.Linear(context, components, bias=False) if context else None

    def forward(self, context: Tensor | None) -> Tensor:
        return self.logits if self.of_context is None or context is None else self.logits + self.of_context(context)


class MixturePrior(nn.Module):
    def __init__(self, size: int, components: int, context: int = 0):
        super().__init__()
        spread = 0.5  # of the means; with the scales it makes the mixture's variance about 1
        self.loc = nn.Parameter(spread * torch.randn(components, size))
        self.log_variance = nn.Parameter(torch.full((components, size), math.log(1 - spread**2)))
        self.weights = Weights(components, context)

    def forward(self, context: Tensor | None = None) -> Distribution:
        components = Gaussian()(torch.cat([self.loc, self.log_variance], -1))
        return mixture(components, self.weights(context))


@spec
class Mixture:
    """A learned mixture of diagonal Gaussians; with a context, that says which of them are likely.

    Args:
        components: their number.

    >>> Mixture(components=10).build(2)().log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    components: Components = 100
    kind: Literal["mixture"] = "mixture"

    over = ("real",)

    def build(
        self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0
    ) -> MixturePrior:
        return MixturePrior(size, self.components, context)


class VampPrior(nn.Module):
    """posterior: q(z|x), whose own the prior does not become: its weights are the model's already."""

    def __init__(self, posterior: Conditional, in_shape: Shape, components: int, context: int):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *in_shape))
        self.contexts = nn.Parameter(torch.full((components, context), 1 / context)) if context else None
        self.weights = Weights(components, context)
        self.shared = (posterior,)

    def forward(self, context: Tensor | None = None) -> Distribution:
        (posterior,) = self.shared
        return self.of(posterior.raw(self.pseudo_inputs, self.contexts), context)

    def beside(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the encoder's network sees of a batch, and its context, with the pseudo-inputs and theirs after them."""
        joined = torch.cat([seen, self.pseudo_inputs])
        return joined, context if context is None or self.contexts is None else torch.cat([context, self.contexts])

    def of(self, raw: Tensor, context: Tensor | None) -> Distribution:
        """The prior, from the network's raw numbers for the pseudo-inputs."""
        (posterior,) = self.shared
        return mixture(posterior.of(raw), self.weights(context))

    @torch.no_grad()
    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set the pseudo-inputs to rows x (n, *data), and what goes with them to their context, over and over where
        they are fewer."""
        (posterior,) = self.shared
        rows = torch.arange(len(self.pseudo_inputs), device=x.device) % len(x)
        self.pseudo_inputs.copy_(posterior.transform(x[rows]))
        if self.contexts is not None and context is not None:
            self.contexts.copy_(context[rows])


@spec
class Vamp:
    """The mixture of the posteriors of learned pseudo-inputs, which stand for the data.

    The pseudo-inputs are what the encoder's network sees, after scaling; they start at rows of the training data. In
    training they go through the encoder together with the batch.

    Source: Tomczak and Welling, 2018, arXiv 1705.07120, equation 9, with learned weights of the components.

    Args:
        components: pseudo-inputs, K.
    """

    components: Components = 500
    kind: Literal["vamp"] = "vamp"

    over = ("real", "sphere")

    def build(self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0) -> VampPrior:
        if not isinstance(posterior, Conditional):
            raise ValueError("a vamp prior is made of posteriors: it needs one that is Conditional(network, head)")
        if isinstance(posterior.head, Point):
            raise ValueError("a vamp prior is made of posteriors' densities, and a point posterior has none")
        return VampPrior(posterior, in_shape, self.components, context)


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


Prior = Annotated[
    Standard | Mixture | Vamp | Flow | UniformSphere | FactorisedCodes | AutoregressiveCodes,
    Field(discriminator="kind"),
    by_kind,
]
