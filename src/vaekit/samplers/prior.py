"""Sampling z from the model's own prior."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from vaekit.data import Rows, StreamedRows
from vaekit.models import VAE, HierarchicalVAE
from vaekit.spec import spec


@spec
class FromPrior:
    """z from the model's own prior, p(z)."""

    kind: Literal["prior"] = "prior"

    is_prior = True

    def of_model(self, model: VAE | HierarchicalVAE, rows: Callable[[], Rows | StreamedRows]) -> nn.Module:
        """The prior itself; no rows are read."""
        return model.prior

    def __str__(self) -> str:
        return "the prior"
