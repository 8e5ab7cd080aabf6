"""The terms of the rate: the aggregate posterior q(z) = E_data q(z|x), and its distance from the prior."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.data import Rows, StreamedRows
from vaekit.evaluation.blocks import BLOCK, Block, Blocks, Data, evaluating
from vaekit.evaluation.checks import NO_DENSITY, Progress, check_some, draw_of_first
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.evaluation.results import NATS, label_of
from vaekit.models.distributions.hamiltonian import Refined
from vaekit.models.drawing import Latent
from vaekit.models.vae import Draw, Model
from vaekit.processes import World

ROWS = 10_000
GROUPS = 20  # of rows, left out in turn: a divisor of BLOCK
OVERLAP = 10  # rows that a z must fit on average, for the rows to stand for a distribution
NAMES = ("rate", "mutual_information", "marginal_kl", "total_correlation", "dimension_wise_kl")
OF_ONE_PRIOR = ("marginal_kl", "dimension_wise_kl")
NOT_SINGLE = "gives no density of each dimension of z by itself"
HELD_DOWN = ("mutual_information", "marginal_kl", "total_correlation")


def aggregate_posterior(
    model: Model,
    data: Data,
    rows: int = ROWS,
    *,
    seed: int = 0,
    context: Tensor | None = None,
    progress: Progress | None = None,
    world: World | None = None,
    mask: Tensor | None = None,
) -> dict[str, Estimate]:
    """The terms of the mean rate, with q(z) the mean of q(z|x) over the first N of the rows `data`, in nats.

    E KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)), and
    KL(q(z) || p(z)) = KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)).

    - `rate`: the left side, sampled at the z that all the others are sampled at.
    - `mutual_information`: I(x; z), how much z says about which row it came from; at most ln N.
    - `marginal_kl`: KL(q(z) || p(z)), the most that a better prior could gain with this posterior; the best is q(z).
    - `total_correlation`: the first part of that, how much the dimensions of z depend on one another.
    - `dimension_wise_kl`: the second part, how far each is from its prior.

    One z is drawn for each row, and ln q(z) = ln 1/N sum_m q(z|x_m) is exact over the N rows, which takes N^2
    densities. Where nearly every z fits its own row alone, I(x; z) is held down to ln N, and KL(q(z) || p(z)) is too
    large by as much, for the distribution that the rows came from; a warning says so.

    The error of the rate is the spread over rows. The others have every row in every other's q(z), so theirs is a
    jackknife: 20 groups of rows are left out, of the mean and of q(z) alike, one and two at a time. Singly they would
    count twice what is quadratic in the rows, which is all there is where q(z) is the prior.

    The last two are None where q(z|x), or p(z), does not factorise over dimensions; those that compare q(z) with p(z)
    where that depends on a context; all for a model with several groups of latents, and where q(z|x) has no density.

    Args:
        model: A VAE, or anything with its `encode` and `draw`.
        data: x (rows, *data), in the support of the likelihood, or the rows of a split of a data set.
        rows: The largest N.
        seed: Of the noise.
        context: (rows, ...), if the model takes one.
        progress: Called with the number of rows done since the last call.
        world: Processes that divide the work; each gets the same result.
        mask: (rows, *data), True where a cell of x is observed.

    Source: Hoffman and Johnson, 2016, "ELBO surgery"; Chen et al., 2018, arXiv 1802.04942, equation 2; for the errors,
    Efron and Stein, 1981, "The jackknife estimate of variance", section 4.
    """
    check_some(data=len(data), rows=rows)
    data = data.take(rows) if isinstance(data, Rows | StreamedRows) else data[:rows]
    blocks = Blocks(model, data, seed, context, world, None if mask is None else mask[:rows])
    with evaluating(model):
        every = [
            model.encode(block.x, block.context, **block.masked).posteriors
            for block in map(blocks.block, range(math.ceil(len(data) / BLOCK)))
        ]
    draw = draw_of_first(model, blocks)
    refusal = _refusal(draw)
    if refusal:
        return {name: Estimate(None, 0.0, len(data), NATS, refusal) for name in NAMES}

    def terms_of(block: Block) -> tuple[Tensor, ...]:
        draw = model.draw(block.x, context=block.context, generator=block.generator, **block.masked)
        (latent,) = draw.latents
        if progress is not None:
            progress(len(block.x))
        return _terms(latent, [q for (q,) in every])

    found = dict(zip(NAMES, blocks.map(terms_of), strict=False))
    saturated = _saturation(found["mutual_information"][:, 0])
    estimates = {name: _estimate(term, saturated if name in HELD_DOWN else "") for name, term in found.items()}
    estimates["rate"] = mean_of(found["rate"][:, 0], NATS)
    why = dict.fromkeys(NAMES, f"the {'prior' if 'total_correlation' in found else 'posterior'} {NOT_SINGLE}")
    if draw.latents[0].p is not None and draw.latents[0].p.batch_shape:
        for name in OF_ONE_PRIOR:
            estimates.pop(name, None)
            why[name] = "p(z) depends on the context of each row, so there is no one prior for q(z) to be compared with"
    return {name: estimates.get(name, Estimate(None, 0.0, len(data), NATS, why[name])) for name in NAMES}


def _refusal(draw: Draw) -> str:
    """Why the terms are not defined for this model; empty where they are."""
    if not draw.has_bound:
        return NO_DENSITY
    if len(draw.latents) != 1:
        return "q(z|x) of several groups of latents, each given the ones above it, is not a function of x alone"
    if isinstance(draw.latents[0].q, Refined):
        return "the density of z that refinement has moved is known only together with its momentum"
    return ""


def _terms(latent: Latent, every: list[Distribution]) -> tuple[Tensor, ...]:
    """The terms of each row at its one z, in the order of NAMES, as many as are defined.

    (batch, subsets) each, with q(z) over the rows of each of `_subsets`.
    """
    z, rows = latent.z[0], sum(q.batch_shape[0] for q in every)
    groups = min(GROUPS, rows)
    log_q, log_p = latent.log_q[0].double()[:, None], latent.log_p[0].double()[:, None]
    joint, single = zip(*(_mixed(q, z, groups) for q in every), strict=True)
    log_qz = _mixtures(torch.stack(joint), rows)
    found = ((log_q - log_p).expand_as(log_qz), log_q - log_qz, log_qz - log_p)
    if single[0] is None:
        return found
    log_qzj = _mixtures(torch.stack(single), rows).sum(2)
    found = (*found, log_qz - log_qzj)
    prior = None if latent.p is None else _single(latent.p)
    if prior is None:
        return found
    return (*found, log_qzj - prior.log_prob(z).flatten(1).double().sum(1, keepdim=True))


def _mixed(q: Distribution, z: Tensor, groups: int) -> tuple[Tensor, Tensor | None]:
    """ln sum_m q(z|x_m) over the rows of each group, (batch, groups), in nats.

    With it the same of each z_j, (batch, groups, dimensions), where q factorises.
    """
    single = _single(q)
    if single is None:
        return _by_group(q.log_prob(z[:, None]), groups), None
    log_q = single.log_prob(z[:, None]).flatten(2)
    return _by_group(log_q.sum(2), groups), _by_group(log_q, groups)


def _by_group(log_q: Tensor, groups: int) -> Tensor:
    """The logsumexp of (batch, rows, ...) over the rows of each group, (batch, groups, ...).

    Rows are dealt to the groups in turn, so that those that are sorted make groups that are alike.
    """
    batch, rows, *others = log_q.shape
    missing = log_q.new_full((batch, -rows % groups, *others), -math.inf)
    return torch.cat([log_q, missing], 1).unflatten(1, (-1, groups)).logsumexp(1).double()


def _subsets(groups: int) -> Tensor:
    """(subsets, groups): which groups are in: all, all but each one, all but each two of them."""
    out = torch.eye(groups)
    first, second = torch.triu_indices(groups, groups, 1)
    return 1 - torch.cat([torch.zeros(1, groups), out, out[first] + out[second]]).double()


def _mixtures(sums: Tensor, rows: int) -> Tensor:
    """ln of the mean over the rows of each of `_subsets`, (batch, subsets, ...), from ln of the sums over each group.

    Args:
        sums: Of every block, (blocks, batch, groups, ...).
        rows: N, of all groups together.
    """
    by_group = sums.logsumexp(0)
    highest, groups = by_group.amax(1, keepdim=True), by_group.shape[1]
    kept = _subsets(groups).to(sums.device)
    sizes = kept @ (torch.arange(rows, device=sums.device) % groups).bincount(minlength=groups).double()
    total = torch.einsum("sg,bg...->bs...", kept, (by_group - highest).exp()).clamp_min(1e-300).log() + highest
    return total - sizes.clamp_min(1).log().view(1, -1, *[1] * (total.dim() - 2))


def _estimate(term: Tensor, warning: str) -> Estimate:
    """The mean over rows of a term (rows, subsets), see `_terms`, and its jackknife error."""
    n = len(term)
    groups = min(GROUPS, n)
    inside = _subsets(groups).to(term.device)[:, torch.arange(n, device=term.device) % groups].T
    every, one, two = ((term * inside).sum(0) / inside.sum(0)).split([1, groups, len(term[0]) - 1 - groups])
    if groups < 3:
        return Estimate(float(every), math.nan, n, NATS, warning)
    variance = one.var(correction=0) * (groups - 1)
    first, second = torch.triu_indices(groups, groups, 1, device=term.device)
    pairs = groups * every - (groups - 1) * (one[first] + one[second]) + (groups - 2) * two
    quadratic = pairs.var(correction=0) / 2
    return Estimate(float(every), float((variance - quadratic).clamp_min(variance / 2).sqrt()), n, NATS, warning)


def _single(distribution: Distribution) -> Distribution | None:
    """The distributions of single dimensions, if they are independent of one another."""
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    one_number = not base.event_shape and isinstance(distribution, Independent)
    return base if one_number else None


def _saturation(information: Tensor) -> str:
    n, mean = len(information), float(information.mean())
    if mean < math.log(n / OVERLAP):
        return ""
    return (
        f"a z fits {n * math.exp(-mean):.1f} of the {n} rows on average, too few to stand for the distribution behind "
        f"them: I(x; z), at most ln {n} = {math.log(n):.2f} nats, is too small, and {label_of('marginal_kl')} "
        "too large; use more rows"
    )
