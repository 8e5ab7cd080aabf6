"""Bounds on ln p(x) of rows, the terms of these bounds, and the KL of each latent dimension.

Everything is computed in `Blocks` of rows, each with noise of its own keyed by (seed, block).
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from vaekit.data import Rows, StreamedRows
from vaekit.data.rows import in_their_weights
from vaekit.errors import SpecError
from vaekit.evaluation.blocks import Block, Blocks, Data, cached, evaluating
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
from vaekit.evaluation.importance import effective_samples, few_samples_warning, rate_of, weigh, weighted_bound
from vaekit.evaluation.results import ACTIVE_KL, ACTIVE_VARIANCE, BITS, NATS, WHY_NOT_A_LIKELIHOOD, unit_of
from vaekit.evaluation.units import log_scale_of, mean_in_stored_units, shift_of
from vaekit.models.conditional import Conditional
from vaekit.models.distributions.cells import observed, observed_log_prob
from vaekit.models.distributions.support import measure
from vaekit.models.vae import Model
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator

BASELINE_ROWS = 10_000  # training rows, at most, that the baseline is fitted to


def evaluate(
    model: Model,
    data: Any,
    samples: int = 64,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    keep: str | Path | None = None,
    per_row: Callable[[Mapping[str, np.ndarray]], object] | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> dict[str, Estimate]:
    """Bounds on ln p(x) of rows, and their terms, each with a standard error over the rows.

    - `elbo`: E_q[ln p(x|z)] - KL(q(z|x) || p(z)), the KL in closed form where there is one.
    - `log_likelihood`: the importance-weighted bound, ln (1/K) sum_k w_k with w = p(x, z) / q(z|x) at the same z
      (Burda, Grosse and Salakhutdinov, 2015, arXiv 1509.00519, equation 8); never with an analytic KL inside.
    - `bits_per_dim`: -log_likelihood / (D ln 2), for a probability mass only.
    - `rate` = KL(q(z|x) || p(z)); `distortion` = -E_q[ln p(x|z)].
    - `effective_samples`: of the K, how many carry the weight.
    - `active_units`: latent dimensions whose mean KL is above 0.01 nats; `active_units_by_variance`: those whose
      posterior mean varies over x by more than 0.01 (Burda et al.), an easier test.

    Of a model with a deterministic posterior there is the distortion alone; the other values are None. Where p(x|z) is
    a density and x is scaled, as `Rows` know, ln p is that of the rows as they are stored, and `scaled` that of x; of a
    tensor, ln p is that of the numbers given.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), in the support of the likelihood, in an array, a tensor or a data frame; a torch
            `Dataset` of such rows, or of pairs (x, label); or the rows of a split of a data set.
        samples: K.
        seed: Of the noise.
        context: (rows, width), if the model takes one and the data does not bring it.
        progress: Called with the number of rows done since the last call.
        world: Processes that divide the rows; each gets the same result, whatever their number.
        keep: Folder that caches the results of each block, so that the same call resumes after it was interrupted.
            Those of other weights, rows, samples or another seed are computed anew.
        per_row: Called with the values of each row, (rows,) each, whose means are the estimates of the same names:
            `elbo`, `log_likelihood`, `rate` and `distortion`, or `distortion` alone.
        mask: (rows, *data), True where a cell of x is observed. Everything is then of the observed cells: bounds are on
            ln p of them, and D is their mean number.
        weight: Of each row, (rows,), not below 0: estimates are weighted means, but for the number of active units. By
            default those that the rows of a data set bring.

    Returns:
        Estimates by name, in nats for each row unless their unit says otherwise.
    """
    blocks = Blocks(model, data, seed, context, world, mask)
    check_some(data=len(blocks), samples=samples)
    weight = blocks.row_weights() if weight is None else weight
    if weight is not None and (weight.shape != (len(blocks),) or not bool((weight >= 0).all() and weight.any())):
        raise SpecError(
            f"weight has shape {tuple(weight.shape)} for {len(blocks)} rows, or is below 0, or 0 everywhere: give each "
            "row one that is not below 0",
            field="weight",
        )

    def bounds_of(block: Block) -> tuple[Tensor, ...]:
        log_w, log_px, rate = weigh(model, block, samples)
        cells = torch.full_like(rate, block.x[0].numel())
        if block.mask is not None:
            cells = block.mask.flatten(1).sum(1).to(rate.dtype)
        return log_px, rate, weighted_bound(log_w, samples), effective_samples(log_w, samples), cells

    log_px, rate, bound, ess, cells = blocks.map(
        checked(model, cached(bounds_of, keep, model, "bounds", samples, seed), progress)
    )
    check_finite(log_px, rate, bound)
    draw = draw_of_first(model, blocks)
    score, log_scale = joined(score_warning(draw.px), units_warning(model, blocks)), log_scale_of(blocks, draw.px)
    if per_row is not None:
        rows = {"distortion": -log_px}
        if draw.has_bound:
            rows = {"elbo": log_px - rate, "log_likelihood": bound, "rate": rate, **rows}
        per_row({name: (values + shift_of(name, log_scale)).cpu().numpy() for name, values in rows.items()})
    if not draw.has_bound:
        nats, bits = (Estimate(None, 0.0, len(bound), unit, NO_DENSITY) for unit in (NATS, BITS))
        none = Estimate(None, 0.0, len(bound), unit_of("effective_samples", samples), NO_DENSITY)
        bounds = {"elbo": nats, "log_likelihood": nats, "bits_per_dim": bits, "rate": nats}
        distortion = mean_in_stored_units("distortion", -log_px, log_scale, score, weight)
        return bounds | {"distortion": distortion, "effective_samples": none} | _active_units(model, blocks)

    def mean(name: str, rows: Tensor, warning: str) -> Estimate:
        return mean_in_stored_units(name, rows, log_scale, warning, weight)

    bounds = {
        "elbo": mean("elbo", log_px - rate, score),
        "log_likelihood": mean("log_likelihood", bound, joined(score, few_samples_warning(ess, samples))),
        "bits_per_dim": _bits_per_dim(bound, measure(draw.px), cells, weight),
        "rate": mean_of(rate, NATS, weight=weight),
        "distortion": mean("distortion", -log_px, score),
        "effective_samples": mean_of(ess, unit_of("effective_samples", samples), weight=weight),
    }
    return bounds | _active_units(model, blocks)


def kl_per_dimension(
    model: Model,
    data: Data,
    context: Tensor | None = None,
    world: World | None = None,
    mask: Tensor | None = None,
) -> tuple[Estimate, ...] | None:
    """Mean KL(q(z_i|x) || p(z_i)) of each latent dimension, in nats.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), or the rows of a split of a data set.
        context: (rows, width), if the model takes one and the data does not bring it.
        world: Processes that divide the rows; each gets the same result.
        mask: (rows, *data), True where a cell of x is observed.

    Returns:
        An estimate for each dimension; None without a closed form that factorises over dimensions.
    """
    blocks = Blocks(model, data, 0, context, world, mask)
    kl, _ = _latent_rows(model, blocks)
    weight = blocks.row_weights()
    return None if kl is None else tuple(mean_of(column, NATS, weight=weight) for column in kl.T)


def kl_per_group(
    model: Model,
    data: Data,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    world: World | None = None,
    mask: Tensor | None = None,
) -> tuple[Estimate, ...]:
    """Mean KL of each group of latents, given the groups above it, in nats, at one sample of those for each row.

    In closed form where there is one, else at the same sample. They add up to the rate. Without values for a
    deterministic posterior.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), or the rows of a split of a data set.
        seed: Of the noise.
        context: (rows, width), if the model takes one and the data does not bring it.
        world: Processes that divide the rows; each gets the same result.
        mask: (rows, *data), True where a cell of x is observed.

    Returns:
        An estimate for each group, from the first to the last.
    """
    blocks = Blocks(model, data, seed, context, world, mask)

    def rates_of(block: Block) -> tuple[Tensor, ...]:
        draw = model.draw(block.x, context=block.context, generator=block.generator, **block.masked)
        return tuple(rate_of(latent) for latent in draw.latents)

    weight = blocks.row_weights()
    deterministic = [latent.is_deterministic for latent in draw_of_first(model, blocks).latents]
    return tuple(
        Estimate(None, 0.0, len(rows), NATS, NO_DENSITY) if without_density else mean_of(rows, NATS, weight=weight)
        for without_density, rows in zip(deterministic, blocks.map(rates_of), strict=True)
    )


def baseline(
    likelihood: Conditional,
    train: Tensor | Rows | StreamedRows,
    data: Data,
    seed: int = 0,
    world: World | None = None,
    *,
    train_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> Estimate:
    """Mean ln p(x) of rows under the best model without latents, in nats: each dimension on its own.

    Args:
        likelihood: Whose family p(x) is of.
        train: x (rows, *data) that p(x) is fitted to, or training rows, of which at most 10,000 are taken, each as
            often as its weight says.
        data: x (rows, *data) that ln p(x) is taken of, or the rows of a split of a data set.
        seed: Of binarisation.
        world: Processes that divide the rows; each gets the same result.
        train_mask: Of `train`, True where a cell is observed.
        mask: Of `data`, likewise; ln p is that of the observed cells.
    """
    context = None
    if isinstance(train, Rows | StreamedRows):
        noise, some = new_generator(seed, Purpose.BASELINE, device=train.device), train.some(BASELINE_ROWS)
        some = in_their_weights(train, some, BASELINE_ROWS)
        train_mask = train.mask_of(some) if train_mask is None else train_mask
        train, context = train.batch(some, noise), train.context_of(some)
    of_context = likelihood.without_latents(train, context, mask=train_mask)
    blocks = Blocks(likelihood, data, seed, None, world, mask)

    def log_px_of(block: Block) -> tuple[Tensor, ...]:
        x = observed(block.x, block.mask)
        return (observed_log_prob(of_context(block.context), x, block.mask),)

    (log_px,) = blocks.map(log_px_of)
    px = of_context(blocks.context_of(0))
    log_scale = log_scale_of(blocks, px)
    return mean_in_stored_units("baseline", log_px, log_scale, score_warning(px), blocks.row_weights())


def bound_rows(
    model: Model,
    data: Tensor,
    context: Tensor | None,
    generator: torch.Generator,
    samples: int = 1,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The distortion, the rate and the bound on ln p(x) of each row, in nats, from K samples of z.

    The bound is the importance-weighted one; at K = 1 minus the sum of the others, whose rate is in closed form where
    there is one. The rate of a deterministic posterior, which has none, counts as 0, so that such models compare by
    their distortion.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data).
        context: (rows, width), or None.
        generator: Of the noise.
        samples: K.
        mask: (rows, *data), True where a cell of x is observed; None where all are.

    Returns:
        Distortion, rate and bound, (rows,) each.
    """
    with evaluating(model):
        given: dict[str, Any] = {} if mask is None else {"mask": mask}
        draw = model.draw(data, samples, context=context, generator=generator, **given)
        distortion = -draw.log_px.mean(0)
        rate = sum((rate_of(latent) for latent in draw.latents), torch.zeros_like(distortion))
        return distortion, rate, -distortion - rate if samples == 1 else weighted_bound(draw.log_w, samples)


