"""The best rates, dispersion and zeros of counts without latents, given the size of each row."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST, MOST = -9.0, 20.0  # of ln r

ENOUGH = math.log(100)  # of r over m: the Poisson is then within 3e-5 nats

HALF = 0.5  # a count, in a column without any, so that its rate is above 0; and the share of zeros first thought extra

ROUNDS, CLOSE = 40, 1e-3  # at most, and the change of ln r and of the share of zeros that ends them

SIZES = 128  # that rows are taken to have, in equal steps of ln size

MOST_NONZERO = 4_000_000  # counts above 0 that dispersion and zeros are fitted to

LEAST_ZEROS = 1e-4  # share of zeros of another kind, so that its logit is finite


class BestCounts(NamedTuple):
    """ln of the rate of each column in a row of size 1, ln r, and the logit of a zero of another kind; in fp64."""

    log_rate: Tensor
    log_inverse: Tensor
    zero_logits: Tensor


class _Terms(NamedTuple):
    """What a cell adds to sums over cells: its weight in a mean, its slope of ln p in r, and the slope of that."""

    weight: Tensor
    slope: Tensor
    bend: Tensor


def mean_rates(x: Tensor, sizes: Tensor | None = None) -> Tensor:
    """The rate of each column of x (n, *event) for each unit of size, (columns,); as if half a count were the least.

    Args:
        x: Counts.
        sizes: Of the rows, (n,); 1 by default.
    """
    counted = x.sum(0, dtype=torch.float64).clamp_min(HALF).flatten()
    return counted / (len(x) if sizes is None else sizes.sum())


def best_counts(x: Tensor, sizes: Tensor, shared: bool, zeros: bool) -> BestCounts:
    """The best negative binomial of each column, with means of rate times size.

    Rates by reweighted means, ln r by Newton's steps, zeros of another kind by expectation and maximisation, all in
    turn. Sizes are rounded to one of a few, so that zeros, which most counts are, need not be looked at one by one.

    Args:
        x: Counts (n, *event).
        sizes: Of the rows, (n,).
        shared: One r for all columns, or one for each.
        zeros: Whether some zeros are of another kind.

    Returns:
        Numbers of shape (columns,), but for a shared r.
    """
    of_all, x = mean_rates(x, sizes), x.flatten(1)
    nonzero = int(x[: max(1, MOST_NONZERO // x.shape[1])].count_nonzero())
    x = x[: max(1, MOST_NONZERO * len(x) // max(1, nonzero))] if nonzero > MOST_NONZERO else x
    few, rows_of_size, which = _rounded(sizes[: len(x)].double())
    row, column = x.nonzero(as_tuple=True)
    some, size = x[row, column].double(), few[which[row]]
    columns, n = x.shape[1], len(x)
    # of most counts there are many alike in a column, with one digamma
    alike, place = torch.stack([column, some.long()]).unique(dim=1, return_inverse=True)

    def by_column(values: Tensor) -> Tensor:
        return values.new_zeros(columns).index_add(0, column, values)

    def summed(of_zeros: Tensor, of_some: Tensor, instead_of: Tensor) -> Tensor:
        """Over the cells of each column: of zeros (sizes, columns), of counts, and what these would be as zeros."""
        return rows_of_size @ of_zeros + by_column(of_some - instead_of)

    rate = mean_rates(x, sizes[: len(x)])
    excess = of_all / rate  # of all rows over those that are left
    most = (of_all * few.mean()).log().add(ENOUGH).clamp(9.0, MOST)
    # by moments: the variance is m + m^2 / r
    mean_of_some, squares = rate[column] * size, rate**2 * (rows_of_size @ few**2)
    over = squares + by_column((some - mean_of_some) ** 2 - some - mean_of_some**2)
    if shared:
        most, squares, over = most.max(), squares.sum(), over.sum()
    log_r = torch.where(over > 0, squares / over.clamp_min(1e-300), math.exp(MOST)).log().clamp_min(LEAST).minimum(most)
    extra = HALF * (n - by_column(torch.ones_like(some))) / n if zeros else torch.zeros_like(rate)
    for _ in range(ROUNDS):
        r, before = log_r.exp(), extra
        r_of_some, r_of_alike = (r, r) if shared else (r[column], r[alike[0]])
        mean, mean_of_some = rate * few[:, None], rate[column] * size
        counted, counted_as_zero = _counted(mean, r, extra), _counted(mean_of_some, r_of_some, extra[column])
        if zeros:
            extra = 1 - summed(counted, torch.ones_like(some), counted_as_zero) / n
        zero, as_zero, of_some = _terms(mean, r), _terms(mean_of_some, r_of_some), _terms(mean_of_some, r_of_some, some)
        more = [
            (torch.polygamma(order, alike[1] + r_of_alike) - torch.polygamma(order, r_of_alike))[place]
            for order in (0, 1)
        ]
        weights = summed(
            counted * zero.weight * few[:, None], of_some.weight * size, counted_as_zero * as_zero.weight * size
        )
        rate = (by_column(of_some.weight * some) / weights).maximum(1e-3 * rate)
        slope = summed(counted * zero.slope, of_some.slope + more[0], counted_as_zero * as_zero.slope)
        bend = summed(counted * zero.bend, of_some.bend + more[1], counted_as_zero * as_zero.bend)
        moved = (log_r + (_newton(r, slope.sum(), bend.sum()) if shared else _newton(r, slope, bend))).clamp_min(LEAST)
        moved = moved.minimum(most)
        change = torch.maximum((moved - log_r).abs().max(), (extra - before).abs().max())
        log_r = moved
        if change < CLOSE:
            break
    return BestCounts((rate * excess).log(), log_r, extra.clamp(LEAST_ZEROS, 1 - LEAST_ZEROS).logit())


def _terms(mean: Tensor, r: Tensor, x: Tensor | float = 0.0) -> _Terms:
    """Of cells with a mean, but for the digammas of those with a count."""
    off = (mean - x) / (mean + r)
    return _Terms(1 / (1 + mean / r), off - (mean / r).log1p(), (mean / r - off) / (mean + r))


def _counted(mean: Tensor, r: Tensor, extra: Tensor) -> Tensor:
    """The probability that a zero is no extra one."""
    none = (1 - extra) * torch.exp(-r * (mean / r).log1p())
    # of large means it underflows to 0, of which no extra zeros would make 0 / 0
    return torch.where(extra > 0, none / (extra + none), 1.0)


def _newton(r: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
    """The step in ln r, of length 1 at most, from the slope of ln p in r and the slope of that."""
    bend = r * slope + r**2 * bend
    return torch.where(bend < 0, -r * slope / bend, slope.sign()).clamp(-1, 1)


def _rounded(sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A few sizes, how many rows have each, and which of them each row has; the mean over rows stays."""
    logs = sizes.log()
    step = ((logs.max() - logs.min()) / SIZES).clamp_min(1e-12)
    _, which, rows = ((logs - logs.min()) / step).floor().unique(return_inverse=True, return_counts=True)
    rows = rows.to(sizes.dtype)
    return sizes.new_zeros(len(rows)).index_add(0, which, sizes) / rows, rows, which
