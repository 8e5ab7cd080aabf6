"""Priors: modules whose call returns p(z). A spec says `over` which supports of z it can be."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.conditional import Conditional
from vaekit.models.distributions.mixtures import mixture
from vaekit.models.parameters import Shape
from vaekit.models.posteriors.deterministic import Deterministic
from vaekit.models.priors.mixture import Components, Weights
from vaekit.spec import spec


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
    def initialise_from(self, x: Tensor, context: Tensor | None = None) -> None:
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
        if isinstance(posterior.head, Deterministic):
            raise ValueError("a vamp prior is made of posteriors' densities, and a point posterior has none")
        return VampPrior(posterior, in_shape, self.components, context)
