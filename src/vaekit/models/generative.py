"""Rows through a network in blocks of one fixed shape.

Matrix products choose their kernel by shape, and kernels round differently. So in blocks of one shape a row's result
does not depend, to the last bit, on its neighbours or on how many there are. Nor does it depend on its position, where
the widths of the layers are multiples of 8; a product with at most 8 columns of other depths rounds by the alignment
of the row in memory, which its position decides.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vaekit.errors import SpecError
from vaekit.words import counted

BLOCK = 256  # rows: products are within a tenth of full speed, and a few rows alone do not cost much more


def blocks_of(rows: int) -> Iterator[slice]:
    """The rows of each block; no rows make one empty block, so that a result has a shape."""
    for start in range(0, max(rows, 1), BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def filled(x: Tensor) -> Tensor:
    """x (rows, ...) as a whole block: its last row is repeated, which any network takes that takes the others."""
    missing = BLOCK - len(x)
    return x if missing == 0 else torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])


def in_blocks(
    compute: Callable[..., tuple[Tensor, ...]], x: Tensor, *others: Tensor, **named: Any
) -> tuple[Tensor, ...]:
    """What `compute` gives for each row of x (rows, ...): tensors (rows, ...), computed a block at a time.

    Args:
        compute: From BLOCK rows of x, and of the others, to tensors with a row for each of them, which depends on that
            row alone.
        x: (rows, ...).
        others: (rows, ...) each.
        named: Likewise, by the names of arguments.

    Raises:
        SpecError: There are no rows.
    """
    if len(x) == 0:
        raise SpecError("got no rows: at least one is needed", field="x")
    given = (x, *others)

    def of(rows: slice) -> tuple[Tensor, ...]:
        by_name = {name: filled(part[rows]) for name, part in named.items()}
        return compute(*(filled(part[rows]) for part in given), **by_name)

    found = [[y[: rows.stop - rows.start] for y in of(rows)] for rows in blocks_of(len(x))]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


class Generative(ABC):
    """A model that draws new rows. Abstract.

    Attributes:
        scaling: Loc and scale, one of each or one for each column, of x = (stored - loc) / scale: how the rows that it
            was trained on were scaled, where that is known, as of a run.
    """

    scaling: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @abstractmethod
    def new_block(self, context: Tensor | None, generator: torch.Generator | None, mean: bool) -> tuple[Tensor, ...]:
        """BLOCK rows of x, and of each group of the latents that they come from: see `simulate`."""

    def generate(
        self, n: int, *, generator: torch.Generator | None = None, mean: bool = False, context: Tensor | None = None
    ) -> Tensor:
        """x (n, *data) from the model: see `simulate`."""
        return self.simulate(n, generator=generator, mean=mean, context=context)[0]

    @torch.no_grad()
    def simulate(
        self, n: int, *, generator: torch.Generator | None = None, mean: bool = False, context: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """New rows, and the latents that they come from: z from the prior, then a draw of p(x|z) or its mean.

        In blocks of one fixed shape, noise included: the first rows of many are those of few, to the last bit.

        Args:
            n: Number of rows.
            generator: Source of the noise; None for torch's global one.
            mean: Take the mean of p(x|z).
            context: (n, ...), for a model that is conditional.

        Returns:
            x (n, *data) and (z_1, ..., z_L), (n, *event) each.

        Raises:
            SpecError: n is negative, or the context has another number of rows.
        """
        if n < 0:
            raise SpecError(f"n is {n}: the number of rows to draw should be at least 0", field="n", value=n)
        if context is not None and len(context) != n:
            raise SpecError(
                f"the context has {counted(len(context), 'row')}, and {counted(n, 'is', 'are')} to be drawn: give one "
                "for each",
                field="context",
            )
        found = []
        for rows in blocks_of(n):
            drawn = self.new_block(None if context is None else filled(context[rows]), generator, mean)
            found += [[part[: rows.stop - rows.start] for part in drawn]]
        x, *latents = (torch.cat(parts) for parts in zip(*found, strict=True))
        return x, tuple(latents)
