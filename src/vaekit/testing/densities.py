"""Whether exp(log_prob) adds up to 1 and samples follow it: by quadrature, or by identities that need no integral."""

import math
import warnings

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from vaekit.models.distributions import measure, support_of
from vaekit.models.distributions.noise import draw_from
from vaekit.randomness import new_generator
from vaekit.testing.basics import OneRow, named, require

MOST_SIGMA = 5.0  # between a mean over samples and the same mean by quadrature: one in 1.7 million fails by chance
SAMPLES = 10_000
LEVELS = (65, 33)  # quantiles that a quadrature over one number starts from
GRIDS = (191, 141)  # points along each of two axes; an integral counts where both agree
ROUNDS = 60  # of halving the intervals of a quadrature over one number
COMPARED = 4_000  # samples on each side of a comparison without quadrature
CELLS = 1_000  # samples of a discrete distribution in it
CENTRES = 200  # of the kernel density estimate in it
NEAREST = 10  # neighbours that set the bandwidth of a kernel
FAILURE_RATE = 1e-6  # of one statistic in such a comparison, for a right part
MOST_NUMBERS = 7  # of a real value that is compared so
OFF_BY = {1: 2e-3, 2: 2e-2}  # what an integral may differ from 1 by
SEVERAL = 50_000  # points at a time
MOST_COUNTED = 100_000  # values of an unbounded count


@torch.no_grad()
def check_density(p: Distribution) -> None:
    """Fail unless exp(log_prob) adds up to 1, and means over samples are those under it."""
    numbers = p.event_shape.numel()
    sure = numbers in OFF_BY and not (numbers == 2 and isinstance(p, OneRow)) and _check_integral(p)
    if not sure and measure(p) == "density" and numbers <= MOST_NUMBERS:
        _compare_densities(p)


def _draws(p: Distribution, n: int, seed: int) -> Tensor:
    """Samples as vaekit draws them; of a subclass of Independent, half by its own `sample`, which vaekit passes by."""
    generator, q = new_generator(seed), p.base if isinstance(p, OneRow) else p
    with named("sampling, by rsample or sample,"):
        drawn = draw_from(q, (n,), generator)
        if isinstance(q, Independent) and type(q) is not Independent:
            torch.manual_seed(seed)
            drawn[::2] = q.sample((len(drawn[::2]),))
    return (drawn.select(1, 0) if isinstance(p, OneRow) else drawn).double()


def _check_integral(p: Distribution) -> bool:
    """By quadrature in one and two dimensions; False where it does not converge."""
    x = _draws(p, SAMPLES, 4).reshape(SAMPLES, -1)
    dims = x.shape[1]
    points, mass, sure = _quadrature(p, x)
    if not sure:
        text = f"the quadrature of exp(log_prob) in {dims} dimension(s) is unsure: samples alone are compared with it"
        warnings.warn(text, stacklevel=2)
        return False
    total = float(mass.sum())
    what = "adds up" if measure(p) == "mass" else "integrates"
    require(abs(total - 1) < OFF_BY[dims], f"exp(log_prob) {what} to {total:.4f} in {dims} dimension(s), not to 1")
    centre, spread = x.median(0).values, _spread(x)
    for name, statistic in (
        ("tanh of its deviation", lambda y: torch.tanh((y - centre) / spread)),
        ("tanh of its squared deviation", lambda y: torch.tanh(((y - centre) / spread) ** 2)),
        ("product of tanh of its deviations", lambda y: torch.tanh((y - centre) / spread).prod(1, keepdim=True)),
    ):
        by_density = (mass[:, None] * statistic(points)).sum(0)
        of_samples = statistic(x)
        error = (of_samples.std(0) / math.sqrt(SAMPLES)).clamp_min(1e-9) + OFF_BY[dims] / 10
        sigmas = float(((of_samples.mean(0) - by_density) / error).abs().max())
        require(
            sigmas < MOST_SIGMA,
            f"samples do not follow log_prob: the mean {name} is {of_samples.mean(0).tolist()} over samples and "
            f"{by_density.tolist()} under the density, {sigmas:.1f} standard errors apart",
        )
    return True


def _spread(x: Tensor) -> Tensor:
    """Half the range between the quartiles, of each axis."""
    return ((x.quantile(0.75, 0) - x.quantile(0.25, 0)) / 2).clamp_min(1e-6)


