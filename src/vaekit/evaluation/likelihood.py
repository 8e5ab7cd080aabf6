"""From a model and data to numbers: bounds on ln p(x), their parts, and how much each latent dimension carries.

Everything is computed in `Blocks` of rows, each with noise of its own keyed by (seed, block).
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaekit.errors import DataError, VaekitError
from vaekit.evaluation.blocks import Blocks, Data, evaluating
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.models.conditional import Conditional
from vaekit.models.distributions import measure, support_of
from vaekit.models.noise import Purpose, new_generator
from vaekit.models.vae import Latent, Model
from vaekit.world import World

NUMBERS_AT_ONCE = 2_000_000  # parameters of p(x|z) decoded in one pass: 8 MB in single precision
ACTIVE_KL = 0.01  # nats
ACTIVE_VARIANCE = 0.01
NO_DENSITY = "the posterior is a single point for each row: it has no density to make a bound of"
NOT_A_LIKELIHOOD = "not a log-likelihood: the soft-label cross-entropy is no density on [0, 1]"


def evaluate(
    model: Model,
    data: Data,
    samples: int = 64,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Callable[[int], object] | None = None,
    world: World | None = None,
) -> dict[str, Estimate]:
    """Bounds on ln p(x) and their parts on rows `data`, each with a standard error over the rows.

    - `elbo`: E_q[ln p(x|z)] - KL(q(z|x) || p(z)), the KL in closed form where there is one.
    - `log_likelihood`: the importance-weighted bound, ln (1/K) sum_k w_k with w = p(x, z) / q(z|x) at the same z
      (Burda, Grosse and Salakhutdinov, 2015, arXiv 1509.00519, equation 8); never with an analytic KL inside.
    - `bits_per_dim`: -log_likelihood / (D ln 2), for a probability mass only.
    - `rate` = KL(q(z|x) || p(z)); `distortion` = -E_q[ln p(x|z)].
    - `effective_samples`: of the K, how many carry the weight.
    - `active_units`: latent dimensions whose mean KL is above 0.01 nats; `active_units_by_variance`: those whose
      posterior mean varies over x by more than 0.01 (Burda et al.), an easier test.

    Of a model whose posterior is a point there is the distortion alone; the other values are None.

    Args:
        model: a VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), in the support of the likelihood, or the rows of a split of a data set.
        samples: K.
        seed: of the noise.
        context: (rows, ...), if the model takes one.
        progress: called with the number of rows done since the last call.
        world: processes that divide the rows; each gets the same result, whatever their number.

    Returns:
        Estimates by name, in nats for each row unless their unit says otherwise.
    """
    if len(data) == 0 or samples < 1:
        raise ValueError(f"got {len(data)} rows and samples={samples}: at least one of each is needed")
    blocks = Blocks(model, data, seed, context, world)

    def bounds_of(x: Tensor, part: Tensor | None, generator: torch.Generator, first: int) -> tuple[Tensor, ...]:
        _check_support(model, x, part, first)
        found = _bounds(model, x, part, generator, samples)
        if progress is not None:
            progress(len(x))
        return found

    log_px, rate, bound, ess = blocks.map(bounds_of)
    with evaluating(model):
        first = context if context is None else context[:1]
        draw = model.draw(blocks.x(0)[:1], context=first, generator=new_generator(seed, Purpose.EVALUATE))
    _check_finite(log_px, rate, bound)
    kind = measure(draw.px)
    score = NOT_A_LIKELIHOOD if kind == "score" else ""
    if not draw.has_bound:
        nats, bits = (Estimate(None, 0.0, len(bound), unit, NO_DENSITY) for unit in ("nats", "bits/dim"))
        none = Estimate(None, 0.0, len(bound), f"of {samples}", NO_DENSITY)
        bounds = {"elbo": nats, "log_likelihood": nats, "bits_per_dim": bits, "rate": nats}
        bounds |= {"distortion": mean_of(-log_px, "nats", score), "effective_samples": none}
        return bounds | _active_units(model, blocks)
    bounds = {
        "elbo": mean_of(log_px - rate, "nats", score),
        "log_likelihood": mean_of(bound, "nats", _join(score, _ess_warning(ess, samples))),
        "bits_per_dim": _bits_per_dim(bound, kind, math.prod(draw.px.event_shape)),
        "rate": mean_of(rate, "nats"),
        "distortion": mean_of(-log_px, "nats", score),
        "effective_samples": mean_of(ess, f"of {samples}"),
    }
    return bounds | _active_units(model, blocks)


def kl_per_dimension(
    model: Model, data: Data, context: Tensor | None = None, world: World | None = None
) -> tuple[Estimate, ...] | None:
    """Mean KL(q(z_i|x) || p(z_i)) of each latent dimension, in nats; None without a closed form that factorises."""
    kl, _ = _latent_rows(model, Blocks(model, data, 0, context, world))
    return None if kl is None else tuple(mean_of(column, "nats") for column in kl.T)


def baseline(likelihood: Conditional, train: Tensor, data: Data, seed: int = 0, world: World | None = None) -> Estimate:
    """Mean ln p of rows `data` under the best model without latents: each dimension on its own, fitted to `train`."""
    head = copy.deepcopy(likelihood.head)
    px = head(head.start(train), likelihood.event_shape)
    (log_px,) = Blocks(likelihood, data, seed, None, world).map(lambda x, *others: (px.log_prob(x),))
    return mean_of(log_px, "nats", NOT_A_LIKELIHOOD if measure(px) == "score" else "")


def elbo_rows(model: Model, data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Distortion and rate of each row, (rows,) each, from one sample of z: the bound is minus their sum.

    The rate of a point posterior, which has none, counts as 0, so that models of it compare by their distortion.
    """
    with evaluating(model):
        draw = model.draw(data, generator=generator)
        return -draw.log_px.mean(0), sum((_rate(latent) for latent in draw.latents), torch.zeros(()))


