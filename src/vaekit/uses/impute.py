"""Missing cells, filled from p(x_missing | x_observed): a value for each, several draws, and intervals.

With z_k from q(z|x_observed), k = 1..K, and weights w_k in proportion to p(x_observed|z_k) p(z_k) / q(z_k|x_observed),
expectations under p(x_missing|x_observed) are weighted means over the samples, and draws are x ~ p(x|z_k) at a k that
is drawn by the weights (sampling importance resampling). The weights correct what the posterior lacks, so that this
holds for an encoder that never saw a row with holes, too; how many samples carry the weight says how well.

Source: Mattei and Frellsen, 2019, "MIWAE", arXiv 1812.02633, equations 11 to 13.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data import Rows, StreamedRows
from vaekit.data.rows import inputs_of
from vaekit.errors import NotApplicable, SpecError
from vaekit.evaluation.blocks import BLOCK, Blocks, evaluating
from vaekit.evaluation.checks import check_some, draw_of_first, joined, score_warning, units_warning
from vaekit.evaluation.importance import AT_ONCE, AT_ONCE_ON_CPU, effective_samples, few_samples_warning, numbers_of
from vaekit.models.distributions.base import unwrapped
from vaekit.models.distributions.cells import cell_log_prob
from vaekit.models.distributions.columns import Cells
from vaekit.models.distributions.noise import draw_from
from vaekit.models.vae import Draw, Model
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.cells import CellFacts
from vaekit.uses.filling import Fill, filling
from vaekit.uses.trained import Trained, device_of

Progress = Callable[[int], object]
MOST_AT_ONCE = 4_000_000  # draws of missing cells whose quantiles are found at once


@dataclass(frozen=True, eq=False)
class Imputed:
    """What a model says of the missing cells of rows, m in all, row by row.

    `filled`, `draws`, `lower` and `upper` are rows like those given: of an array, an array of its type and axes; of a
    data frame or a table of Arrow, a `pyarrow.Table` with all of its columns. Observed cells are what they were.

    Attributes:
        rows: (m,) the row of each missing cell, counted from 0.
        cells: (m,) its number in the row of x, which is flat: of a table, that of its column.
        values: (m,) the mean of a number, the most probable category; in stored units, or the number of the category.
        drawn: (draws, m) draws from p(x_missing|x_observed), likewise; those of one row belong together.
        low, high: (m,) quantiles of each, NaN for categories without an order.
        level: Of the intervals from `low` to `high`.
        effective_samples: (rows with a hole,) how many of the K samples carry the weight.
        warning: What limits their meaning; empty for nothing.
        fill: From values (m,) to rows like those given.
    """

    rows: np.ndarray
    cells: np.ndarray
    values: np.ndarray
    drawn: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    effective_samples: np.ndarray
    warning: str
    fill: Fill

    @property
    def filled(self) -> Any:
        """The rows with the mean of each missing number, and the most probable category."""
        return self.fill(self.values)

    @property
    def draws(self) -> list[Any]:
        """The rows with one draw of their missing cells each: multiple imputation."""
        return [self.fill(drawn) for drawn in self.drawn]

    @property
    def lower(self) -> Any:
        """The rows with the lower end of each interval; a category without an order stays missing."""
        return self.fill(self.low)

    @property
    def upper(self) -> Any:
        """The rows with the upper end of each interval, likewise."""
        return self.fill(self.high)


@dataclass(frozen=True, eq=False)
class Holes:
    """The missing cells of one row; values are x as the model has it.

    Attributes:
        row: Its number.
        cells: (m,) which.
        values: (m,) mean or most probable category.
        drawn: (draws, m).
        low, high: (m,).
        effective_samples: Of the K.
    """

    row: int
    cells: np.ndarray
    values: np.ndarray
    drawn: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective_samples: float


def impute(
    trained: Trained,
    data: Any,
    *,
    samples: int = 1000,
    draws: int = 0,
    level: float = 0.9,
    context: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Imputed:
    """Fill the missing cells of rows from what is observed of each.

    Args:
        trained: The run.
        data: Rows as they are stored, with NaN or null where a cell is missing: an array, a tensor, a data frame, a
            table of Arrow, the name or path of data, or the rows of a split.
        samples: K, samples of q(z|x_observed) for each row.
        draws: How many draws of the missing cells to give besides.
        level: Of the intervals, between 0 and 1.
        context: Of the rows, where the model takes one; see `TrainedRun.rows`.
        seed: Of the noise, which each row has for itself: what is said of it depends on no other.
        progress: Called with the number of rows done since the last call.

    Raises:
        SpecError: The likelihood ties the cells of a row to one another, so that it has no density of some of them.
        NotApplicable: The posterior is deterministic and has no density to weigh samples by.
    """
    rows = trained.rows(data, context)
    return impute_rows(trained, rows, data, samples, draws, level, seed=seed, progress=progress)


def impute_rows(
    trained: Trained,
    rows: Rows | StreamedRows,
    data: Any,
    samples: int,
    draws: int,
    level: float,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Imputed:
    """`impute`, of rows that are read already; `data` is what they were read from."""
    rows, facts = rows.to(device_of(trained)), CellFacts(trained.schema)
    _check_restorable(trained)
    found = list(holes_of(trained.model, rows, facts, samples, draws, level, seed=seed, progress=progress))
    where = np.concatenate([np.full(len(one.cells), one.row) for one in found] or [np.zeros(0, np.int64)])
    cells = _joined([one.cells for one in found], (0,)).astype(np.int64)
    ess = torch.tensor([one.effective_samples for one in found], dtype=torch.float64)
    warning = ""
    if found:
        blocks = Blocks(trained.model, rows, seed)
        score = score_warning(draw_of_first(trained.model, blocks).px)
        warning = joined(score, units_warning(trained.model, blocks), few_samples_warning(ess, samples))
    return Imputed(
        where,
        cells,
        facts.stored(_joined([one.values for one in found], (0,)), cells),
        facts.stored(_joined([one.drawn for one in found], (draws, 0)), cells),
        facts.stored(_joined([one.low for one in found], (0,)), cells),
        facts.stored(_joined([one.high for one in found], (0,)), cells),
        level,
        ess.numpy(),
        warning,
        filling(data, rows, trained.schema, where, cells),
    )


def holes_of(
    model: Model,
    rows: Rows | StreamedRows,
    facts: CellFacts,
    samples: int,
    draws: int,
    level: float,
    *,
    seed: int,
    purpose: Purpose = Purpose.IMPUTED_ROWS,
    progress: Progress | None = None,
) -> Iterator[Holes]:
    """The missing cells of each row that has some, in order; see `impute`.

    Args:
        model: A VAE.
        rows: On its device.
        facts: Of the cells of a row.
        samples: K.
        draws: Of the missing cells.
        level: Of the intervals.
        seed: Of the noise.
        purpose: Of the noise: its key is the number of the row.
        progress: Called with the number of rows done since the last call.
    """
    check_some(data=len(rows), samples=samples)
    if draws < 0:
        raise SpecError(f"draws is {draws}: it should be at least 0", field="draws", value=draws)
    if not 0 < level < 1:
        raise SpecError(f"level is {level}: it should lie between 0 and 1, as 0.9", field="level", value=level)
    blocks = Blocks(model, rows, seed)
    first = draw_of_first(model, blocks)
    check_weighable(first)
    on_cpu = first.x.device.type == "cpu"
    at_once = max(1, (AT_ONCE_ON_CPU if on_cpu else AT_ONCE) // numbers_of(first.px))
    for number in range(math.ceil(len(rows) / BLOCK)):
        mask = blocks.mask_of(number)
        if mask is not None and not mask.all():
            x, context = blocks.x(number), blocks.context_of(number)
            for place in (~mask).flatten(1).any(1).nonzero().flatten().tolist():
                row, one = number * BLOCK + place, slice(place, place + 1)
                generator = new_generator(seed, purpose, row, device=x.device)
                inputs = inputs_of(x[one], None if context is None else context[one], mask[one])
                with evaluating(model):
                    yield _of_row(model, inputs, row, facts, samples, draws, level, at_once, generator)
        if progress is not None:
            progress(min(BLOCK, len(rows) - number * BLOCK))


def check_weighable(draw: Draw) -> None:
    """Refuse a model whose samples of z have no importance weights."""
    if not draw.has_bound:
        raise NotApplicable(
            "the posterior is deterministic and has no density, so that samples of z have no weights: take a model "
            "with another posterior"
        )


def _of_row(
    model: Model,
    inputs: Any,
    row: int,
    facts: CellFacts,
    samples: int,
    draws: int,
    level: float,
    at_once: int,
    generator: torch.Generator,
) -> Holes:
    """The missing cells of one row, from K samples of z, so many at once."""
    x, mask, context = inputs["x"], inputs["mask"], inputs.get("context")
    holes = (~mask).flatten().nonzero().flatten()
    cells = holes.cpu().numpy()
    named = np.flatnonzero(facts.categories[cells])
    code = model.encode(**inputs)
    log_w, values, centres, shares, groups = [], [], [], [], []
    for start in range(0, samples, at_once):
        count = min(at_once, samples - start)
        draw = model.draw(x, count, context=context, mask=mask, code=code, generator=generator)
        log_w += [draw.log_w[:, 0].double()]
        groups += [[latent.z for latent in draw.latents]]
        values += [_flat(draw_from(draw.px, (), generator))[:, holes]]
        centres += [_means(draw.px, holes)]
        if len(named):
            shares += [_probabilities(draw, holes[named], facts.categories[cells[named]])]
    every = torch.cat(log_w)
    weights = every.softmax(0)
    found = torch.cat(values)
    low, middle, high = _quantiles(found, weights, ((1 - level) / 2, 0.5, (1 + level) / 2))
    centre = (weights[:, None] * torch.cat(centres).double()).sum(0)
    centre = torch.where(centre.isfinite(), centre, middle)
    if len(named):
        centre[named] = torch.einsum("k,kcm->cm", weights, torch.cat(shares)).argmax(0).double()
    unordered = torch.from_numpy(~facts.ordered[cells]).to(low.device)
    low, high = (torch.where(unordered, math.nan, end) for end in (low, high))
    drawn = found[:0]
    if draws:
        chosen = torch.multinomial(weights, draws, replacement=True, generator=generator)
        z = [torch.cat(parts)[chosen] for parts in zip(*groups, strict=True)]
        drawn = _flat(draw_from(model.decode(z, context), (), generator))[:, holes]
    centre, drawn, low, high = (part.double().cpu().numpy() for part in (centre, drawn, low, high))
    return Holes(row, cells, centre, drawn, low, high, float(effective_samples(every[:, None], samples)))


def _flat(x: Tensor) -> Tensor:
    """Values (samples, 1, *data) as (samples, cells)."""
    return x.reshape(len(x), -1)


def _means(px: Distribution, cells: Tensor) -> Tensor:
    """The means of some cells, (samples, cells)."""
    base = unwrapped(px)
    return base.means_of(cells)[:, 0] if isinstance(base, Cells) else _flat(px.mean)[:, cells]


def _probabilities(draw: Draw, cells: Tensor, counts: np.ndarray) -> Tensor:
    """p(x_j = c | z) of each category of some cells, (samples, categories, cells); 0 where a cell has fewer."""
    most = torch.from_numpy(counts).to(draw.x.device)
    found = []
    for category in range(int(counts.max())):
        has = most > category
        log_p = torch.full((len(draw.log_w), len(cells)), -torch.inf, dtype=torch.float64, device=draw.x.device)
        log_p[:, has] = _log_prob_of(category, draw.px, draw.x, cells[has]).double()
        found += [log_p.exp()]
    return torch.stack(found, 1)


def _log_prob_of(category: int, px: Distribution, x: Tensor, cells: Tensor) -> Tensor:
    """ln p(x_j = category | z) of some cells, (samples, cells)."""
    base = unwrapped(px)
    if isinstance(base, Cells):
        value = torch.tensor(float(category), device=x.device)
        return base.of_cells(cells, lambda part: cell_log_prob(part, value.expand(part.batch_shape[-1:])))[:, 0]
    values, mask = torch.zeros_like(x).flatten(1), torch.zeros_like(x, dtype=torch.bool).flatten(1)
    values[:, cells], mask[:, cells] = category, True
    return _flat(cell_log_prob(px, values.reshape(x.shape), mask.reshape(x.shape)))[:, cells]


def _quantiles(values: Tensor, weights: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Weighted quantiles of values (samples, m): the least value up to which there is so much weight; (levels, m)."""
    found = []
    for part in values.double().split(max(1, MOST_AT_ONCE // len(values)), 1):
        ordered, order = part.sort(0)
        upto = weights[order].cumsum(0)
        wanted = upto.new_tensor(levels)[None, :].expand(part.shape[1], -1).contiguous()
        place = torch.searchsorted(upto.T.contiguous(), wanted).clamp_max(len(values) - 1)
        found += [ordered.gather(0, place.T)]
    return torch.cat(found, 1)


def _joined(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts, -1) if parts else np.zeros(empty)


def _check_restorable(trained: Trained) -> None:
    """Refuse rows that were binarised, whose values as stored no model knows."""
    schema = trained.schema
    if schema.stored.kind in ("levels", "unit") and schema.support.kind == "binary":
        raise NotApplicable(
            f"the model sees {schema.name} binarised, and knows no {schema.stored}: train one of the values themselves"
        )
