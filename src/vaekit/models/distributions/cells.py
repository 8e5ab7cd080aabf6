"""Densities of single cells of a row, of which some may not have been observed."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.errors import SpecError
from vaekit.models.distributions.base import Mass, unwrapped
from vaekit.models.distributions.support import name_of, support_of


@runtime_checkable
class OverCells(Protocol):
    """A distribution of cells of different kinds."""

    def log_prob_of_cells(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """ln p of each cell, (..., *event): see `cell_log_prob`; cells that are left out may hold any number."""
        ...


@runtime_checkable
class OverHoles(Protocol):
    """A distribution of rows and of which of their cells are missing."""

    def log_prob_with_holes(self, x: Tensor, mask: Tensor) -> Tensor:
        """ln p of the observed cells of x (batch, *event), and of the mask, which is True for these."""
        ...


def observed(x: Tensor, mask: Tensor | None) -> Tensor:
    """x with 0 where nothing was observed, so that nothing depends on what is stored there.

    Args:
        x: (batch, *event).
        mask: True where a cell is observed, of the shape of x; None where all are.

    Raises:
        TypeError: The mask is not of booleans.
        SpecError: It has another shape than x.
    """
    if mask is None:
        return x
    if mask.dtype != torch.bool:
        raise TypeError(f"the mask is {str(mask.dtype).removeprefix('torch.')}: give booleans, True where observed")
    if mask.shape != x.shape:
        raise SpecError(
            f"the mask has shape {tuple(mask.shape)} and x {tuple(x.shape)}: give one boolean for each cell of x",
            field="mask",
        )
    return torch.where(mask, x, 0)


def cell_log_prob(px: Distribution, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """ln p of each cell of rows, (..., batch, *event), under a distribution whose cells are independent.

    Args:
        px: With batch shape (..., batch).
        x: (batch, *event).
        mask: True where a cell is observed; of the others, ln p is 0, and so are all gradients.

    Returns:
        In double precision where `px` computes in it.

    Raises:
        SpecError: The cells of `px` are not independent.
    """
    base = unwrapped(px)
    if isinstance(base, OverCells):
        log_p = base.log_prob_of_cells(x, mask)
    else:
        if not factorises(px):
            raise SpecError(
                f"the likelihood ({name_of(px)}) ties the cells of a row to one another, so that it has no density of "
                "single cells, which missing cells need: take one that factorises, such as Gaussian or Categorical",
                field="mask",
            )
        filled = x if mask is None else filled_within(x, mask, support_of(base))
        log_p = base.log_mass(filled) if isinstance(base, Mass) else base.log_prob(filled)
    return log_p if mask is None else torch.where(mask, log_p, 0)


def observed_log_prob(px: Distribution, x: Tensor, mask: Tensor | None) -> Tensor:
    """ln p of the observed cells of rows, (..., batch): of all of them, where there is no mask."""
    if mask is None:
        return px.log_prob(x)
    if isinstance(px, OverHoles):
        return px.log_prob_with_holes(x, mask)
    log_p = cell_log_prob(px, x, mask)
    total = log_p.reshape(*log_p.shape[: log_p.dim() - len(px.event_shape)], -1).sum(-1)
    return total.to(getattr(unwrapped(px), "dtype", total.dtype))


def factorises(px: Distribution) -> bool:
    """Whether the cells of a row are independent."""
    base = unwrapped(px)
    return base.event_shape == () and not getattr(base, "is_coupled", False)


def filled_within(x: Tensor, mask: Tensor, support: constraints.Constraint | None) -> Tensor:
    """x with a value of the support where none was observed."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None:
        value = 0 if high is None else high - 1
    elif high is None:
        value = low + 1
    else:
        value = low if getattr(support, "is_discrete", False) else (low + high) / 2
    if isinstance(value, Tensor):
        return torch.where(mask, x, value.to(x.dtype))
    return torch.where(mask, x, value if x.is_floating_point() else int(value))
