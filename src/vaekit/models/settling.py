"""Modules that learn from batches by other means than gradients, such as running means."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor itself: the sum over one process, and the rows of one."""
    return tensor


@runtime_checkable
class Settling(Protocol):
    """A module whose forward pass notes statistics of the batch, and takes them in after the weights are updated.

    A batch may come in several forward passes, and be divided among several processes.
    """

    def settle(self, total: Reduce = unchanged, gather: Reduce = unchanged) -> None:
        """Take in what was noted of the batch, and drop the notes.

        Args:
            total: The sum of a tensor over all processes that divide the batch.
            gather: The rows of a tensor (n, ...) of all processes.
        """
        ...

    def forget(self) -> None:
        """Drop what was noted."""
        ...
