"""Rows whose columns depend on one another given z: each on those before it, and so does whether it is missing."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vaekit.models.distributions.base import Unchecked
from vaekit.models.distributions.columns import Cells
from vaekit.models.distributions.noise import draw_from


class Chained(Unchecked):
    """p(x) = prod_j p(observed_j | ...) p(x_j | x_1, ..., x_(j-1)), over rows (..., columns).

    A draw has NaN where a cell is missing. The mean, which is the most probable or the mean of each column given those
    before it, has all cells.

    Args:
        raw: Numbers of all columns, and then a logit for each, that it is observed, (..., features + columns): what
            columns say of one another is added to these.
        dependence: From rows (..., columns) and the mask of their observed cells to what is added.
        cells: From raw numbers of the columns to the distribution of each.
        columns: How many there are.
    """

    def __init__(
        self,
        raw: Tensor,
        dependence: Callable[[Tensor, Tensor | None], Tensor],
        cells: Callable[[Tensor], Cells],
        columns: int,
    ):
        self.raw, self.dependence, self.cells, self.columns = raw, dependence, cells, columns
        super().__init__(raw.shape[:-1], (columns,))

    @property
    def support(self) -> constraints.Constraint:
        return self._values.support

    @property
    def mean(self) -> Tensor:
        return self._in_turn((), Cells.means_of, holes=False)[0]

    def part_of(self, column: int) -> tuple[Distribution, constraints.Constraint | None]:
        """The distribution that a column is among, and where its own values may lie."""
        return self._values.part_of(column)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_prob(value, None)

    def log_prob_with_holes(self, x: Tensor, mask: Tensor) -> Tensor:
        """ln p of the observed cells of x (batch, columns), and of the mask, which is True for these."""
        return self._log_prob(x, mask)

    def sample(self, sample_shape=()) -> Tensor:
        with torch.no_grad():
            return self._in_turn(tuple(Size(sample_shape)), _drawn, True)[0]

    def sample_given(self, given: Mapping[int, float]) -> tuple[Tensor, Tensor]:
        """Rows (*batch, columns) with these cells, and ln p of the given ones beside those that were drawn before.

        Args:
            given: Values by the number of their column, as x has them.
        """
        with torch.no_grad():
            return self._in_turn((), _drawn, True, given)

    @property
    def _values(self) -> Cells:
        return self._split(self.raw)[0]

    def _log_prob(self, x: Tensor, mask: Tensor | None) -> Tensor:
        cells, observed = self._split(self.raw + self.dependence(x, mask))
        signs = 1.0 if mask is None else 2.0 * mask.to(observed.dtype) - 1
        log_p = cells.log_prob_of_cells(x, mask) + F.logsigmoid(signs * observed)
        return log_p.sum(-1).to(self.raw.dtype)

    def _split(self, raw: Tensor) -> tuple[Cells, Tensor]:
        """The distributions of columns, and the logits that they are observed."""
        of_cells, observed = raw.split([raw.shape[-1] - self.columns, self.columns], -1)
        return self.cells(of_cells), observed

    def _in_turn(
        self,
        shape: tuple[int, ...],
        choose: Callable[[Cells, Tensor], Tensor],
        holes: bool,
        given: Mapping[int, float] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A number for each column after the other, chosen by its distribution; and ln p of those that are given."""
        x = self.raw.new_zeros(*shape, *self.batch_shape, self.columns)
        mask, log_p = torch.ones_like(x, dtype=torch.bool), torch.zeros_like(x[..., 0], dtype=torch.float64)
        for column in range(self.columns):
            cells, observed = self._split(self.raw + self.dependence(x, mask))
            if given and column in given:
                x[..., column] = given[column]
                log_p = log_p + cells.log_prob_of_cells(x)[..., column] + F.logsigmoid(observed[..., column])
                continue
            if holes:
                mask[..., column] = torch.rand_like(observed[..., column]) < observed[..., column].sigmoid()
            chosen = choose(cells, torch.tensor([column], device=x.device))[..., 0].to(x.dtype)
            x[..., column] = torch.where(mask[..., column], chosen, 0)
        return torch.where(mask, x, torch.nan), log_p


def _drawn(cells: Cells, some: Tensor) -> Tensor:
    """Draws of some cells, (..., len(some))."""
    return cells.of_cells(some, draw_from)
