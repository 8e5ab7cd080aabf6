"""Independent columns of different kinds, and columns of categories."""

from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.distributions.base import Mass
from vaekit.models.distributions.bernoulli import Bernoulli
from vaekit.models.distributions.categorical import Categorical
from vaekit.models.distributions.cells import cell_log_prob
from vaekit.models.distributions.noise import draw_from
from vaekit.models.distributions.support import support_of


class Categories(Categorical):
    """Of columns with different numbers of categories: codes 0, 1, ... below the number of each.

    Its mean is the most probable code: codes are names, which have none.

    Args:
        logits: (..., columns, most), -inf from each column's number on.
        counts: Of categories, (columns,).
    """

    def __init__(self, logits: Tensor, counts: Tensor):
        self.counts = counts
        super().__init__(logits)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.counts - 1)

    @property
    def mean(self) -> Tensor:
        return self.log_probs.argmax(-1).to(self.log_probs.dtype)


class Cells(Mass):
    """Of the cells of rows (..., *event), each of one of several parts.

    Log-densities are added up in double precision, as the masses among them are computed in it. The mean of a column of
    categories is the most probable.

    Args:
        parts: Each over some of the cells, with batch shape (..., its cells).
        places: Which cells each part is over, (its cells,) int64, in the order of a row that is flat.
        order: Where each cell stands in all `places`, one after the other, (cells,) int64.
        like: A tensor of its type, (..., *event).
    """

    def __init__(self, parts: Sequence[Distribution], places: Sequence[Tensor], order: Tensor, like: Tensor):
        self.parts, self.places, self.order = tuple(parts), tuple(places), order
        self._like = like
        self.event = tuple(like.shape[len(parts[0].batch_shape) - 1 :])
        super().__init__(like)

    @property
    def support(self) -> constraints.Constraint:
        return _OfCells(self)

    @property
    def mean(self) -> Tensor:
        return self._joined([_centre(part) for part in self.parts])

    @property
    def variance(self) -> Tensor:
        return self._joined([part.variance for part in self.parts])

    def log_prob_of_cells(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """ln p of each cell, (..., *event); 0, and without a gradient, where the mask is False."""
        x, mask = self._flat(x), None if mask is None else self._flat(mask)
        return self._joined(
            [
                cell_log_prob(part, _of(x, places), None if mask is None else _of(mask, places))
                for part, places in zip(self.parts, self.places, strict=True)
            ]
        )

    def log_mass(self, value: Tensor) -> Tensor:
        return self.log_prob_of_cells(value)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            drawn = [draw_from(part, tuple(Size(sample_shape))) for part in self.parts]
            return self._joined([part.to(self.dtype) for part in drawn])

    def of_cells(self, cells: Tensor, number: Callable[[Distribution], Tensor]) -> Tensor:
        """A number of the distributions of some cells, (..., len(cells)): only parts that they are among are evaluated.

        Args:
            cells: Their places in a row that is flat, int64.
            number: From a part to a number of each of its cells, (..., its cells).
        """
        found = self._like.new_zeros((*self._like.shape[: -len(self.event)], len(cells)))
        for part, places in zip(self.parts, self.places, strict=True):
            wanted, there = (cells[:, None] == places).nonzero(as_tuple=True)
            if len(wanted):
                found[..., wanted] = number(part)[..., there].to(found.dtype)
        return found

    def means_of(self, cells: Tensor) -> Tensor:
        """The means of some cells, (..., len(cells))."""
        return self.of_cells(cells, _centre)

    def part_of(self, column: int) -> tuple[Distribution, constraints.Constraint | None]:
        """The distribution that a column is among, and where its own values may lie."""
        for part, places in zip(self.parts, self.places, strict=True):
            if column in places.tolist():
                support = support_of(part)
                if isinstance(part, Categories):
                    support = constraints.integer_interval(0, int(part.counts[places.tolist().index(column)]) - 1)
                return part, support
        raise IndexError(f"there is no column {column}")

    def check(self, value: Tensor) -> Tensor:
        """Whether each cell holds a value that it can hold."""
        flat, found = self._flat(value), []
        for part, places in zip(self.parts, self.places, strict=True):
            cells, support = _of(flat, places), support_of(part)
            found += [cells.isfinite() if support is None else support.check(cells)]
        return self._joined(found)

    def _flat(self, x: Tensor) -> Tensor:
        return x if len(self.event) == 1 else x.flatten(x.dim() - len(self.event))

    def _joined(self, found: Sequence[Tensor]) -> Tensor:
        """Numbers of the cells of each part, (..., its cells), as those of a row."""
        flat = found[0] if len(found) == 1 else torch.cat(list(found), -1).index_select(-1, self.order)
        return flat if len(self.event) == 1 else flat.unflatten(-1, self.event)


class _OfCells(constraints.Constraint):
    """Of cells with different supports."""

    def __init__(self, cells: Cells):
        self.cells = cells

    @property
    def is_discrete(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(support is not None and support.is_discrete for support in map(support_of, self.cells.parts))

    def check(self, value: Tensor) -> Tensor:
        return self.cells.check(value)

    def __repr__(self) -> str:
        return "columns of several kinds"


def _of(x: Tensor, places: Tensor) -> Tensor:
    return x if len(places) == x.shape[-1] else x.index_select(-1, places)


def _centre(part: Distribution) -> Tensor:
    """The mean of each number, or the most probable of two categories."""
    return (part.logits > 0).to(part.logits.dtype) if isinstance(part, Bernoulli) else part.mean
