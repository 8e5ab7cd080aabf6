"""Expression of genes in cells, with intervals, and how much it differs between two groups of cells.

The expression of a gene in a cell is its share of the rates of p(x|z), times a library size: what would be counted of a
cell that was read so deeply. Its spread is over z from q(z|x).

Source: Lopez et al., 2018, arXiv 1709.02082 (scVI); Boyeau et al., 2019, "Deep generative models for detecting
differential expression in single cells", bioRxiv 794289 (the change between groups).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, Schema, StreamedRows
from vaekit.data.columns import listing, nearest
from vaekit.data.context import given_context
from vaekit.data.schema import SIZE as SIZE_FACTOR
from vaekit.errors import DataError, NotApplicable, SpecError
from vaekit.evaluation.blocks import BLOCK, evaluating
from vaekit.evaluation.checks import check_some
from vaekit.models.distributions.base import unwrapped
from vaekit.models.distributions.gamma import wide
from vaekit.models.protocols import OfRates
from vaekit.models.vae import Draw
from vaekit.randomness import Purpose, new_generator, numpy_generator
from vaekit.uses.trained import Trained, device_of

Progress = Callable[[int], object]
SIZE = 10_000.0  # counts of a cell, by default
CHANGE = 0.25  # log2 fold change that counts as one, by default, as in scvi-tools
ABSENT = 0.9  # quantile, over genes without a count in a group, of their highest share there: the pseudocount
LEAST = 1e-10  # share that is added at least
SAMPLES = 25  # of z for each cell, by default
_AT_ONCE = 4_000_000  # numbers of a block


@dataclass(frozen=True, eq=False)
class Expression:
    """Expression of m genes in n cells, in counts of a cell of the library size.

    Attributes:
        genes: Their names, (m,).
        mean: (n, m) over q(z|x).
        lower, upper: (n, m) the ends of central intervals of the draws.
    """

    genes: tuple[str, ...]
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, eq=False)
class DifferentialExpression:
    """How genes differ between a first group of cells and a second, by draws for pairs of cells, one of each.

    Attributes:
        genes: Their names, (m,).
        change: (m,) the mean of log2 (share in the first / share in the second), the pseudocount added to both.
        lower, upper: (m,) the ends of central intervals of it.
        probability: (m,) that its size is above `delta`.
        false_discovery_rate: (m,) the expected share of genes that do not differ among this one and all that are more
            probable.
        first, second: (m,) mean expression in each group, in counts of a cell of 10,000.
        delta: The change that counts.
        pseudocount: Added to shares, which add up to 1.
        pairs: How many of cells were drawn.
    """

    genes: tuple[str, ...]
    change: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    probability: np.ndarray
    false_discovery_rate: np.ndarray
    first: np.ndarray
    second: np.ndarray
    delta: float
    pseudocount: float
    pairs: int


def expression(
    trained: Trained,
    data: Any = None,
    *,
    genes: Sequence[str] = (),
    samples: int = SAMPLES,
    level: float = 0.9,
    size: float | None = SIZE,
    given: Mapping[str, str] | None = None,
    context: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Expression:
    """Expression of genes in cells, each with an interval.

    Args:
        trained: A run on counts.
        data: Cells as they are stored; see `TrainedRun.rows`. By default the run's own test rows.
        genes: Those that are wanted, by name; by default all.
        samples: Draws of z for each cell.
        level: Of the intervals, between 0 and 1.
        size: The library size that all cells get; None for that of each cell, so that expression is its rates.
        given: Columns of the context, such as the batch, and the value that the decoder is given in place of that of
            each cell.
        context: Of the cells, where the model takes one; see `TrainedRun.rows`.
        seed: Of the noise.
        progress: Called with the number of cells done since the last call.

    Raises:
        NotApplicable: The likelihood has no rates of counts.
        DataError: A gene or a value of the context is unknown.
        SpecError: A number is out of its range.
    """
    parts = list(
        expression_blocks(
            trained,
            trained.rows(data, context),
            genes=genes,
            samples=samples,
            level=level,
            size=size,
            given=given,
            seed=seed,
            progress=progress,
        )
    )
    mean, lower, upper = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "lower", "upper")
    )
    return Expression(parts[0].genes, mean, lower, upper)


def expression_blocks(
    trained: Trained,
    rows: Rows | StreamedRows,
    *,
    genes: Sequence[str] = (),
    samples: int = SAMPLES,
    level: float = 0.9,
    size: float | None = SIZE,
    given: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[Expression]:
    """`expression`, of rows that are read already: that of a block of cells after the other."""
    check_some(data=len(rows), samples=samples)
    _check_level(level)
    if size is not None and not 0 < size < math.inf:
        raise SpecError(f"size is {size}: a library size is above 0, as 10000", field="size", value=size)
    model, rows = trained.model, rows.to(device_of(trained))
    known = genes_of(trained.schema)
    places = _places(trained.schema, genes)
    names = tuple(known[place] for place in places)
    change = _override(trained.schema, given)
    fits = max(1, _AT_ONCE // (samples * math.prod(trained.schema.shape)))
    at_once = BLOCK // math.ceil(BLOCK / fits)
    for start in range(0, len(rows), BLOCK):
        found, noise = [], new_generator(seed, Purpose.EXPRESSED_CELLS, start // BLOCK, device=rows.device)
        stop = min(start + BLOCK, len(rows))
        for first in range(start, stop, at_once):
            # as many cells each time, so that the noise of one depends on none that follow
            index = torch.arange(first, first + at_once, device=rows.device).clamp_max(stop - 1)
            inputs = rows.inputs(index, noise)
            with evaluating(model):
                draw = model.draw(samples=samples, generator=noise, **inputs)
                log_rate = _log_rates(model, draw, change)
            log_rate = log_rate[:, : stop - first].float()
            if size is not None:
                log_rate = log_rate.log_softmax(-1) + math.log(size)
            drawn = (log_rate[..., places] if genes else log_rate).exp()
            found += [torch.cat([drawn.mean(0, keepdim=True), _ends(drawn, level)])]
        mean, lower, upper = torch.cat(found, 1).cpu().numpy()
        yield Expression(names, mean, lower, upper)
        if progress is not None:
            progress(stop - start)


def differential_expression(
    trained: Trained,
    first: Any,
    second: Any,
    *,
    pairs: int = 2000,
    delta: float = CHANGE,
    level: float = 0.9,
    pseudocount: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DifferentialExpression:
    """How the expression of each gene differs between two groups of cells.

    Each draw takes a cell of either group at random, and z from its q(z|x). Where the context has categories, as of
    batches, both cells are of the same, each that has cells of both groups as often as the others.

    Args:
        trained: A run on counts.
        first: Cells of one group; see `TrainedRun.rows`.
        second: Those of the other.
        pairs: How many of cells are drawn.
        delta: The log2 fold change from which on genes count as different.
        level: Of the intervals, between 0 and 1.
        pseudocount: Added to shares, so that a gene that is nowhere does not differ by far; by default what 9 of 10
            genes without a count in the cells drawn of a group stay below there.
        seed: Of the cells and of the noise.
        progress: Called with the number of pairs done since the last call, two times all of them in sum.

    Raises:
        NotApplicable: The likelihood has no rates of counts.
        DataError: No batch has cells of both groups.
        SpecError: A number is out of its range.
    """
    check_some(pairs=pairs)
    _check_level(level)
    for name, value in (("delta", delta), ("pseudocount", pseudocount)):
        if value is not None and not 0 <= value < math.inf:
            raise SpecError(f"{name} is {value}: it should be at least 0", field=name, value=value)
    groups = [trained.rows(cells).to(device_of(trained)) for cells in (first, second)]
    check_some(first=len(groups[0]), second=len(groups[1]))
    chosen = _pairs(groups, _batches(trained.schema), numpy_generator(seed, Purpose.PAIRS_OF_CELLS), pairs)
    sides = [
        _Side(trained, rows, index, place, seed) for place, (rows, index) in enumerate(zip(groups, chosen, strict=True))
    ]
    genes = math.prod(trained.schema.shape)
    blocks = [slice(start, min(start + BLOCK, pairs)) for start in range(0, pairs, BLOCK)]
    for block in blocks:
        for side in sides:
            side.look(block)
        if progress is not None:
            progress(block.stop - block.start)
    if pseudocount is None:
        pseudocount = max(LEAST, *(side.highest_of_absent() for side in sides))
    changes = torch.empty(pairs, genes)
    for block in blocks:
        one, other = ((side.shares(block)[1] + pseudocount).log2() for side in sides)
        changes[block] = (one - other).float().cpu()
        if progress is not None:
            progress(block.stop - block.start)
    probability = (changes.abs() > delta).sum(0).double().numpy() / pairs
    lower, upper = _ends(changes, level).numpy()
    first_mean, second_mean = (SIZE * (side.total / pairs).cpu().numpy() for side in sides)
    order = np.argsort(-probability, kind="stable")
    expected = np.empty(genes)
    expected[order] = np.cumsum(1 - probability[order]) / np.arange(1, genes + 1)
    return DifferentialExpression(
        genes_of(trained.schema),
        changes.mean(0, dtype=torch.float64).numpy(),
        lower,
        upper,
        probability,
        expected,
        first_mean,
        second_mean,
        delta,
        pseudocount,
        pairs,
    )


class _Side:
    """One cell of each pair.

    Attributes:
        total: (genes,) the sum of their shares.
        highest: (genes,) the highest of these.
        counted: (genes,) whether any of the cells has a count.
    """

    def __init__(self, trained: Trained, rows: Rows | StreamedRows, index: np.ndarray, place: int, seed: int):
        self.model, self.rows, self.index, self.place, self.seed = trained.model, rows, index, place, seed
        genes = math.prod(trained.schema.shape)
        self.total = torch.zeros(genes, dtype=torch.float64, device=rows.device)
        self.highest, self.counted = torch.zeros_like(self.total), torch.zeros_like(self.total, dtype=torch.bool)

    def shares(self, block: slice) -> tuple[Tensor, Tensor]:
        """x of the cells of a block, and the share of each gene in a draw for each, (cells, genes)."""
        index = torch.from_numpy(self.index[block]).to(self.rows.device)
        key = (Purpose.COMPARED_CELLS, self.place, block.start)
        noise = new_generator(self.seed, *key, device=self.rows.device)
        inputs = self.rows.inputs(index, noise)
        with evaluating(self.model):
            draw = self.model.draw(samples=1, generator=noise, **inputs)
            log_rate = _log_rates(self.model, draw, None)[0]
        return draw.x, wide(log_rate).softmax(-1)

    def look(self, block: slice) -> None:
        """Take in a block."""
        x, shares = self.shares(block)
        self.total += shares.sum(0)
        self.highest = torch.maximum(self.highest, shares.amax(0))
        self.counted |= (x.flatten(1) > 0).any(0)

    def highest_of_absent(self) -> float:
        """What most genes without a count stay below."""
        absent = self.highest[~self.counted].cpu().numpy()
        return float(np.quantile(absent, ABSENT)) if len(absent) else 0.0


def _log_rates(model: Any, draw: Draw, change: Callable[[Tensor], Tensor] | None) -> Tensor:
    """ln of the rates of all genes at the z of a draw, (samples, cells, genes).

    change: what the context becomes for the decoder alone; None for what it is.
    """
    px = draw.px
    if change is not None:
        assert draw.context is not None
        px = model.decode([latent.z for latent in draw.latents], change(draw.context))
    values = unwrapped(px)
    if not isinstance(values, OfRates):
        raise NotApplicable(
            "the likelihood of this run has no rates of counts: train on counts with likelihood negative_binomial, "
            "zero_inflated or poisson, as the preset cells does",
            field="model.likelihood",
        )
    return values.log_rate.flatten(2)


def _ends(values: Tensor, level: float) -> Tensor:
    """The ends of central intervals of draws (samples, ..., genes), (2, ..., genes).

    Between draws in order, so that another draw is within with the probability `level`, as far as they reach.
    """
    samples = len(values)
    ends = []
    for part in values.split(max(1, _AT_ONCE * values.shape[-1] // values.numel()), -1):
        part = part.movedim(0, -1).contiguous()
        # on a CPU, NumPy sorts so few numbers four times as fast
        ordered = torch.from_numpy(np.sort(part.numpy())) if part.device.type == "cpu" else part.sort().values
        for quantile in ((1 - level) / 2, (1 + level) / 2):
            place = min(max(quantile * (samples + 1) - 1, 0), samples - 1)
            below, above = ordered[..., math.floor(place)], ordered[..., math.ceil(place)]
            ends += [below.lerp(above, place % 1)]
    return torch.stack([torch.cat(ends[0::2], -1), torch.cat(ends[1::2], -1)])


def _override(schema: Schema, given: Mapping[str, str] | None) -> Callable[[Tensor], Tensor] | None:
    """Puts values of some columns of the context in place of those of each row (rows, width)."""
    if not given:
        return None
    context = schema.context
    if context is None:
        raise DataError(
            "given has values of a context, and the run was trained without one: train it with data.context",
            field="given",
        )
    if SIZE_FACTOR in given:
        raise DataError(
            f"given has {SIZE_FACTOR}, which scales the rates of all genes alike: set size in its place",
            field=SIZE_FACTOR,
        )
    numbers = torch.from_numpy(given_context(context, dict(given)))[0]
    places = [place for name in given for place in context.places[name]]

    def change(rows: Tensor) -> Tensor:
        changed = rows.clone()
        changed[..., places] = numbers[places].to(rows)
        return changed

    return change


def _batches(schema: Schema) -> list[int]:
    """The numbers of the context that say which categories a row is of."""
    context = schema.context
    if context is None:
        return []
    numbers = {field.name for field in context.fields if not field.categories}
    whole = context.kind == "label" or bool(context.fields)
    return [place for name, places in context.places.items() if whole and name not in numbers for place in places]


def _pairs(
    groups: Sequence[Rows | StreamedRows], categories: list[int], noise: np.random.Generator, pairs: int
) -> list[np.ndarray]:
    """Numbers of cells of both groups, (pairs,) each: the batches that have both alike often, cells at random."""
    kinds = [np.zeros((len(rows), 1)) for rows in groups]
    if categories:
        contexts = [rows.context_of(slice(0, len(rows))) for rows in groups]
        kinds = [context[:, categories].cpu().numpy() for context in contexts if context is not None]
    _, which = np.unique(np.concatenate(kinds), axis=0, return_inverse=True)
    of_first, of_second = np.split(which.reshape(-1), [len(groups[0])])
    shared = np.intersect1d(of_first, of_second)
    if not len(shared):
        raise DataError(
            "no batch has cells of both groups, so that they cannot be compared within one: compare others, or train "
            "without the batches as data.context",
            field="first",
        )
    of_pairs = shared[np.arange(pairs) % len(shared)]
    chosen = [np.empty(pairs, np.int64) for _ in groups]
    for batch in shared:
        wanted = of_pairs == batch
        for found, own in zip(chosen, (of_first, of_second), strict=True):
            found[wanted] = noise.choice(np.flatnonzero(own == batch), int(wanted.sum()))
    return chosen


def genes_of(schema: Schema) -> tuple[str, ...]:
    """The names of all genes of a run's data."""
    return schema.columns or tuple(f"column {place}" for place in range(math.prod(schema.shape)))


def _places(schema: Schema, genes: Sequence[str]) -> list[int]:
    """The numbers of genes by name; of all without names."""
    known = genes_of(schema)
    numbers = {name: place for place, name in enumerate(known)}
    if unknown := [name for name in genes if name not in numbers]:
        raise DataError(
            f"{unknown[0]!r} is no gene of {schema.name}{nearest(unknown[0], known)}: they are {listing(known)}",
            field="genes",
            value=unknown[0],
        )
    return [numbers[name] for name in genes] or list(range(len(known)))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise SpecError(f"level is {level}: it should lie between 0 and 1, as 0.9", field="level", value=level)
