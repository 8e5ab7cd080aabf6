"""Bounds on ln p(x) that do not depend on how good q(z|x) is: annealed importance sampling, in both directions."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.errors import NotApplicable
from vaekit.evaluation.blocks import Block, Blocks, Data, evaluating
from vaekit.evaluation.checks import (
    NO_DENSITY,
    Progress,
    check_finite,
    check_some,
    checked,
    draw_of_first,
    joined,
    score_warning,
    units_warning,
)
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.evaluation.hmc import Latents, Path, State, move, retuned
from vaekit.evaluation.importance import effective_samples, few_samples_warning, weighted_bound
from vaekit.evaluation.results import NATS, label_of, unit_of
from vaekit.evaluation.units import log_scale_of, mean_in_stored_units
from vaekit.models.distributions.codes import Quantised
from vaekit.models.distributions.hamiltonian import Refined
from vaekit.models.distributions.noise import draw_from
from vaekit.models.distributions.support import in_words, measure, support_of
from vaekit.models.vae import Draw, Model
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator
from vaekit.spec import spec
from vaekit.words import plural

Count = Annotated[int, Field(ge=1, le=1_000_000)]

STEEPNESS = 4.0  # of the sigmoid schedule
SPREAD_DRAWS = 64  # from which the spread of z is taken
PILOTS, STOPS, MOVES_FIRST, MOVES = 4, 20, 15, 2  # chains that tune step sizes; where they stop; how often they move
POOR = 0.5  # acceptance


@spec
class Annealing:
    """Settings of chains that move from an initial distribution to the posterior p(z|x).

    Args:
        chains: How many for each row.
        temperatures: How many densities after the initial one, the posterior among them:
            ln f = (1 - beta) ln start(z) + beta ln p(x, z), with beta on a sigmoid.
        leapfrogs: Steps of each Hamiltonian trajectory; there is one at every temperature.
        start: "posterior", q(z|x) (of several groups of latents: the Gaussian with its moments), or "prior", p(z),
            which needs many more temperatures, but nothing of the encoder but its spread.
    """

    chains: Count = 16
    temperatures: Count = 100
    leapfrogs: Count = 2
    start: Literal["posterior", "prior"] = "posterior"


DEFAULT = Annealing()


@dataclass(frozen=True)
class Annealed:
    """What annealed importance sampling gives.

    Attributes:
        lower: The bound on ln p(x), in nats.
        acceptance: Mean acceptance probability of trajectories.
        effective_chains: How many chains carry the weight.
    """

    lower: Estimate
    acceptance: Estimate
    effective_chains: Estimate


@dataclass(frozen=True)
class Sandwich:
    """What bidirectional Monte Carlo gives: bounds on ln p(x) of the same rows from both sides, in nats.

    Attributes:
        lower: As of `Annealed`.
        upper: The bound from above.
        gap: Upper - lower, the most that either is off on average.
        acceptance: Mean acceptance probability of trajectories.
        effective_chains: How many chains carry the weight.
    """

    lower: Estimate
    upper: Estimate
    gap: Estimate
    acceptance: Estimate
    effective_chains: Estimate


def annealed_bound(
    model: Model,
    data: Data,
    settings: Annealing = DEFAULT,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    mask: Tensor | None = None,
) -> Annealed:
    """A lower bound on ln p(x) by annealed importance sampling, E[ln (1/C) sum_c w_c] over C chains.

    ln w = sum_t (beta_t - beta_(t-1)) (ln p(x, z_(t-1)) - ln start(z_(t-1))), where z_0 ~ start and z_t follows from
    z_(t-1) by a move that leaves f_t invariant; E[w] = p(x). Step sizes are tuned for each row by separate chains
    and then fixed, for moves that depend on their past would bias w.

    Source: Neal, 2001, arXiv physics/9803008, equation 11; for generative models, Wu et al., 2017, arXiv 1611.04273.

    Args:
        model: A VAE, or anything with its `encode`, `draw` and `log_joint`, whose latents are continuous and unbounded.
        data: x (rows, *data), in the support of the likelihood, or the rows of a split of a data set.
        settings: Chains, temperatures and where they start.
        seed: Of the noise.
        context: (rows, ...), if the model takes one.
        progress: Called with the number of rows done.
        world: The processes that divide the rows.
        mask: (rows, *data), True where a cell of x is observed; the bound is on ln p of these.

    Raises:
        NotApplicable: z cannot be moved along gradients.

    Example:
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> model = VAE(posterior, StandardNormal().build(2), likelihood)
        >>> annealed_bound(model, torch.ones(5, 8), Annealing(chains=4, temperatures=10)).lower.n
        5
    """
    check_some(data=len(data))
    blocks = Blocks(model, data, seed, context, world, mask)

    def bound_of(block: Block) -> tuple[Tensor, ...]:
        return _Chains(model, block, settings).lower()

    lower, acceptance, ess = blocks.map(checked(model, bound_of, progress))
    check_finite(lower)
    px = draw_of_first(model, blocks).px
    warning = joined(score_warning(px), units_warning(model, blocks))
    weight, log_scale = blocks.row_weights(), log_scale_of(blocks, px)
    return Annealed(*_forward_estimates(lower, acceptance, ess, settings, warning, log_scale, weight))


def bidirectional(
    model: Model,
    rows: int = 100,
    settings: Annealing = DEFAULT,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    log_scale: float = 0.0,
) -> Sandwich:
    """Bidirectional Monte Carlo: how exact `annealed_bound` is with these settings, on data that the model makes.

    With (x, z) ~ p(x, z), z is an exact draw of the posterior, and chains that go from there back to the start give
    E[1/w] = 1/p(x), hence -ln (1/C) sum_c 1/w_c >= ln p(x) on average. The gap between this and the lower bound of the
    same x is the most that either is off, on average over the model's own data.

    Source: Grosse, Ghahramani and Adams, 2015, arXiv 1511.02543, section 3; Wu et al., 2017, arXiv 1611.04273.

    Args:
        model: See `annealed_bound`; with `simulate`, too.
        rows: How many (x, z) are simulated.
        settings: Chains, temperatures and where they start.
        seed: Of the noise.
        context: (rows, ...), if the model takes one.
        progress: Called with the number of rows done.
        world: The processes that divide the rows.
        log_scale: Of the data that the model is of, as `Rows` have it, for densities of the rows as they are stored.
    """
    check_some(rows=rows)
    x, latents = simulated(model, rows, seed, context)
    blocks = Blocks(model, x, seed, context, world)

    def bounds_of(block: Block) -> tuple[Tensor, ...]:
        chains, rows = _Chains(model, block, settings), slice(block.first, block.first + len(block.x))
        return (*chains.lower(), *chains.upper(tuple(z[rows] for z in latents)))

    lower, acceptance, ess, upper = blocks.map(checked(model, bounds_of, progress))
    check_finite(lower, upper)
    px = draw_of_first(model, blocks).px
    score = score_warning(px)
    log_scale = log_scale if measure(px) == "density" else 0.0
    low, *others = _forward_estimates(lower, acceptance, ess, settings, score, log_scale)
    high = mean_in_stored_units("bidirectional_upper", upper, log_scale, score)
    return Sandwich(low, high, mean_of(upper - lower, NATS, score), *others)


class _Chains:
    """The chains of a block of rows: their temperatures, and step sizes for each of these, (batch,) each."""

    def __init__(self, model: Model, block: Block, settings: Annealing):
        x, context, generator, masked = block.x, block.context, block.generator, block.masked
        draw = model.draw(x, SPREAD_DRAWS, context=context, generator=generator, **masked)
        _check_movable(draw)
        self.settings, self.generator, self.rows = settings, generator, len(x)
        self.start = _start(draw, settings)
        self.path = Path(
            start=lambda z: torch.stack([p.log_prob(part) for p, part in zip(self.start, z, strict=True)]).sum(0),
            end=lambda z: model.log_joint(x, z, context, **masked),
            start_widths=_widths(self._drawn(SPREAD_DRAWS)),
            end_widths=_widths(tuple(latent.z for latent in draw.latents)),
        )
        betas = schedule(settings.temperatures)
        self.temperatures = list(zip(betas, self._tuned(betas), strict=True))

    def lower(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row: the bound, the acceptance of its trajectories, the effective number of chains."""
        chains = self.settings.chains
        log_w, acceptance = self._walk(self.path.state(self._drawn(chains)), self.temperatures)
        return weighted_bound(log_w, chains), acceptance, effective_samples(log_w, chains)

    def upper(self, latents: Latents) -> tuple[Tensor, ...]:
        """Of each row, the bound by chains that all begin at one draw of the posterior, (batch, *event) a group."""
        chains = self.settings.chains
        here = self.path.state(tuple(z.expand(chains, *z.shape).clone() for z in latents))
        minus_log_w, _ = self._walk(here, self.temperatures[::-1])
        return (-weighted_bound(minus_log_w, chains),)

    def _drawn(self, chains: int) -> Latents:
        shapes = ((chains,) if p.batch_shape else (chains, self.rows) for p in self.start)
        return tuple(draw_from(p, shape, self.generator) for p, shape in zip(self.start, shapes, strict=True))

    def _tuned(self, betas: list[float]) -> list[Tensor]:
        steps = torch.ones(self.rows, dtype=torch.float64, device=self.generator.device)
        here, every, found = self.path.state(self._drawn(PILOTS)), math.ceil(len(betas) / STOPS), []
        for beta in betas[::every]:
            for _ in range(MOVES if found else MOVES_FIRST):
                here, acceptance = move(self.path, here, beta, steps, self.settings.leapfrogs, self.generator)
                steps = retuned(steps, acceptance)
            found += [steps] * every
        return found[: len(betas)]

    def _walk(self, here: State, path: list[tuple[float, Tensor]]) -> tuple[Tensor, Tensor]:
        """ln w of each chain at the last temperature, (chains, batch), and the acceptance probability (batch,)."""
        log_w, taken, moves = torch.zeros_like(here.end), torch.zeros_like(here.end), len(path) - 2
        for number, ((now, _), (beta, steps)) in enumerate(pairwise(path)):
            log_w += (beta - now) * (here.end - here.start)
            if number < moves:
                here, acceptance = move(self.path, here, beta, steps, self.settings.leapfrogs, self.generator)
                taken += acceptance / moves
        return log_w, taken.mean(0) if moves else torch.ones_like(taken[0])


