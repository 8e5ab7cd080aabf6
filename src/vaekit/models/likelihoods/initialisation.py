"""Best constants where none has a formula: what heads start from."""

from collections.abc import Callable

import torch
from torch import Tensor


def climbed(score: Callable[[Tensor], Tensor], raw: Tensor, rounds: int) -> Tensor:
    """Raw numbers that maximise a score, from a start near them, each by steps of a size of its own.

    The score is a sum of terms, each of a few of the numbers, so that the sign of a slope says which way to go
    (Riedmiller and Braun, 1993: resilient propagation).
    """
    with torch.enable_grad():
        raw = raw.detach().clone().requires_grad_()
        optimiser = torch.optim.Rprop([raw], lr=0.1, step_sizes=(1e-7, 1.0))
        for _ in range(rounds):
            raw.grad = -torch.autograd.grad(score(raw), raw)[0]
            optimiser.step()
    return raw.detach()


def counts_of_levels(x: Tensor, levels: int) -> Tensor:
    """How often each column of x (n, *event) has each level, (levels, columns)."""
    x = x.flatten(1).long()
    columns = x.shape[1]
    cells = x * columns + torch.arange(columns, device=x.device)
    return torch.bincount(cells.flatten(), minlength=levels * columns).reshape(levels, columns)


def shares_of_levels(x: Tensor, levels: int) -> Tensor:
    """The same as shares of 1, as if there had been one row more, with a share of every level."""
    return (counts_of_levels(x, levels).double() + 1 / levels) / (len(x) + 1)