def _quadrature(p: Distribution, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Points (n, dims) over the support, the mass at each, and whether their sum has converged."""
    support = support_of(p)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low = float(torch.as_tensor(getattr(support, "lower_bound", -math.inf)).min())
    high = float(torch.as_tensor(getattr(support, "upper_bound", math.inf)).max())
    if isinstance(support, type(constraints.boolean)):
        low, high = 0.0, 1.0
    if support is not None and support.is_discrete:
        top = min(high, max(float(x.max()) * 20, 1000.0), MOST_COUNTED)
        values = torch.arange(low, top + 1, dtype=torch.float64)[:, None]
        return values, _log_density(p, values).exp(), True
    if x.shape[1] == 1:
        (points, mass, sure), (_, again, too) = (_adaptive(p, x[:, 0], low, high, count) for count in LEVELS)
        return points, mass, sure and too and abs(float(mass.sum() - again.sum())) < OFF_BY[1] / 10
    (points, mass), (_, again) = (_grid(p, x, low, high, count) for count in GRIDS)
    return points, mass, abs(float(mass.sum() - again.sum())) < OFF_BY[2] / 10


def _log_density(p: Distribution, points: Tensor) -> Tensor:
    """log_prob (n,) of points (n, dims); minus infinity where it is not defined."""
    found = torch.cat([p.log_prob(part.reshape(-1, *p.event_shape)) for part in points.split(SEVERAL)]).double()
    return found.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)


def _grid(p: Distribution, x: Tensor, low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Points of a grid over two axes, and the mass at each."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    if math.isfinite(low) and math.isfinite(high):
        axes = [(low + (high - low) * u, torch.full_like(u, (high - low) / count))] * 2
    else:  # by the quantiles of a Cauchy distribution, whose tails are heavier than most
        angle = math.pi * (u - 0.5)
        middles = zip(x.median(0).values, _spread(x), strict=True)
        axes = [(m + w * angle.tan(), math.pi * w / angle.cos() ** 2 / count) for m, w in middles]
    points, weights = (torch.cartesian_prod(axes[0][i], axes[1][i]) for i in range(2))
    return points, weights.prod(1) * _log_density(p, points).exp()


def _adaptive(p: Distribution, x: Tensor, low: float, high: float, count: int) -> tuple[Tensor, Tensor, bool]:
    """Quadrature over one number: intervals between quantiles of samples are halved until each has converged."""
    middle, width = x.median(), _spread(x[:, None])[0]

    def of(y: Tensor) -> tuple[Tensor, Tensor]:
        """The number at y, and ln of its derivative; tails of any weight are in reach."""
        if math.isfinite(low) and math.isfinite(high):
            return y, torch.zeros_like(y)
        if math.isfinite(low):
            return low + width * y.exp(), width.log() + y
        return middle + width * y.sinh(), width.log() + torch.logaddexp(y, -y) - math.log(2)

    if math.isfinite(low) and math.isfinite(high):
        ends, known = (low, high), x
    elif math.isfinite(low):
        ends, known = (-200.0, 100.0), ((x - low) / width).clamp_min(1e-80).log()
    else:
        ends, known = (-100.0, 100.0), ((x - middle) / width).asinh()
    known = known.sort().values
    gaps = known.diff().topk(count // 4).indices  # no interval from the midst of one mode to that of another
    levels = known.quantile(torch.linspace(0, 1, count, dtype=torch.float64))
    far = torch.linspace(*ends, 33, dtype=torch.float64)
    edges = torch.cat([levels, known[gaps], known[gaps + 1], far]).clamp(*ends).unique()
    start, end = edges[:-1], edges[1:]
    at = torch.tensor([0.0, math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 3, math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 3])
    share = torch.tensor([128 / 225, (322 + 13 * math.sqrt(70)) / 900, (322 - 13 * math.sqrt(70)) / 900])
    nodes = torch.cat([at, -at[1:]]).double()  # Gauss-Legendre with five points
    shares = torch.cat([share, share[1:]]).double() / 2

    def masses(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        value, log_slope = of((start + end)[:, None] / 2 + (end - start)[:, None] / 2 * nodes)
        log_p = _log_density(p, value.reshape(-1, 1)).reshape(value.shape)
        return value, (log_p + log_slope).exp() * shares * (end - start)[:, None]

    _, mass = masses(start, end)
    points, found = [], []
    for _ in range(ROUNDS):
        halfway = (start + end) / 2
        start, end = torch.stack([start, halfway], 1).flatten(), torch.stack([halfway, end], 1).flatten()
        value, finer = masses(start, end)
        off = (finer.sum(1).reshape(-1, 2).sum(1) - mass.sum(1)).abs() > OFF_BY[1] / 1000
        again = off.repeat_interleave(2)
        points.append(value[~again].flatten())
        found.append(finer[~again].flatten())
        start, end, mass = start[again], end[again], finer[again]
        if not len(start) or len(start) > SEVERAL:
            break
    return torch.cat(points)[:, None], torch.cat(found), not len(start)


def _directions(numbers: int) -> Tensor:
    """The axes, and as many random directions again."""
    random = torch.randn(numbers, numbers, dtype=torch.float64, generator=new_generator(6))
    return torch.cat([torch.eye(numbers, dtype=torch.float64), random / random.norm(dim=0)], 1)


def _statistics(x: Tensor) -> Tensor:
    """Bounded statistics (n, many) of x (n, dims) in units of its spread: the first is 1, others catch dependence."""
    along = torch.tanh(x @ _directions(x.shape[1]))
    i, j = torch.triu_indices(x.shape[1], x.shape[1], 1)
    pairs = along[:, i] * along[:, j]
    return torch.cat([torch.ones_like(x[:, :1]), along, along**2, pairs], 1)


def _compare_densities(p: Distribution) -> None:
    """Samples of p and of a known r near it, by an identity in which nothing is unbounded.

    For every h, E_p[h r / (p + r)] = E_r[h p / (p + r)], if samples of p follow exp(log_prob) and that integrates to 1
    (Meng and Wong, 1996, "Simulating ratios of normalizing constants", equation 2.2, with ratio 1). r is a kernel
    density estimate from other samples, so it is near p whatever its modes and tails.
    """
    x = _draws(p, COMPARED + CENTRES, 7).reshape(COMPARED + CENTRES, -1)
    spread, middle = _spread(x), x.median(0).values
    unit = (x - middle) / spread
    unit, centres = unit[CENTRES:], unit[:CENTRES]
    dims = unit.shape[1]
    nearest = torch.cdist(centres, centres).kthvalue(NEAREST + 1, 1).values
    widths = (nearest / math.sqrt(dims)).clamp_min(1e-9)
    generator = new_generator(8)
    which = torch.randint(CENTRES, (COMPARED,), generator=generator)
    noise = torch.randn(COMPARED, dims, dtype=torch.float64, generator=generator)
    proposed = centres[which] + widths[which, None] * noise

    def gap(y: Tensor) -> Tensor:
        """Ln p - ln r."""
        each = -0.5 * (torch.cdist(y, centres) / widths) ** 2 - dims * (widths.log() + 0.5 * math.log(2 * math.pi))
        log_r = each.logsumexp(1) - math.log(CENTRES) - spread.log().sum()
        value = middle + spread * y
        log_p, support = _log_density(p, value), support_of(p)
        if support is not None:
            inside = support.check(value.reshape(-1, *p.event_shape))
            log_p = log_p.where(inside.reshape(len(y), -1).all(1), -math.inf)
        return log_p - log_r

    _agree(
        torch.sigmoid(-gap(unit))[:, None] * _statistics(unit),
        torch.sigmoid(gap(proposed))[:, None] * _statistics(proposed),
        f"in {dims} dimension(s)",
    )


@torch.no_grad()
def compare_directions(p: Distribution) -> None:
    """Compare samples on the unit sphere with a density over it, as `_compare_densities` does; r is uniform there."""
    x = _draws(p, COMPARED, 7)
    dims = x.shape[-1]
    uniform = torch.randn(COMPARED, dims, dtype=torch.float64, generator=new_generator(8))
    uniform = uniform / uniform.norm(dim=-1, keepdim=True)
    log_area = math.log(2) + dims / 2 * math.log(math.pi) - math.lgamma(dims / 2)
    _agree(
        torch.sigmoid(-_log_density(p, x) - log_area)[:, None] * _statistics(x),
        torch.sigmoid(_log_density(p, uniform) + log_area)[:, None] * _statistics(uniform),
        f"on the sphere in {dims} dimension(s)",
    )


@torch.no_grad()
def compare_cells(p: Distribution) -> None:
    """Compare how often samples lie in cells that other samples were in with the probabilities of those cells."""
    rows = _draws(p, CELLS, 9).reshape(CELLS, -1)
    cells, inverse = rows.unique(dim=0, return_inverse=True)
    known = torch.zeros(len(cells), dtype=torch.bool)
    known[inverse[: CELLS // 2]] = True
    log_p = _log_density(p, cells[known])
    total = float(log_p.exp().sum())
    require(total < 1 + OFF_BY[1], f"exp(log_prob) adds up to {total:.4f} over {len(log_p)} values, not to at most 1")
    signs = torch.randn(len(cells), 16, dtype=torch.float64, generator=new_generator(6)).sign()
    signs[:, 0] = 1
    signs[~known] = 0
    by_density = (log_p.exp()[:, None] * signs[known]).sum(0, keepdim=True)
    _agree(signs[inverse[CELLS // 2 :]], by_density, f"over {len(log_p)} values")


def _agree(of_samples: Tensor, by_density: Tensor, where: str) -> None:
    """Means of as many values in [-1, 1], or means and exact numbers, agree to what is left to chance.

    By the empirical Bernstein bound: Maurer and Pontil, 2009, arXiv 0907.3740, theorem 4.
    """
    difference = of_samples - by_density
    n, log_rate = len(difference), math.log(4 / FAILURE_RATE)
    bound = (2 * difference.var(0) * log_rate / n).sqrt() + 14 * log_rate / (3 * (n - 1))
    first, second = of_samples.mean(0), by_density.mean(0)
    ratio = (first - second).abs() / bound
    worst = int(ratio.argmax())
    require(
        float(ratio[worst]) < 1,
        f"samples do not follow log_prob {where}, or exp(log_prob) does not add up to 1: a statistic is "
        f"{first[worst]:.4f} over samples and {second[worst]:.4f} under log_prob, {ratio[worst]:.1f} times what "
        f"is left to chance once in {1 / FAILURE_RATE:,.0f}",
    )