def schedule(temperatures: int) -> list[float]:
    """beta_0 = 0 to beta_T = 1 on a sigmoid: small steps near both ends (Grosse et al., 2015, section 6.1)."""
    t = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return ((t - t[0]) / (t[-1] - t[0])).tolist()


def _start(draw: Draw, settings: Annealing) -> tuple[Distribution, ...]:
    """Of each group of latents, a distribution with batch shape (batch,) or ()."""
    latents = draw.latents
    if settings.start == "prior":
        return (_prior(draw),)
    if len(latents) == 1 and latents[0].q is not None and not isinstance(latents[0].q, Refined):
        return (latents[0].q,)
    parts = [(latent.z.mean(0), latent.z.std(0)) for latent in latents]
    return tuple(td.Independent(td.Normal(*part, validate_args=False), part[0].dim() - 1) for part in parts)


def _widths(z: Latents) -> Latents:
    return tuple(part.std(0).clamp_min(torch.finfo(part.dtype).tiny ** 0.25) for part in z)


def _prior(draw: Draw) -> Distribution:
    """p(z) of a model with one group of latents."""
    if len(draw.latents) != 1 or draw.latents[0].p is None:
        raise NotApplicable(
            f"annealing from the prior needs p(z) of one group of latents, and this model has {len(draw.latents)}: "
            "use start='posterior'",
            field="Annealing.start",
            value="prior",
        )
    return draw.latents[0].p


