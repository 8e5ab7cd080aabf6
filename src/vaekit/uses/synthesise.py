"""New rows of a table, of which some columns may be given."""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data.context import given_cells
from vaekit.errors import DataError, NotApplicable
from vaekit.evaluation.blocks import evaluating
from vaekit.models.distributions.base import unwrapped
from vaekit.models.distributions.cells import OverCells, cell_log_prob, factorises
from vaekit.models.distributions.noise import draw_from, seeded_from
from vaekit.models.generative import BLOCK
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.trained import Trained, device_of

POOL = 4096  # rows, by which it is known how probable what is given can be
MOST_DRAWN = 400_000  # rows


@runtime_checkable
class OverGiven(Protocol):
    """A distribution of rows that can be drawn from with some cells given."""

    def sample_given(self, given: Mapping[int, float]) -> tuple[Tensor, Tensor]:
        """Rows (*batch, *event) with these cells, and ln p of the given ones beside those that were drawn before."""
        ...


def synthesise(trained: Trained, n: int, *, given: Mapping[str, str] | None = None, seed: int = 0) -> Tensor:
    """New rows from the model: z from the prior, then x from p(x|z), or from p(x | given).

    With columns given, rows are drawn with these values, and each is kept with a probability in proportion to that of
    what is given beside the rest of its row (rejection sampling): so they are draws of p(x | given). Of numbers, whose
    density may be above what 4,096 rows showed, nearly so.

    Args:
        trained: A run on a table.
        n: How many.
        given: Values of columns as text, by name.
        seed: Of the noise; the first rows of many are those of few.

    Returns:
        x as the model has it, (n, columns); NaN where a cell is missing, as likelihoods that model what is missing
        have it. `TrainedRun.sample` gives them as a table.

    Raises:
        NotApplicable: Rows are no table, or are conditioned on a context, or the likelihood has no density of columns.
        DataError: There is no such column, or its values cannot be this, or hardly ever are.
    """
    generator = new_generator(seed, Purpose.GENERATE, device=device_of(trained))
    with evaluating(trained.model):
        if not given:
            return trained.model.generate(n, generator=generator)
        if trained.schema.context is not None or trained.schema.columns is None:
            raise NotApplicable(
                f"values are given of columns that the model has learned, and {trained.schema.name} is no table, or it "
                "is conditioned on other columns: give the context",
                field="given",
                value=dict(given),
            )
        return _given(trained, n, given_cells(trained.schema, given), generator, dict(given))


def _given(
    trained: Trained, n: int, cells: Mapping[int, float], generator: torch.Generator, given: Mapping[str, str]
) -> Tensor:
    kept, found, drawn, largest = [], 0, 0, -math.inf
    while found < n or drawn == 0:
        pool = [_block(trained, cells, generator) for _ in range(POOL // BLOCK)]
        x, log_p = (torch.cat(parts) for parts in zip(*pool, strict=True))
        largest = max(largest, float(log_p.max())) if drawn == 0 else largest
        u = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float64)
        accepted = x[(u.log() < log_p.double() - largest) & log_p.isfinite()]
        kept, found, drawn = [*kept, accepted], found + len(accepted), drawn + len(x)
        if drawn >= MOST_DRAWN and found < n:
            text = ", ".join(f"{name}={value}" for name, value in given.items())
            raise DataError(
                f"only {found} of {drawn} rows drawn have {text}: it is too rare under the model; give less of it",
                field="given",
                value=dict(given),
            )
    return torch.cat(kept)[:n]


def _block(trained: Trained, cells: Mapping[int, float], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows with these cells, and ln p of them."""
    x, latents = trained.model.simulate(BLOCK, generator=generator)
    px: Distribution = trained.model.decode(latents)
    if isinstance(px, OverGiven):
        with seeded_from(generator):
            return px.sample_given(cells)
    if not (factorises(px) or isinstance(unwrapped(px), OverCells)):
        raise NotApplicable(
            "the likelihood ties the cells of a row to one another, so that none of them can be given: leave given out",
            field="given",
        )
    x = draw_from(px, (), generator).clone()
    for column, value in cells.items():
        x[:, column] = value
    return x, cell_log_prob(px, x)[:, list(cells)].double().sum(1)
