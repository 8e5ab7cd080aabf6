"""The VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import ALONE, BuildContext, check_size
from vaekit.models.distributions.mixtures import mixture
from vaekit.models.parameters import Shape
from vaekit.models.priors.mixture import Components, Weights
from vaekit.models.protocols import Encoder
from vaekit.spec import spec


@dataclass(frozen=True)
class Shared:
    """A part of the model that another part uses: no submodule of that, so its weights and names stay the model's.

    A copy of the model shares the copy.
    """

    part: Encoder


class VampPrior(nn.Module):
    """The mixture of q(z|x) at pseudo-inputs. Only these and the components' weights are its own.

    Args:
        posterior: q(z|x), whose weights stay the model's.
        data_shape: Shape of what the encoder sees of one row of x.
        components: Pseudo-inputs.
        of_encoder: Numbers of context that q(z|x) is conditioned on; 0 for none.
        of_weights: Numbers of context that the weights depend on; 0 for none.
    """

    def __init__(self, posterior: Encoder, data_shape: Shape, components: int, of_encoder: int, of_weights: int):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *data_shape))
        self.contexts = nn.Parameter(torch.full((components, of_encoder), 1 / of_encoder)) if of_encoder else None
        self.weights = Weights(components, of_weights)
        self.posterior = Shared(posterior)

    def forward(self, context: Tensor | None = None) -> Distribution:
        encoder = self.posterior.part
        return self.of_posteriors(encoder.of(encoder.raw(self.pseudo_inputs, self.contexts)), context)

    def beside(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        joined = torch.cat([seen, self.pseudo_inputs])
        return joined, context if context is None or self.contexts is None else torch.cat([context, self.contexts])

    def of_posteriors(self, posteriors: Distribution, context: Tensor | None) -> Distribution:
        return mixture(posteriors, self.weights(context))

    @torch.no_grad()
    def initialise_from_inputs(self, seen: Tensor, context: Tensor | None) -> None:
        """Set the pseudo-inputs and their contexts to those of rows, over and over where they are fewer.

        Args:
            seen: What the encoder's network sees of the rows, (n, *data).
            context: Theirs, (n, width); None where there is none.
        """
        rows = torch.arange(len(self.pseudo_inputs), device=seen.device) % len(seen)
        self.pseudo_inputs.copy_(seen[rows])
        if self.contexts is not None and context is not None:
            self.contexts.copy_(context[rows])


@spec
class Vamp:
    """The mixture of the posteriors of learned pseudo-inputs, which stand for the data.

    The pseudo-inputs are what the encoder's network sees, after scaling; they are initialised with rows of the training
    data. In training they go through the encoder together with the batch.

    Source: Tomczak and Welling, 2018, arXiv 1705.07120, equation 9, with learned weights of the components.

    Args:
        components: Pseudo-inputs, K.
    """

    components: Components = 500
    kind: Literal["vamp"] = "vamp"

    over = ("real", "sphere")
    needs_density = True
    is_conditional = True

    def build(self, size: int, ctx: BuildContext = ALONE) -> VampPrior:
        """The prior over z of `size` numbers.

        Raises:
            SpecError: The posterior is not a `Conditional`, or has no density; or there are no numbers of z.
        """
        check_size(size)
        if ctx.posterior is None:
            raise SpecError(
                "a vamp prior is made of posteriors: it needs ctx.posterior, a Conditional(network, head)",
                field="BuildContext.posterior",
            )
        if not ctx.posterior.has_density:
            raise SpecError(
                "a vamp prior is made of posteriors' densities, and a deterministic posterior has none",
                field="BuildContext.posterior",
            )
        contexts = ctx.context_of("encoder"), ctx.context_of("prior")
        return VampPrior(ctx.posterior, ctx.seen_shape, self.components, *contexts)
