"""Rows through a network in blocks of one fixed shape.

Matrix products choose their kernel by shape, and kernels round differently. So in blocks of one shape a row's result
does not depend, to the last bit, on its neighbours or on how many there are. Nor does it depend on its place, where the
widths of the layers are multiples of 8; a product with at most 8 columns of other depths rounds by the alignment of the
row in memory, which its place decides.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BLOCK = 256  # rows: products are within a tenth of full speed, and a few rows alone do not cost much more


def blocks_of(rows: int) -> Iterator[slice]:
    """The rows of each block; no rows make one empty block, so that a result has a shape."""
    for start in range(0, max(rows, 1), BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def filled(x: Tensor) -> Tensor:
    """x (rows, ...) as a whole block: its last row is repeated, which any network takes that takes the others."""
    missing = BLOCK - len(x)
    return x if missing == 0 else torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])


def in_blocks(compute: Callable[..., tuple[Tensor, ...]], x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """What `compute` gives for each row of x (rows, ...): tensors (rows, ...), computed a block at a time.

    compute: from BLOCK rows of x, and of what else is given, to tensors with a row for each of them, which depends on
        that row alone.
    """
    if len(x) == 0:
        raise ValueError("got no rows: at least one is needed")
    given = (x, *others)
    found = [
        [y[: rows.stop - rows.start] for y in compute(*(filled(part[rows]) for part in given))]
        for rows in blocks_of(len(x))
    ]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


@torch.no_grad()
def simulated_in_blocks(
    block: Callable[[Tensor | None], tuple[Tensor, ...]], n: int, context: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The first n rows of x, and of the latents, of blocks that are drawn one after the other, each for its context."""
    if n < 0:
        raise ValueError(f"n is {n}: the number of rows to draw should be at least 0")
    if context is not None and len(context) != n:
        raise ValueError(f"the context has {len(context)} rows, and {n} are to be drawn: give one for each of them")
    found = []
    for rows in blocks_of(n):
        drawn = block(None if context is None else filled(context[rows]))
        found += [[part[: rows.stop - rows.start] for part in drawn]]
    x, *latents = (torch.cat(parts) for parts in zip(*found, strict=True))
    return x, tuple(latents)
