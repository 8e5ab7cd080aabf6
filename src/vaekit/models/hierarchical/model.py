"""HierarchicalVAE: several groups of latents, drawn from the top down.

    p(x, z) = p(z_1) p(z_2 | z_1) ... p(z_L | z_1, ..., z_L-1) p(x | z)
    q(z | x) = q(z_1 | x) q(z_2 | x, z_1) ... q(z_L | x, z_1, ..., z_L-1)

A group depends on the groups above it through one tensor, the state, and on x through features, which a bottom-up pass
computes once for each row. z_1 is drawn `samples` times for each row, each other group once for each of those.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.conditional import Conditional
from vaekit.models.distributions.cells import observed, observed_log_prob
from vaekit.models.distributions.noise import draw_from
from vaekit.models.drawing import Latent, draw_latent, without_score
from vaekit.models.generative import BLOCK, Generative
from vaekit.models.networks.precision import run_network
from vaekit.models.part_errors import check_module
from vaekit.models.protocols import EncodedBesideBatch
from vaekit.models.vae import Code, Draw, call_part, check_likelihood, check_samples


@runtime_checkable
class BottomUp(Protocol):
    """The network of the first group's posterior, which also computes the features of x for the other groups."""

    def everything(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """The raw numbers of q(z_1|x), (batch, numbers), and the features for each group below, (batch, ...)."""
        ...


@runtime_checkable
class LatentBlock(Protocol):
    """One group of latents below the first, given the state (samples, batch, ...) that those above it leave."""

    def prior(self, state: Tensor) -> Distribution:
        """p(z_l | z above), with batch shape (samples, batch)."""
        ...

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        """q(z_l | x, z above) and p(z_l | z above), with batch shape (samples, batch)."""
        ...

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        """The state for what comes below, from this one and z_l (samples, batch, *event)."""
        ...


class HierarchicalVAE(Generative, nn.Module):
    """A variational autoencoder with several groups of latents.

    Args:
        posterior: q(z_1|x), whose network is a `BottomUp`.
        prior: p(z_1).
        start: From z_1 (and the context, if there is one) to the first state.
        blocks: The groups below the first, from the top down, each a `LatentBlock`.
        likelihood: From the last state to p(x|z).

    `DenseHierarchy` and `SpatialHierarchy` build all of these.

    Raises:
        TypeError: A part is no module, such as a spec that is not built.

    Sources: Sonderby et al., 2016, arXiv 1602.02282 (posteriors from the top down); Vahdat and Kautz, 2020, arXiv
    2007.03898 (residual posteriors); Child, 2021, arXiv 2011.10650 (many groups).
    """

    def __init__(
        self,
        posterior: Conditional,
        prior: nn.Module,
        start: nn.Module,
        blocks: Sequence[nn.Module],
        likelihood: nn.Module,
    ):
        super().__init__()
        for role, part in (("posterior", posterior), ("prior", prior), ("start", start), ("likelihood", likelihood)):
            check_module(part, role, "size")
        for i, block in enumerate(blocks):
            check_module(block, f"blocks[{i}]", "size")
        self.posterior = posterior
        self.prior = prior
        self.start = start
        self.blocks = nn.ModuleList(blocks)
        self.likelihood = likelihood

    def encode(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Code:
        """q of each group, each at the means of the groups above it; and the features that `draw` can reuse."""
        q, _, features = self._first(observed(x, mask), context, mask, None)
        posteriors, state = [q], _first_state(self.start, q.mean, context)
        for block, given in zip(self._groups(), features, strict=True):
            q, _ = block.both(state, given)
            posteriors.append(q)
            state = block.merge(state, q.mean)
        return Code(tuple(posteriors), features)

    def decode(self, latents: Sequence[Tensor], context: Tensor | None = None) -> Distribution:
        """p(x|z) for latents (z_1, ..., z_L), each (..., *event)."""
        if isinstance(latents, Tensor) or len(latents) != 1 + len(self.blocks):
            given = "one tensor, not a sequence of" if isinstance(latents, Tensor) else f"{len(latents)}"
            raise SpecError(
                f"got {given} groups of latents, and this hierarchical VAE has {1 + len(self.blocks)}", field="latents"
            )
        state = _first_state(self.start, latents[0], context)
        for block, z in zip(self._groups(), latents[1:], strict=True):
            state = block.merge(state, z)
        return self._px(state, context)

    def draw(
        self,
        x: Tensor,
        samples: int = 1,
        *,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        code: Code | None = None,
        noise: Sequence[Tensor | None] | None = None,
        generator: torch.Generator | None = None,
        reparametrised: bool = True,
        score: bool = True,
        enumerate: bool = False,
        check: bool = True,
    ) -> Draw:
        """Draw `samples` z of all groups for each row of x, and score them; see `VAE.draw`.

        With score=False, the densities are taken at copies of the z, in a second top-down pass, so that the gradient of
        ln w with respect to a z, which includes its way through the parameters of each p and q below, is apart from the
        gradients by which z was drawn. No gradient of ln q goes any other way.

        Source: Bauer and Mnih, 2021, arXiv 2101.11046 (the estimator for several groups).
        """
        check_samples(samples)
        if enumerate:
            raise SpecError(
                "the z of a hierarchical VAE are not discrete and cannot be enumerated: draw with enumerate=False",
                field="enumerate",
                value=enumerate,
            )
        x = observed(x, mask)
        q, p, features = self._first(x, context, mask, code)
        given = [None] * (1 + len(self.blocks)) if noise is None else noise

        def drawn(number: int, q: Distribution, p: Distribution) -> Latent:
            return draw_latent(q, p, () if number else (samples,), given[number], generator, reparametrised)

        latents, state = self._down(q, p, features, context, drawn)
        if torch.is_grad_enabled() and not score:
            copies = [latent.z.view_as(latent.z) for latent in latents]

            def scored(number: int, q: Distribution, p: Distribution) -> Latent:
                return Latent(copies[number], q.log_prob(copies[number]), p.log_prob(copies[number]), q, p)

            latents, state = self._down(q, p, features, context, scored)
            latents = without_score(latents)
        px = self._px(state, context)
        check_likelihood(px, x, samples, check, mask)
        log_px = observed_log_prob(px, x, mask)
        return Draw(x, mask, context, tuple(latents), px, log_px, reparametrised, score)

    def log_joint(
        self, x: Tensor, latents: Sequence[Tensor], context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """ln p(x, z), (...), for latents (z_1, ..., z_L), each (..., batch, *event); of x its observed cells."""
        first, *others = latents
        log_p = call_part(self.prior, "prior", context=context).log_prob(first)
        state = _first_state(self.start, first, context)
        for block, z in zip(self._groups(), others, strict=True):
            log_p = log_p + block.prior(state).log_prob(z)
            state = block.merge(state, z)
        px = self._px(state, context)
        return observed_log_prob(px, observed(x, mask), mask) + log_p

    def new_block(self, context: Tensor | None, generator: torch.Generator | None, mean: bool) -> tuple[Tensor, ...]:
        p = call_part(self.prior, "prior", context=context)
        latents = [draw_from(p, () if p.batch_shape else (BLOCK,), generator)]
        state = _first_state(self.start, latents[0], context)
        for block in self._groups():
            latents.append(draw_from(block.prior(state), (), generator))
            state = block.merge(state, latents[-1])
        px = self._px(state, context)
        return px.mean if mean else draw_from(px, (), generator), *latents

    def _px(self, state: Tensor, context: Tensor | None) -> Distribution:
        """p(x|z), whose network has no context beside the state; its head may take it."""
        px = self.likelihood
        if isinstance(px, Conditional) and px.head.takes_context:
            return px.of(px.raw(px.see(state)), context)
        return call_part(px, "likelihood", state, context=None)

    def _groups(self) -> Iterable[LatentBlock]:
        return cast(Iterable[LatentBlock], self.blocks)

    def _down(
        self,
        q: Distribution,
        p: Distribution,
        features: Sequence[Tensor],
        context: Tensor | None,
        latent_of: Callable[[int, Distribution, Distribution], Latent],
    ) -> tuple[list[Latent], Tensor]:
        """Each group's latent, made of its number, q and p, from the top down, and the last state."""
        latents = [latent_of(0, q, p)]
        state = _first_state(self.start, latents[0].z, context)
        for number, (block, of_x) in enumerate(zip(self._groups(), features, strict=True), 1):
            q, p = block.both(state, of_x)
            latents.append(latent_of(number, q, p))
            state = block.merge(state, latents[-1].z)
        return latents, state

    def _first(
        self, x: Tensor, context: Tensor | None, mask: Tensor | None, code: Code | None
    ) -> tuple[Distribution, Distribution, tuple[Tensor, ...]]:
        """q(z_1|x), p(z_1), and the features of x for each group below."""
        if code is not None:
            return code.posteriors[0], call_part(self.prior, "prior", context=context), code.features
        seen, given = self.posterior.see(x, mask), context
        if isinstance(self.prior, EncodedBesideBatch):
            seen, given = self.prior.beside(seen, context)
        raw, *features = cast(BottomUp, self.posterior.network).everything(seen, given)
        q, features = self.posterior.of(raw[: x.shape[0]]), tuple(part[: x.shape[0]] for part in features)
        if isinstance(self.prior, EncodedBesideBatch):
            return q, self.prior.of_posteriors(self.posterior.of(raw[x.shape[0] :]), context), features
        return q, call_part(self.prior, "prior", context=context), features


def _first_state(start: nn.Module, z: Tensor, context: Tensor | None) -> Tensor:
    return run_network(start, z) if context is None else run_network(start, z, context)
