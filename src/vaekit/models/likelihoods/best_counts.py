"""The best rates, dispersion and zeros of counts without latents, given the size of each row."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST, MOST = -9.0, 20.0  # of ln r

ENOUGH = math.log(100)  # of r over m: the Poisson is then within 3e-5 nats

HALF = 0.5  # a count, in a column without any, so that its rate is above 0; and the share of zeros first thought extra

ROUNDS = 60

LEAST_ZEROS = 1e-4  # share of the zeros of another kind, so that its logit is finite

CELLS = 8_000_000  # that dispersion and zeros are fitted to


class BestCounts(NamedTuple):
    """ln of the rate of each column in a row of size 1, ln r, and the logit of a zero of another kind; in fp64."""

    log_rate: Tensor
    log_inverse: Tensor
    zero_logits: Tensor


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

    Rates by reweighted means, r by Newton's steps in ln r, zeros of another kind by expectation and maximisation, all
    in turn. Of many columns, dispersion and zeros are fitted to the first rows.

    Args:
        x: Counts (n, *event).
        sizes: Of the rows, (n,).
        shared: One r for all columns, or one for each.
        zeros: Whether some zeros are of another kind.

    Returns:
        Numbers of shape (columns,), but for a shared r.
    """
    rate_of_all, mean_size = mean_rates(x, sizes), sizes.mean()
    first = slice(0, max(1, CELLS // max(1, x[0].numel())))
    x, sizes = x[first].flatten(1).double(), sizes[first, None].double()
    rate = mean_rates(x, sizes)
    excess = rate_of_all / rate  # what all rows have over the first ones
    place, column = x.nonzero(as_tuple=True)
    some = x[place, column]
    is_zero = x == 0
    most = ((rate * mean_size).log() + ENOUGH).clamp(9.0, MOST)
    most = most.max() if shared else most
    log_r = torch.zeros((), dtype=torch.float64, device=x.device) if shared else torch.zeros_like(rate)
    extra = HALF * is_zero.double().mean(0) if zeros else torch.zeros_like(rate)
    for _ in range(ROUNDS):
        r, mean = log_r.exp(), rate * sizes
        counted = torch.ones_like(x)
        if zeros:
            none = (1 - extra) * torch.exp(-r * (mean / r).log1p())
            counted = torch.where(is_zero, none / (extra + none), 1.0)
            extra = 1 - counted.mean(0)
        weight = counted / (1 + mean / r)
        rate = (weight * x).sum(0).clamp_min(HALF * 1e-3) / (weight * sizes).sum(0)
        log_r = (log_r + _step(some, column, counted, x, mean, r, shared)).clamp_min(LEAST).minimum(most)
    zero = extra.clamp(LEAST_ZEROS, 1 - LEAST_ZEROS)
    return BestCounts((rate * excess).log(), log_r, zero.logit())


def _step(some: Tensor, column: Tensor, counted: Tensor, x: Tensor, mean: Tensor, r: Tensor, shared: bool) -> Tensor:
    """Newton's step in ln r, of length 1 at most."""
    of_some = r if shared else r[column]
    digamma = torch.digamma(some + of_some) - torch.digamma(of_some)
    trigamma = torch.polygamma(1, some + of_some) - torch.polygamma(1, of_some)
    columns = x.new_zeros(2, x.shape[1]).index_add(1, column, torch.stack([digamma, trigamma]))
    off = (mean - x) / (mean + r)
    slope = columns[0] + (counted * (off - (mean / r).log1p())).sum(0)
    bend = columns[1] + (counted * (mean / r - off) / (mean + r)).sum(0)
    slope, bend = (slope.sum(), bend.sum()) if shared else (slope, bend)
    bend = r * slope + r**2 * bend
    return torch.where(bend < 0, -r * slope / bend, slope.sign()).clamp(-1, 1)
