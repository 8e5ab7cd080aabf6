"""Priors over discrete latents, whatever their codes are written as."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import ALONE, BuildContext, check_size
from vaekit.models.distributions.autoregressive import Autoregressive
from vaekit.models.distributions.codes import CodeSpace, Factorised
from vaekit.spec import spec


def _needed(ctx: BuildContext, kind: str) -> CodeSpace:
    if ctx.code_space is None:
        raise SpecError(
            f"a {kind} prior is over codes: it needs ctx.posterior with a discrete head", field="BuildContext.posterior"
        )
    return ctx.code_space


class FactorisedPrior(nn.Module):
    """Codes independent of one another; evenly distributed if not learned.

    Args:
        space: What z is made of.
        learned: Whether the probabilities are.
        context: Numbers of context; 0 for none.
    """

    logits: Tensor

    def __init__(self, space: CodeSpace, learned: bool, context: int = 0):
        super().__init__()
        self.space, self.learned = space, learned
        logits = torch.zeros(space.positions, space.classes)
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits[:, :1].expand_as(logits), persistent=False)
        self.of_context = nn.Linear(context, logits.numel(), bias=False) if context else None

    def forward(self, context: Tensor | None = None) -> Distribution:
        logits = self.logits
        if self.of_context is not None and context is not None:
            logits = logits + self.of_context(context).unflatten(-1, logits.shape)
        return Factorised(logits, self.space, even=not self.learned)


@spec
class FactorisedCodes:
    """Learned probabilities of the codes at each position, independent of one another."""

    kind: Literal["factorised"] = "factorised"

    over = ("discrete",)
    is_conditional = True

    def build(self, size: int, ctx: BuildContext = ALONE) -> FactorisedPrior:
        """The prior over z of `size` numbers."""
        check_size(size)
        return FactorisedPrior(_needed(ctx, self.kind), True, ctx.context_of("prior"))


@spec
class AutoregressiveCodes:
    """Each code given those before it: ln p(z) = sum_i ln p(c_i | c_1, ..., c_(i-1)), by causal self-attention.

    Scores all positions at once, and draws them one by one. Its ln p(z) is in the objective, so it is trained together
    with the rest; quantised z is not moved by it.

    Sources: van den Oord et al., 2017, arXiv 1711.00937, section 3.3 (a prior over codes); Vaswani et al., 2017, arXiv
    1706.03762 (masked attention).

    Args:
        width: Of each position's vector.
        layers: Of attention, each followed by two fully connected ones at each position.
        heads: Of attention; they divide the width.
    """

    width: Annotated[int, Field(ge=1, le=4096)] = 64
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    kind: Literal["autoregressive"] = "autoregressive"

    over = ("discrete",)
    is_conditional = True

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise SpecError(
                f"{self.heads} heads do not divide a width of {self.width}: use a multiple of {self.heads}",
                field="width",
                value=self.width,
            )

    def build(self, size: int, ctx: BuildContext = ALONE) -> "AutoregressivePrior":
        """The prior over z of `size` numbers."""
        check_size(size)
        return AutoregressivePrior(_needed(ctx, self.kind), self, ctx.context_of("prior"))


class AutoregressivePrior(nn.Module):
    """A prior over codes by causal self-attention: see `AutoregressiveCodes`.

    Args:
        space: What z is made of.
        settings: Of the network.
        context: Numbers of context; 0 for none.
    """

    def __init__(self, space: CodeSpace, settings: AutoregressiveCodes, context: int = 0):
        super().__init__()
        width = settings.width
        self.space = space
        self.embed = nn.Parameter(torch.randn(space.classes, width) / math.sqrt(width))
        self.position = nn.Parameter(0.1 * torch.randn(space.positions, width))
        self.blocks = nn.ModuleList(CausalBlock(width, settings.heads) for _ in range(settings.layers))
        self.of_context = nn.Linear(context, width, bias=False) if context else None
        self.last = nn.Linear(width, space.classes)

    def forward(self, context: Tensor | None = None) -> Distribution:
        shift = None if self.of_context is None or context is None else self.of_context(context)
        return Autoregressive(self, self.space, self.embed, shift)

    def log_probs(self, codes: Tensor, shift: Tensor | None = None) -> Tensor:
        """The log-probability of each code given those before it.

        Args:
            codes: One-hot vectors, (..., positions, classes); with a context (..., batch, positions, classes).
            shift: What the context adds to every position, (batch, width).

        Returns:
            ln p, (..., positions, classes), in nats.
        """
        given = codes @ self.embed
        h = nn.functional.pad(given[..., :-1, :], (0, 0, 1, 0)) + self.position  # the first position sees nothing
        h = h if shift is None else h + shift[:, None]
        h = h.reshape(-1, *h.shape[-2:])
        for block in self.blocks:
            h = block(h)
        return self.last(h).log_softmax(-1).reshape(codes.shape)


class CausalBlock(nn.Module):
    """Causal self-attention, then two fully connected layers, each added to its input (a transformer block).

    Args:
        width: Of each position's vector.
        heads: Of attention.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        parts = self.query_key_value(self.before(h)).unflatten(-1, (3, self.heads, -1)).transpose(-2, -4)
        query, key, value = parts.unbind(-3)  # (batch, heads, positions, width / heads) each
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        h = h + self.out(attended.transpose(-2, -3).flatten(-2))
        return h + self.layers(self.between(h))