def _check_support(model: Model, x: Tensor, context: Tensor | None, first: int) -> None:
    """Refuse values that the likelihood gives no probability, which would pass as numbers."""
    few = None if context is None else context[:1]
    px = model.draw(x[:1], context=few, generator=new_generator(0, device=x.device)).px
    support = support_of(px)
    inside = x.isfinite() if support is None else support.check(x)
    bad = ~inside.reshape(len(x), -1).all(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        low, high = float(x[row].min()), float(x[row].max())
        raise DataError(
            f"row {first + row} holds values outside the support of the likelihood ({support}), from {low:.4g} to "
            f"{high:.4g}: scale the data"
        )


def _check_finite(*rows: Tensor) -> None:
    for values in rows:
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            row = int(bad[0])
            raise VaekitError(
                f"the model gives {float(values[row])} for row {row} and {len(bad) - 1} others: its weights are out of "
                "bounds, or the row is far from what it was trained on; train again with a smaller train.lr"
            )


def _bounds(
    model: Model, x: Tensor, context: Tensor | None, generator: torch.Generator, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each row: mean ln p(x|z), rate, importance-weighted bound, effective sample size. Encodes once."""
    code = model.encode(x, context)
    log_w, log_px, rate = [], [], []
    drawn, count = 0, 1
    while drawn < samples:
        draw = model.draw(x, count, context=context, code=code, generator=generator)
        log_w += [draw.log_w.double()]
        log_px += [draw.log_px.double()]
        rate += [count * sum(_rate(latent).double() for latent in draw.latents)]
        drawn += count
        count = min(samples - drawn, max(1, NUMBERS_AT_ONCE // (_numbers(draw.px) // count)))
    weights = torch.cat(log_w)
    total = weights.logsumexp(0)
    ess = (2 * total - (2 * weights).logsumexp(0)).exp()
    return torch.cat(log_px).mean(0), torch.stack(rate).sum(0) / samples, total - math.log(samples), ess


def _rate(latent: Latent) -> Tensor:
    if latent.is_point:
        return torch.zeros_like(latent.log_p[0])
    closed = latent.closed_kl()
    return (latent.log_q - latent.log_p).mean(0) if closed is None else closed


def _numbers(px: Distribution) -> int:
    while isinstance(px, Independent):
        px = px.base_dist
    sizes = [value.numel() for value in vars(px).values() if isinstance(value, Tensor)]
    return max(sizes, default=math.prod(px.batch_shape + px.event_shape))


def _latent_rows(model: Model, blocks: Blocks) -> tuple[Tensor | None, Tensor | None]:
    """KL of each dimension and the posterior's mean, (rows, dimensions) each, for one group of factorising latents."""

    def latents_of(x: Tensor, part: Tensor | None, generator: torch.Generator, first: int) -> tuple[Tensor, ...]:
        draw = model.draw(x, context=part, generator=generator)
        latent = draw.latents[0]
        closed = latent.closed_kl_per_dimension() if len(draw.latents) == 1 else None
        return () if closed is None or latent.q is None else (closed.flatten(1), latent.q.mean.flatten(1))

    found = blocks.map(latents_of)
    return (found[0], found[1]) if found else (None, None)


def _active_units(model: Model, blocks: Blocks) -> dict[str, Estimate]:
    kl, mean = _latent_rows(model, blocks)
    if kl is None or mean is None:
        why = "no KL of single dimensions: the posterior or the prior does not factorise in closed form"
        nothing = Estimate(None, 0.0, len(blocks), "dimensions", why)
        return {"active_units": nothing, "active_units_by_variance": nothing}
    n, dims = kl.shape
    variance = mean.double().var(0, correction=0)
    spread = variance * math.sqrt(2 / max(1, n - 1))
    return {
        "active_units": _count_above(
            kl.double().mean(0), kl.double().std(0, correction=0) / math.sqrt(n), ACTIVE_KL, n, dims
        ),
        "active_units_by_variance": _count_above(variance, spread, ACTIVE_VARIANCE, n, dims),
    }


def _count_above(values: Tensor, errors: Tensor, threshold: float, n: int, dims: int) -> Estimate:
    """How many values lie above the threshold; the error is that of each being on its side by chance."""
    above = Normal(0.0, 1.0, validate_args=False).cdf((values - threshold) / errors.clamp_min(1e-12))
    stderr = round(float((above * (1 - above)).sum().sqrt()), 2)
    return Estimate(float((values > threshold).sum()), stderr, n, f"of {dims} dimensions")


def _bits_per_dim(bound: Tensor, kind: str, values: int) -> Estimate:
    if kind == "mass":
        return mean_of(-bound / (values * math.log(2)), "bits/dim")
    why = "p(x|z) is a density, not a probability mass: bits need dequantised data"
    return Estimate(None, 0.0, len(bound), "bits/dim", NOT_A_LIKELIHOOD if kind == "score" else why)


def _ess_warning(ess: Tensor, samples: int) -> str:
    """The weighted bound is loose, and its error misleads, where few samples carry the weight."""
    few = int((ess < min(10.0, samples / 2)).sum())
    if samples == 1 or few <= 0.1 * len(ess):
        return ""
    return (
        f"{few} of {len(ess)} rows have an effective sample size below {min(10, samples // 2)} of {samples}: "
        "the bound is loose there; use more samples"
    )


def _join(*warnings: str) -> str:
    return "; ".join(warning for warning in warnings if warning)
