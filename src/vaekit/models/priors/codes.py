"""Priors over discrete latents, whatever their codes are written as: modules whose call returns p(z)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.conditional import Conditional
from vaekit.models.distributions.autoregressive import Autoregressive
from vaekit.models.distributions.codes import CodeSpace, Factorised
from vaekit.models.parameters import Shape
from vaekit.models.posteriors.discrete import DiscreteHead
from vaekit.spec import spec


def space_of(posterior: nn.Module | None) -> CodeSpace | None:
    """What the z of a posterior is made of, if it is discrete."""
    if not isinstance(posterior, Conditional) or not isinstance(posterior.head, DiscreteHead):
        return None
    return posterior.head.space(posterior.event_shape or ())


def _needed(posterior: nn.Module | None, kind: str) -> CodeSpace:
    space = space_of(posterior)
    if space is None:
        raise ValueError(f"a {kind} prior is over codes: it needs a posterior that is Conditional with a discrete head")
    return space


class FactorisedPrior(nn.Module):
    """Codes independent of one another; evenly distributed if not learned."""

    logits: Tensor

    def __init__(self, space: CodeSpace, learned: bool, context: int = 0):
        super().__init__()
        self.shared, self.learned = (space,), learned  # a code space with buffers is the posterior's, not the prior's
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
        return Factorised(logits, self.shared[0], even=not self.learned)


@spec
class FactorisedCodes:
    """Learned probabilities of the codes at each position, independent of one another."""

    kind: Literal["factorised"] = "factorised"

    over = ("discrete",)

    def build(
        self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0
    ) -> FactorisedPrior:
        return FactorisedPrior(_needed(posterior, self.kind), True, context)


@spec
class AutoregressiveCodes:
    """Each code given those before it: ln p(z) = sum_i ln p(c_i | c_1, ..., c_(i-1)), by causal self-attention.

    Scores all positions at once, and draws them one by one. Its ln p(z) is in the objective, so it is trained together
    with the rest; quantised z is not moved by it.

    Sources: van den Oord et al., 2017, arXiv 1711.00937, section 3.3 (a prior over codes); Vaswani et al., 2017, arXiv
    1706.03762 (masked attention).

    Args:
        width: of each position's vector.
        layers: of attention, each followed by a layer for each position.
        heads: of attention; they divide the width.
    """

    width: Annotated[int, Field(ge=1, le=4096)] = 64
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    kind: Literal["autoregressive"] = "autoregressive"

    over = ("discrete",)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide a width of {self.width}: use a multiple of {self.heads}"
            )

    def build(
        self, size: int, posterior: nn.Module | None = None, in_shape: Shape = (), context: int = 0
    ) -> "AutoregressivePrior":
        return AutoregressivePrior(_needed(posterior, self.kind), self, context)


class AutoregressivePrior(nn.Module):
    def __init__(self, space: CodeSpace, spec: AutoregressiveCodes, context: int = 0):
        super().__init__()
        width = spec.width
        self.shared = (space,)
        self.embed = nn.Parameter(torch.randn(space.classes, width) / math.sqrt(width))
        self.place = nn.Parameter(0.1 * torch.randn(space.positions, width))
        self.blocks = nn.ModuleList(CausalBlock(width, spec.heads) for _ in range(spec.layers))
        self.of_context = nn.Linear(context, width, bias=False) if context else None
        self.last = nn.Linear(width, space.classes)

    def forward(self, context: Tensor | None = None) -> Distribution:
        shift = None if self.of_context is None or context is None else self.of_context(context)
        return Autoregressive(self, self.shared[0], self.embed, shift)

    def log_probs(self, codes: Tensor, shift: Tensor | None = None) -> Tensor:
        """ln p of each code given those before it, (..., positions, classes), for codes as one-hot vectors.

        shift: what the context adds to every place, (batch, width), for codes (..., batch, positions, classes).
        """
        given = codes @ self.embed
        h = nn.functional.pad(given[..., :-1, :], (0, 0, 1, 0)) + self.place  # the first place sees nothing
        h = h if shift is None else h + shift[:, None]
        h = h.reshape(-1, *h.shape[-2:])
        for block in self.blocks:
            h = block(h)
        return self.last(h).log_softmax(-1).reshape(codes.shape)


class CausalBlock(nn.Module):
    """Attention to the places up to one's own, then two layers; each is added to what it was given."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = self.query_key_value(self.before(h)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        scores = torch.einsum("bihc,bjhc->bhij", query, key) / math.sqrt(query.shape[-1])
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=h.device).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        h = h + self.out(torch.einsum("bhij,bjhc->bihc", weights, value).flatten(-2))
        return h + self.layers(self.between(h))
