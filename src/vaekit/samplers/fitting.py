"""Small networks beside a model (a density of its codes, a classifier of its data), fitted by Adam in seconds.

No run, no checkpoint, no choice of optimiser: what is trained for its own sake belongs in a run.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaekit.data import Rows, StreamedRows
from vaekit.errors import SpecError, VaekitError
from vaekit.models import VAE, HierarchicalVAE
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import Quantised
from vaekit.models.distributions.support import in_words, support_of

WARM = 0.1  # of the steps, in which the learning rate rises


@runtime_checkable
class FittedSampler(Protocol):
    """A spec of a sampler that is fitted to codes: a mixture, a flow, or one from outside vaekit."""

    @property
    def kind(self) -> str:
        """Its name, by which it is chosen and kept."""
        ...

    def build(self, context: BuildContext) -> nn.Module:
        """The distribution of z of `context.event_shape`, before it is fitted: a module whose call returns it."""
        ...

    def fit(self, codes: Tensor, seed: int = 0) -> nn.Module:
        """The same, fitted to codes (n, size)."""
        ...


@runtime_checkable
class ModelSampler(Protocol):
    """A spec of a sampler that is the trained model's own: its prior, or its posteriors of training rows."""

    def of_model(self, model: VAE | HierarchicalVAE, rows: Callable[[], Rows | StreamedRows]) -> nn.Module:
        """The distribution of z: a module whose call returns it.

        Args:
            model: The trained model.
            rows: Called for the training rows.
        """
        ...


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Within, torch's global generator, from which modules draw their first weights, is ours; put back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(generator.initial_seed())
        yield


def fit_network(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    rows: int,
    *,
    steps: int,
    generator: torch.Generator,
    batch_size: int = 256,
    lr: float = 2e-3,
) -> None:
    """Minimise a loss over rows by Adam; the learning rate rises over a tenth of the steps, then falls as a cosine.

    Args:
        network: Whose weights are fitted, in place.
        loss: Of the rows with these numbers, (batch,) int64: their mean, a scalar.
        rows: How many there are; each is seen once in a random order before any is seen again.
        steps: Updates of the weights.
        generator: Of the order, on the CPU.
        batch_size: Rows of a step.
        lr: The highest learning rate.

    Raises:
        VaekitError: The loss was not finite.

    Example:
        >>> line, x = nn.Linear(1, 1), torch.linspace(0, 1, 50)[:, None]
        >>> error = lambda index: (line(x[index]) - 3 * x[index]).square().mean()
        >>> fit_network(line, error, 50, steps=500, generator=torch.Generator(), lr=0.1)
        >>> round(line.weight.item(), 1)
        3.0
    """
    optimiser = torch.optim.Adam(network.parameters(), lr)
    order = iter(())
    with torch.enable_grad():
        for step in range(steps):
            index = next(order, None)
            if index is None:
                order = iter(torch.randperm(rows, generator=generator).split(batch_size))
                index = next(order)
            for group in optimiser.param_groups:
                group["lr"] = lr * min((step + 1) / (WARM * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            value = loss(index)
            value.backward()
            if not math.isfinite(now := float(value.detach())):
                raise VaekitError(f"the loss of fitting {type(network).__name__} is {now} at step {step}")
            optimiser.step()


def check_real(q: Distribution) -> None:
    """Refuse to fit a density of vectors to codes that are none.

    Raises:
        SpecError: z is discrete, bounded, on a surface, or has more than one dimension.
    """
    support = support_of(q)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if len(q.event_shape) != 1 or support is not constraints.real or isinstance(q, Quantised):
        where = "is one of a few code vectors" if isinstance(q, Quantised) else f"lies in {in_words(support)}"
        raise SpecError(
            f"z of this model has the shape {tuple(q.event_shape)} and {where}, and a mixture or a flow is fitted "
            "to vectors of real numbers: draw from the prior or from the aggregated posterior",
            field="q",
        )
