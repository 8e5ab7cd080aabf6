"""What a use needs of a trained run."""

from typing import Any, Protocol, runtime_checkable

import torch

from vaekit.data import Dataset, Rows, Schema, StreamedRows


@runtime_checkable
class Trained(Protocol):
    """A trained model, the schema of its data, and rows of these as the model takes them: see `TrainedRun`."""

    @property
    def model(self) -> Any:
        """The model, in evaluation mode."""
        ...

    @property
    def schema(self) -> Schema:
        """Of the data that it was trained on."""
        ...

    def data(self) -> Dataset:
        """The data that it was trained on."""
        ...

    def rows(self, data: Any = None, context: Any = None) -> Rows | StreamedRows:
        """Rows as the model takes them, from rows as they are stored."""
        ...


def device_of(trained: Trained) -> torch.device:
    """Where the model is."""
    return next(trained.model.parameters()).device