def _check_movable(draw: Draw) -> None:
    if not draw.has_bound:
        raise NotApplicable(f"annealing takes the spread of z from q(z|x): {NO_DENSITY}")
    instead = f"use the {label_of('bound')} with more samples"
    for latent in draw.latents:
        if isinstance(latent.q, Quantised):
            raise NotApplicable(
                f"annealing moves z along gradients, and this model's z is one of a few code vectors: {instead}"
            )
        for support in (support_of(p) for p in (latent.q, latent.p) if p is not None):
            far = torch.full_like(latent.z[0, 0], 1e4 / 3)  # neither whole, nor within any bounds that are in use
            if support is not None and not all(bool(support.check(z).all()) for z in (far, -far)):
                raise NotApplicable(
                    f"annealing moves z along gradients through all of R^n, and this model's z lies in "
                    f"{in_words(support)}: {instead}"
                )


def simulated(
    model: Model, rows: int, seed: int = 0, context: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x (rows, *data) and its latents, (rows, *event) each: the first do not depend on how many follow."""
    with evaluating(model):
        return model.simulate(rows, generator=new_generator(seed, Purpose.SIMULATE), context=context)


def _forward_estimates(
    lower: Tensor,
    acceptance: Tensor,
    ess: Tensor,
    settings: Annealing,
    score: str,
    log_scale: Tensor | float,
    weight: Tensor | None = None,
) -> tuple[Estimate, Estimate, Estimate]:
    poor, stuck = int((acceptance < POOR).sum()), ""
    if poor > 0.1 * len(acceptance):
        stuck = (
            f"{poor} of {len(acceptance)} rows {plural(poor, 'has', 'have')} under {POOR:.0%} of their trajectories "
            "accepted: their chains hardly move and the bound is loose there; use fewer leapfrogs and more temperatures"
        )
    warning = joined(score, stuck, few_samples_warning(ess, settings.chains, "use more temperatures"))
    return (
        mean_in_stored_units("annealed_lower", lower, log_scale, warning, weight),
        mean_of(acceptance, unit_of("annealed_acceptance"), stuck, weight),
        mean_of(ess, unit_of("annealed_effective_chains", settings.chains), weight=weight),
    )
