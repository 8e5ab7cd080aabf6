"""Sampling z from the aggregated posterior."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from vaekit.data import Rows, StreamedRows
from vaekit.models import VAE, HierarchicalVAE
from vaekit.models.distributions.base import Unchecked
from vaekit.models.distributions.noise import draw_from
from vaekit.spec import spec

Posterior = Callable[[Tensor], Distribution]


class AggregatedPosterior(Unchecked):
    """q(z) = (1/N) sum_n q(z|x_n) over training rows: a row at random, then z from its posterior. No density.

    Args:
        posterior: q(z|x) of a batch.
        take: x of the rows with these numbers, (batch,) int64.
        rows: N.
    """

    def __init__(self, posterior: Posterior, take: Callable[[Tensor], Tensor], rows: int):
        self.posterior, self.take, self.rows = posterior, take, rows
        super().__init__(Size(), posterior(take(torch.zeros(1, dtype=torch.int64))).event_shape)

    def sample(self, sample_shape=()) -> Tensor:
        shape = Size(sample_shape)
        z = draw_from(self.posterior(self.take(torch.randint(self.rows, (shape.numel(),)))))
        return z.reshape(*shape, *self.event_shape)


class Aggregated(nn.Module):
    """The aggregated posterior as a sampler; its weights stay the model's.

    Args:
        posterior: See `AggregatedPosterior`.
        take: See `AggregatedPosterior`.
        rows: See `AggregatedPosterior`.
    """

    def __init__(self, posterior: Posterior, take: Callable[[Tensor], Tensor], rows: int):
        super().__init__()
        self.q = AggregatedPosterior(posterior, take, rows)

    def forward(self) -> Distribution:
        return self.q


@spec
class FromAggregated:
    """z from the aggregated posterior: q(z|x) of training rows drawn at random."""

    kind: Literal["aggregated"] = "aggregated"

    def __str__(self) -> str:
        return "the aggregated posterior (q(z|x) of random training rows)"

    def of_model(self, model: VAE | HierarchicalVAE, rows: Callable[[], Rows | StreamedRows]) -> Aggregated:
        """The aggregated posterior of the first group of latents."""
        train = rows()
        return Aggregated(lambda x: model.encode(x).posteriors[0], train.batch, len(train))
