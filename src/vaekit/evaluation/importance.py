"""Importance weights of many samples of q(z|x), and the bounds on ln p(x) that they give."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.evaluation.blocks import Block, Blocks, Data, cached
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
from vaekit.evaluation.results import NATS, unit_of
from vaekit.evaluation.units import log_scale_of, mean_in_stored_units
from vaekit.models.distributions.base import unwrapped
from vaekit.models.drawing import Latent
from vaekit.models.vae import Model
from vaekit.processes import World
from vaekit.words import plural

AT_ONCE_ON_CPU, AT_ONCE = 500_000, 50_000_000  # parameters of p(x|z) decoded in one pass: 2 MB in single precision


@dataclass(frozen=True)
class BoundAt:
    """The importance-weighted bound at one number of samples.

    Attributes:
        samples: K.
        bound: On ln p(x), in nats.
        effective_samples: How many of the K carry the weight.
    """

    samples: int
    bound: Estimate
    effective_samples: Estimate


def bound_curve(
    model: Model,
    data: Data,
    samples: tuple[int, ...] = (1, 10, 100, 1000),
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    keep: str | Path | None = None,
    mask: Tensor | None = None,
) -> tuple[BoundAt, ...]:
    """The importance-weighted bound on ln p(x) at several numbers of samples K, all from the same draws.

    E[ln (1/K) sum_k w_k], w = p(x, z) / q(z|x), rises with K towards ln p(x) (Burda, Grosse and Salakhutdinov, 2015,
    arXiv 1509.00519, theorem 1). At a smaller K it is averaged over disjoint groups of K draws, so the curve's points
    share their noise and its shape is smoother than their errors, which are those over rows.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), in the support of the likelihood, or the rows of a split of a data set.
        samples: Every K, in any order; the cost is that of the largest.
        seed: Of the noise.
        context: (rows, ...), if the model takes one.
        progress: Called with the number of rows done.
        world: The processes that divide the rows.
        keep: A folder in which finished blocks are kept: see `evaluate`.
        mask: (rows, *data), True where a cell of x is observed; the bounds are on ln p of these.

    Returns:
        A point for each K, in the order given; of a deterministic posterior, each without values.

    Example:
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> model = VAE(posterior, StandardNormal().build(2), likelihood)
        >>> [point.samples for point in bound_curve(model, torch.ones(5, 8), samples=(1, 10))]
        [1, 10]
    """
    check_some(data=len(data), samples=min(samples, default=0))
    blocks = Blocks(model, data, seed, context, world, mask)

    def bounds_of(block: Block) -> tuple[Tensor, ...]:
        log_w, *_ = weigh(model, block, max(samples))
        return tuple(of(log_w, k) for k in samples for of in (weighted_bound, effective_samples))

    found = blocks.map(checked(model, cached(bounds_of, keep, model, "curve", samples, seed), progress))
    draw = draw_of_first(model, blocks)
    if not draw.has_bound:
        nothing = [Estimate(None, 0.0, len(data), unit_of("effective_samples", k), NO_DENSITY) for k in samples]
        return tuple(BoundAt(k, replace(share, unit=NATS), share) for k, share in zip(samples, nothing, strict=True))
    score, log_scale = joined(score_warning(draw.px), units_warning(model, blocks)), log_scale_of(blocks, draw.px)
    curve, weight = (), blocks.row_weights()
    for k, bound, ess in zip(samples, found[::2], found[1::2], strict=True):
        check_finite(bound)
        warning = joined(score, few_samples_warning(ess, k))
        point = mean_in_stored_units("bound", bound, log_scale, warning, weight)
        curve += (BoundAt(k, point, mean_of(ess, unit_of("effective_samples", k), weight=weight)),)
    return curve


def weigh(model: Model, block: Block, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """ln w (samples, batch) in double precision, and of each row its mean ln p(x|z) and its rate. Encodes once."""
    x = block.x
    code = model.encode(x, block.context, **block.masked)
    at_once = AT_ONCE_ON_CPU if x.device.type == "cpu" else AT_ONCE
    log_w = []
    log_px = rate = torch.zeros((), dtype=torch.float64, device=x.device)
    drawn, count = 0, 1
    while drawn < samples:
        draw = model.draw(x, count, code=code, context=block.context, generator=block.generator, **block.masked)
        log_w += [draw.log_w.double()]
        log_px = log_px + draw.log_px.double().sum(0)
        rate = rate + count * sum(rate_of(latent).double() for latent in draw.latents)
        drawn += count
        count = min(samples - drawn, max(1, at_once // (numbers_of(draw.px) // count)))
    return torch.cat(log_w), log_px / samples, rate / samples


def weighted_bound(log_w: Tensor, samples: int) -> Tensor:
    """ln (1/K) sum_k w_k of each row, (batch,), averaged over the disjoint groups of K = `samples` in log_w."""
    return _groups(log_w, samples).logsumexp(1).mean(0) - math.log(samples)


def effective_samples(log_w: Tensor, samples: int) -> Tensor:
    """(sum_k w_k)^2 / sum_k w_k^2 of each row, (batch,), averaged over the disjoint groups of K = `samples`.

    Between 1 and K, however large ln w is and however it rounds.
    """
    groups = _groups(log_w.double(), samples)
    w = (groups - groups.amax(1, keepdim=True)).exp()
    return (w.sum(1) ** 2 / w.square().sum(1)).clamp(1, samples).mean(0)


def few_samples_warning(ess: Tensor, samples: int, fix: str = "use more samples") -> str:
    """The weighted bound is loose, and its error misleads, where few samples carry the weight."""
    few = int((ess < min(10.0, samples / 2)).sum())
    if samples == 1 or few <= 0.1 * len(ess):
        return ""
    return (
        f"{few} of {len(ess)} rows {plural(few, 'has', 'have')} an effective sample size below "
        f"{min(10, samples // 2)} of {samples}: the bound is loose there; {fix}"
    )


def rate_of(latent: Latent) -> Tensor:
    """KL(q(z|x) || p(z)) of each row, in nats: in closed form where there is one, else over the samples of z."""
    if latent.is_deterministic:
        return torch.zeros_like(latent.log_p[0])
    closed = latent.closed_kl()
    found = latent.log_q - latent.log_p if closed is None else closed
    return found if found.dim() == 1 else found.mean(0)


def _groups(log_w: Tensor, samples: int) -> Tensor:
    return log_w[: len(log_w) // samples * samples].unflatten(0, (-1, samples))


def numbers_of(px: Distribution) -> int:
    """How many parameters a distribution has, of its whole batch: what it takes in memory."""
    px = unwrapped(px)
    if parts := getattr(px, "parts", ()):
        return sum(map(numbers_of, parts))
    sizes = [value.numel() for value in vars(px).values() if isinstance(value, Tensor)]
    return max(sizes, default=math.prod(px.batch_shape + px.event_shape))