def _latent_rows(model: Model, blocks: Blocks) -> tuple[Tensor | None, Tensor | None]:
    """KL of each dimension and the posterior's mean, (rows, dimensions) each, where latents factorise.

    Of a hierarchical VAE, the first group's dimensions come first; the KL below is at one sample of z above, the mean
    at the means above.
    """

    def latents_of(block: Block) -> tuple[Tensor, ...]:
        x = block.x
        draw = model.draw(x, context=block.context, generator=block.generator, **block.masked)
        found = [latent.closed_kl_per_dimension() for latent in draw.latents]
        kl = [closed.reshape(len(x), -1) for closed in found if closed is not None]
        if len(kl) < len(found):
            return ()
        means = [q.mean.flatten(1) for q in model.encode(x, block.context, **block.masked).posteriors]
        return torch.cat(kl, 1), torch.cat(means, 1)

    found = blocks.map(latents_of)
    return (found[0], found[1]) if found else (None, None)


def _active_units(model: Model, blocks: Blocks) -> dict[str, Estimate]:
    kl, mean = _latent_rows(model, blocks)
    if kl is None or mean is None:
        why = "no KL of single dimensions: the posterior or the prior does not factorise in closed form"
        nothing = Estimate(None, 0.0, len(blocks), unit_of("active_units"), why)
        return {"active_units": nothing, "active_units_by_variance": nothing}
    n, dims = kl.shape
    variance = mean.double().var(0, correction=0)
    spread = variance * math.sqrt(2 / max(1, n - 1))
    return {
        "active_units": _count_above(
            kl.double().mean(0), kl.double().std(0, correction=0) / math.sqrt(n), ACTIVE_KL, n, dims
        ),
        "active_units_by_variance": _count_above(variance, spread, ACTIVE_VARIANCE, n, mean.shape[1]),
    }


def _count_above(values: Tensor, errors: Tensor, threshold: float, n: int, dims: int) -> Estimate:
    """How many values lie above the threshold; the error is the probability of each being on the wrong side."""
    above = Normal(0.0, 1.0, validate_args=False).cdf((values - threshold) / errors.clamp_min(1e-12))
    stderr = round(float((above * (1 - above)).sum().sqrt()), 2)
    return Estimate(float((values > threshold).sum()), stderr, n, unit_of("active_units", dims))


def _bits_per_dim(bound: Tensor, kind: str, cells: Tensor, weight: Tensor | None) -> Estimate:
    """Of all rows together: their bits over their observed cells, (rows,), with the error of that ratio."""

    def mean(values: Tensor) -> Tensor:
        return values.mean() if weight is None else (weight * values).sum() / weight.sum()

    if kind == "mass":
        bits = -bound / (mean(cells) * math.log(2))
        return mean_of(bits - mean(bits) * (cells / mean(cells) - 1), BITS, weight=weight)
    why = "p(x|z) is a density, not a probability mass: bits need dequantised data"
    return Estimate(None, 0.0, len(bound), BITS, WHY_NOT_A_LIKELIHOOD if kind == "score" else why)
