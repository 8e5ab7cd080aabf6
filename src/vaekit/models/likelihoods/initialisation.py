"""Initial parameters of likelihoods that no formula gives."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaekit.randomness import fixed_generator


def maximised(score: Callable[[Tensor], Tensor], raw: Tensor, rounds: int) -> Tensor:
    """Maximise a score by resilient propagation: gradient ascent with a step size for each number.

    The score is a sum of terms, each of a few of the numbers, so that the sign of a slope says which way to go.

    Source: Riedmiller and Braun, 1993.

    Args:
        score: Of raw numbers, a scalar.
        raw: Numbers near the best.
        rounds: Steps.
    """
    with torch.enable_grad():
        raw = raw.detach().clone().requires_grad_()
        optimiser = torch.optim.Rprop([raw], lr=0.1, step_sizes=(1e-7, 1.0))
        for _ in range(rounds):
            raw.grad = -torch.autograd.grad(score(raw), raw)[0]
            optimiser.step()
    return raw.detach()


def without_gaps(x: Tensor, mask: Tensor | None) -> Tensor:
    """Rows whose every column is distributed as its observed cells are, for what looks at each column by itself.

    Each column holds its observed values, each as often as any other, give or take one, in an order that is the same
    each time.

    Args:
        x: Rows, (n, *event).
        mask: True where a cell is observed; None where all are, and the rows stay as they are.

    Returns:
        (n, *event); 0 in a column without an observed cell.
    """
    if mask is None:
        return x
    flat, seen = torch.where(mask, x, 0).flatten(1), mask.flatten(1)
    order = torch.where(seen, flat.double(), torch.inf).argsort(dim=0, stable=True)
    shuffled = torch.randperm(len(x), generator=fixed_generator()).to(x.device)
    places = shuffled[:, None] * seen.sum(0) // len(x)
    return flat.gather(0, order.gather(0, places)).reshape(x.shape)


def counts_of_levels(x: Tensor, levels: int) -> Tensor:
    """How often each column of x (n, *event) has each of the levels, (levels, columns)."""
    x = x.flatten(1).long()
    columns = x.shape[1]
    cells = x * columns + torch.arange(columns, device=x.device)
    return torch.bincount(cells.flatten(), minlength=levels * columns).reshape(levels, columns)


def shares_of_levels(x: Tensor, levels: int) -> Tensor:
    """The share of rows with each level, (levels, columns), as if one more row had had a share of every level."""
    return (counts_of_levels(x, levels).double() + 1 / levels) / (len(x) + 1)
