"""How probable rows are, how many held-out rows are less so, and which of their cells make them odd.

The score of a row is the importance-weighted bound on ln p(x) (Burda, Grosse and Salakhutdinov, 2015, arXiv 1509.00519,
equation 8), in stored units, with its Monte Carlo error. Rows are ranked by their oddness, which is by a statistic:

- `bound`: the score with its sign turned. The p-value is (1 + #{held-out rows as odd}) / (held-out rows + 1), which is
  uniform for rows of the same distribution whatever the model is like.
- `composite`, of tables: see `vaekit.uses.oddness`. The p-value is likewise by training and validation rows, each
  measured without itself, and those that seem to be odd count for less: it is uniform for ordinary rows as far as odd
  ones stand apart from them.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.errors import SpecError
from vaekit.evaluation.blocks import BLOCK, Block, Blocks, evaluating
from vaekit.evaluation.checks import check_some, draw_of_first, score_warning, units_warning
from vaekit.evaluation.importance import AT_ONCE, AT_ONCE_ON_CPU, few_samples_warning, numbers_of
from vaekit.models.distributions.base import unwrapped
from vaekit.models.distributions.cells import OverCells, factorises
from vaekit.models.distributions.noise import noise_map, noise_shape
from vaekit.models.distributions.support import measure
from vaekit.models.vae import Code, Draw, Model
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.cells import CellFacts
from vaekit.uses.impute import check_weighable
from vaekit.uses.oddness import Judged, Reference, reference
from vaekit.uses.trained import Trained, device_of
from vaekit.words import counted

Progress = Callable[[int], object]
STATISTICS = ("auto", "bound", "composite")
MOST_COLUMNS = 256  # of a table, of which the composite is taken where none is named: it takes time for each
SHOWN = 3  # cells of each row, the oddest
MOST_EXPLAINED = 200  # flagged rows, the oddest, of whose cells ln p(x_j|x_-j) is computed
COMPLEX = 0.5  # rank correlation of scores with compressed sizes from which a notice says so
NAMED = 0.02  # share of rows that stand apart from which a notice says so
PAIRS = 100  # of a row and a cell, computed at once


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says of n rows: the lower a p-value, the odder its row.

    Attributes:
        score: (n,) the bound on ln p(x), or on ln p(x_A|x_B), in nats and stored units; -inf where it is not finite.
        error: (n,) its Monte Carlo error, from the spread of the importance weights: of few samples that carry the
            weight, too small.
        oddness: (n,) in nats, by `statistic`: of `bound` it is the score with its sign turned.
        p_value: (n,) by the rank of the oddness: among held-out rows, or among those of training and validation.
        flagged: (n,) bool, whether a row is odd; None where no threshold was named.
        threshold: The oddness at or above which rows are flagged; None without.
        cells: (n, SHOWN) int64, the oddest cells by number in the row of x, which is flat; -1 for none.
        below: (n, SHOWN) how far E[ln p(x_j|z)] under p(z|x) is below its mean over held-out rows, in nats: what
            the cell adds to the oddness at the z that explain the row best. It is no conditional density, since these z
            have seen x_j.
        given_rest: (n, SHOWN) ln p(x_j|x_-j) = ln p(x) - ln p(x_-j), in nats and stored units, which has not: of the
            oddest flagged rows, NaN of others.
        held_out: (m,) the scores of held-out rows, in rising order.
        effective_samples: (n,) how many of the K samples carry the weight.
        complexity: Of pictures and sequences, the rank correlation of scores with the rows' sizes by zlib; else None.
        notices: What limits the meaning of all this.
        facts: Of the cells: their names.
        statistic: That of the oddness, `bound` or `composite`.
    """

    score: np.ndarray
    error: np.ndarray
    oddness: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray | None
    threshold: float | None
    cells: np.ndarray
    below: np.ndarray
    given_rest: np.ndarray
    held_out: np.ndarray
    effective_samples: np.ndarray
    complexity: float | None
    notices: tuple[str, ...]
    facts: CellFacts
    statistic: str

    def names(self, rank: int) -> np.ndarray:
        """The name of the oddest cell of each row, the second oddest, ... (rank 0, 1, ...), (n,); "" for none."""
        cells = self.cells[:, rank]
        named = np.array(["", *self.facts.names(range(self.facts.count))])
        return named[cells + 1]


def score(
    trained: Trained,
    data: Any = None,
    *,
    samples: int = 100,
    level: float | None = None,
    contamination: float | None = None,
    given: Sequence[str] = (),
    context: Any = None,
    statistic: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Score rows by how probable they are, and rank them among the rows of the run.

    Args:
        trained: The run, whose data is there.
        data: Rows as they are stored; see `TrainedRun.rows`. By default the run's own test rows.
        samples: K, samples of q(z|x) for each row.
        level: Flag rows whose p-value is at most this, as are that share of rows like the held-out ones.
        contamination: Flag this share of the rows, the oddest.
        given: Columns B by name: the score is then ln p(x_A|x_B) = ln p(x) - ln p(x_B) of all others, A.
        context: Of the rows, where the model takes one; see `TrainedRun.rows`.
        statistic: What rows are ranked by: `bound` or `composite`; `auto` takes the composite of tables of at most 256
            columns, where the model takes no context and no columns are given.
        seed: Of the noise.
        progress: Called with the number of rows done since the last call, validation rows included.

    Raises:
        NotApplicable: The posterior is deterministic and has no density to weigh samples by.
        SpecError: Level and contamination are both named, or are no shares; or `given` is, and the likelihood ties the
            cells of a row to one another; or the statistic is the composite, of no table, or of given columns.
    """
    return score_rows(
        trained,
        trained.rows(data, context),
        samples,
        level,
        contamination,
        given,
        statistic=statistic,
        seed=seed,
        progress=progress,
    )


def score_rows(
    trained: Trained,
    rows: Rows | StreamedRows,
    samples: int,
    level: float | None = None,
    contamination: float | None = None,
    given: Sequence[str] = (),
    *,
    statistic: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """`score`, of rows that are read already."""
    check_some(data=len(rows), samples=samples)
    _check_threshold(level, contamination)
    statistic = _statistic(statistic, trained, given)
    facts, device = CellFacts(trained.schema), device_of(trained)
    given_cells = facts.numbers(given)
    rows, held_out = rows.to(device), trained.data().valid.to(device)
    before = _Scorer(trained.model, held_out, facts, samples, given_cells, seed)
    held_out_facts = before.held_out(progress)
    scorer = _Scorer(trained.model, rows, facts, samples, given_cells, seed)
    parts = [scorer.part(block, held_out_facts, progress) for block in scorer.each()]
    found, error, ess, cells, below, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    if statistic == "composite":
        measure, ranked = reference(trained, trained.data().train.to(device), held_out, seed)
        oddness = measure.of(Judged.of(trained.model, rows, seed))
    else:
        oddness, ranked = -found, Reference.of(-held_out_facts.scores, np.ones(len(held_out_facts.scores)))
    p_value = ranked.p_values(oddness)
    threshold, flagged = None, None
    if level is not None:
        threshold = ranked.threshold(level)
    elif contamination is not None:
        threshold = float(np.sort(oddness)[-max(1, round(contamination * len(found)))])
    if threshold is not None:
        flagged = oddness >= threshold
    given_rest = np.full(below.shape, np.nan)
    if flagged is not None and scorer.has_cells:
        scorer.explain(np.flatnonzero(flagged)[np.argsort(-oddness[flagged], kind="stable")], found, cells, given_rest)
    complexity = None if trained.schema.kind == "table" else _rank_correlation(found, sizes)
    notices = _notices(scorer, ess, found, samples, level, ranked, complexity)
    return Scores(
        found,
        error,
        oddness,
        p_value,
        flagged,
        threshold,
        cells,
        below,
        given_rest,
        held_out_facts.scores,
        ess,
        complexity,
        notices,
        facts,
        statistic,
    )


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Held-out rows: their scores in rising order, the mean term of each cell, and the range of stored values."""

    scores: np.ndarray
    cells: np.ndarray
    low: float
    high: float


class _Scorer:
    """Scores blocks of rows.

    Args:
        model: A VAE.
        rows: On its device.
        facts: Of their cells.
        samples: K.
        given: The cells B that the score is conditional on, by number.
        seed: Of the noise.
    """

    def __init__(
        self,
        model: Model,
        rows: Rows | StreamedRows,
        facts: CellFacts,
        samples: int,
        given: Sequence[int],
        seed: int,
    ):
        self.model, self.rows, self.facts, self.samples, self.seed = model, rows, facts, samples, seed
        self.blocks = Blocks(model, rows, seed)
        first = draw_of_first(model, self.blocks)
        check_weighable(first)
        self.first = first
        self.has_cells = factorises(first.px) or isinstance(unwrapped(first.px), OverCells)
        if given and not self.has_cells:
            raise SpecError(
                "given names columns, and the likelihood ties the cells of a row to one another, so that it has no "
                "density of some of them: leave given out",
                field="given",
                value=tuple(given),
            )
        self.is_given = np.zeros(facts.count, bool)
        self.is_given[list(given)] = True
        is_density = measure(first.px) == "density"
        self.log_scale = np.log(facts.scale) if is_density else np.zeros(facts.count)
        most = AT_ONCE_ON_CPU if first.x.device.type == "cpu" else AT_ONCE
        self.at_once = max(1, most // numbers_of(first.px))  # samples of one row

    def each(self) -> Iterator[Block]:
        """The blocks, in order."""
        yield from map(self.blocks.block, range(math.ceil(len(self.rows) / BLOCK)))

    def held_out(self, progress: Progress | None) -> _HeldOut:
        """What the rows are as those that are held out."""
        scores, total, count = [], np.zeros(self.facts.count), np.zeros(self.facts.count)
        low, high = math.inf, -math.inf
        for block in self.each():
            found, _, _, terms = self.scored(block)
            seen, stored = self.seen(block), self._stored(block)
            finite = np.isfinite(found)
            if terms is not None:
                used = seen & finite[:, None] & np.isfinite(terms)
                total += np.where(used, terms, 0).sum(0)
                count += used.sum(0)
            low, high = min(low, stored[seen].min(initial=low)), max(high, stored[seen].max(initial=high))
            scores += [found]
            if progress is not None:
                progress(len(found))
        return _HeldOut(np.sort(np.concatenate(scores)), total / np.maximum(count, 1), low, high)

    def part(self, block: Block, held_out: _HeldOut, progress: Progress | None) -> tuple[np.ndarray, ...]:
        """Of a block: scores, errors, effective samples, the oddest cells and how odd, and compressed sizes."""
        found, error, ess, terms = self.scored(block)
        shown = min(SHOWN, self.facts.count)
        cells, below = np.full((len(found), SHOWN), -1), np.full((len(found), SHOWN), np.nan)
        if terms is not None:
            usable = self.seen(block) & ~self.is_given & np.isfinite(terms)
            lacks = np.where(usable, held_out.cells - terms, -math.inf)
            order = np.argsort(-lacks, axis=1, kind="stable")[:, :shown]
            values = np.take_along_axis(lacks, order, 1)
            cells[:, :shown] = np.where(np.isfinite(values), order, -1)
            below[:, :shown] = np.where(np.isfinite(values), values, np.nan)
        if progress is not None:
            progress(len(found))
        return found, error, ess, cells, below, self._sizes(block, held_out)

    def scored(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """The score of each row of a block, its error, its effective samples, and E[ln p(x_j|z)] of each cell."""
        with evaluating(self.model):
            noise = self.noise(block.x, Purpose.SCORED_Z)
            log_p, error, ess, cells = self.weighed(block.x, block.context, block.mask, noise, self.has_cells)
            seen = self.seen(block)
            if self.is_given.any():
                mask = torch.from_numpy(seen & self.is_given).reshape(block.x.shape).to(block.x.device)
                rest, other, fewer, _ = self.weighed(block.x, block.context, mask, noise, False)
                log_p, error, ess = log_p - rest, (error**2 + other**2).sqrt(), torch.minimum(ess, fewer)
        scale = (seen & ~self.is_given) @ self.log_scale
        found = np.nan_to_num(log_p.cpu().numpy(), nan=-math.inf) - scale
        terms = None if cells is None else cells.cpu().numpy()
        return found, error.cpu().numpy(), ess.cpu().numpy(), terms

    def weighed(
        self,
        x: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        noise: Sequence[torch.Generator],
        cells: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """ln (1/K) sum_k w_k of each row, its error, the effective samples, and the weighted mean of ln p(x_j|z).

        Sums of weights are kept relative to the largest so far, so that K samples take no more memory than a few.
        """
        masked: dict[str, Any] = {} if mask is None else {"mask": mask}
        code = self.model.encode(x, context, **masked)
        at_once = max(1, self.at_once // BLOCK)
        largest = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        total, squares = torch.zeros_like(largest), torch.zeros_like(largest)
        terms = torch.zeros(len(x), self.facts.count, dtype=torch.float64, device=x.device) if cells else None
        for start in range(0, self.samples, at_once):
            count = min(at_once, self.samples - start)
            base = self._base_noise(code, noise, count)
            if base is not None:
                draws = [self.model.draw(x, count, context=context, code=code, noise=base, **masked)]
            else:
                draws = [self._draw_alone(row, x, count, context, masked, noise[row]) for row in range(len(x))]
            log_w = torch.cat([draw.log_w for draw in draws], 1).double()
            top = torch.maximum(largest, log_w.amax(0))
            shrunk, w = (largest - top).exp(), (log_w - top).exp()
            total, squares = total * shrunk + w.sum(0), squares * shrunk**2 + w.square().sum(0)
            if terms is not None:
                terms = terms * shrunk[:, None] + torch.einsum(
                    "kb,kbc->bc", w, torch.cat([_of_cells(draw) for draw in draws], 1)
                )
            largest = top
        k = self.samples
        ess = (total**2 / squares).clamp(1, k)
        error = ((1 / ess - 1 / k).clamp_min(0) * (k / max(1, k - 1))).sqrt()
        return largest + (total / k).log(), error, ess, None if terms is None else terms / total[:, None]

    def noise(self, x: Tensor, purpose: Purpose, *cells: Sequence[int]) -> list[torch.Generator]:
        """Of z of each row: keyed by what the row is, so that it depends neither on its place nor on other rows.

        Args:
            x: (rows, *data).
            purpose: Of the noise.
            cells: What else is in the key of each row, by number.
        """
        sums = [zlib.crc32(row.tobytes()) for row in x.detach().cpu().numpy()]
        return [new_generator(self.seed, purpose, *key, device=x.device) for key in zip(sums, *cells, strict=True)]

    def _base_noise(self, code: Code, noise: Sequence[torch.Generator], count: int) -> list[Tensor] | None:
        """Of each group of latents, (count, rows, *event); None where some posterior samples by its own code."""
        found = []
        for q, latent in zip(code.posteriors, self.first.latents, strict=True):
            by, shape, like = noise_map(q), noise_shape(q), latent.z
            if by is None or shape is None or shape[:1] != (len(noise),):
                return None
            size = (count, 1, *shape[1:])
            each = [by.base(size, generator=one, dtype=like.dtype, device=like.device) for one in noise]
            found += [torch.cat(each, 1)]
        return found

    def _draw_alone(
        self, row: int, x: Tensor, count: int, context: Tensor | None, masked: dict[str, Any], noise: torch.Generator
    ) -> Draw:
        one = slice(row, row + 1)
        masked = {name: mask[one] for name, mask in masked.items()}
        return self.model.draw(
            x[one], count, context=None if context is None else context[one], generator=noise, **masked
        )

    def seen(self, block: Block) -> np.ndarray:
        """Which cells of a block are observed, (rows, cells)."""
        if block.mask is None:
            return np.ones((len(block.x), self.facts.count), bool)
        return block.mask.flatten(1).cpu().numpy()

    def explain(self, flagged: np.ndarray, found: np.ndarray, cells: np.ndarray, given_rest: np.ndarray) -> None:
        """Write ln p(x_j|x_-j) of the oddest cells of flagged rows, the oddest first, into `given_rest`."""
        pairs = [(row, rank) for row in flagged[:MOST_EXPLAINED] for rank in range(SHOWN) if cells[row, rank] >= 0]
        for start in range(0, len(pairs), PAIRS):
            some = pairs[start : start + PAIRS]
            index = torch.tensor([row for row, _ in some], device=self.rows.device)
            numbers = [int(cells[row, rank]) for row, rank in some]
            x = self.rows.batch(index, new_generator(self.seed, Purpose.CONDITIONAL_CELLS, start, device=index.device))
            x = x.to(self.first.x.dtype) if x.is_floating_point() else x
            noise = self.noise(x, Purpose.CONDITIONAL_CELLS, numbers)
            mask = self.rows.mask_of(index)
            left = (torch.ones_like(x, dtype=torch.bool) if mask is None else mask.clone()).flatten(1)
            scale = left.double().cpu().numpy() @ np.where(self.is_given, 0, self.log_scale)
            left[range(len(some)), numbers] = False
            with evaluating(self.model):
                rest, *_ = self.weighed(x, self.rows.context_of(index), left.reshape(x.shape), noise, False)
                if self.is_given.any():
                    known = left & torch.from_numpy(self.is_given).to(left.device)
                    rest = rest - self.weighed(x, self.rows.context_of(index), known.reshape(x.shape), noise, False)[0]
            whole = found[[row for row, _ in some]] + scale  # as the model sees it
            values = whole - rest.cpu().numpy() - self.log_scale[numbers]
            for (row, rank), value in zip(some, values, strict=True):
                given_rest[row, rank] = value

    def _stored(self, block: Block) -> np.ndarray:
        return self.facts.stored(block.x.flatten(1).cpu().numpy(), np.arange(self.facts.count))

    def _sizes(self, block: Block, held_out: _HeldOut) -> np.ndarray:
        """The bytes of each row after zlib, at 8 bits a value between the lowest and highest of held-out rows."""
        if self.facts.schema.kind == "table":
            return np.zeros(len(block.x))
        span = max(held_out.high - held_out.low, 1e-12)
        levels = ((self._stored(block) - held_out.low) * (255 / span)).round().clip(0, 255).astype(np.uint8)
        return np.array([float(len(zlib.compress(row.tobytes()))) for row in levels])


def _of_cells(draw: Draw) -> Tensor:
    """ln p(x_j|z) of each cell, (samples, batch, cells)."""
    return draw.log_px_cells.flatten(2).double()


def _check_threshold(level: float | None, contamination: float | None) -> None:
    if level is not None and contamination is not None:
        raise SpecError(
            f"level is {level} and contamination {contamination}, and each sets the threshold: give one",
            field="contamination",
            value=contamination,
        )
    for name, value in (("level", level), ("contamination", contamination)):
        if value is not None and not 0 < value < 1:
            raise SpecError(f"{name} is {value}: it should lie between 0 and 1, as 0.01", field=name, value=value)


def _statistic(statistic: str, trained: Trained, given: Sequence[str]) -> str:
    """The statistic that is meant.

    Raises:
        SpecError: There is none of this name, or the rows are none of which there is a composite.
    """
    if statistic not in STATISTICS:
        raise SpecError(
            f"statistic is {statistic!r}: it should be auto, bound or composite",
            field="statistic",
            value=statistic,
        )
    schema = trained.schema
    has_none = schema.kind != "table" or schema.context is not None or bool(given)
    if statistic == "composite" and has_none:
        raise SpecError(
            "statistic is composite, which is of whole rows of tables, whose model takes no context: take bound",
            field="statistic",
            value=statistic,
        )
    if statistic == "auto":
        return "bound" if has_none or math.prod(schema.shape) > MOST_COLUMNS else "composite"
    return statistic


def _rank_correlation(score: np.ndarray, sizes: np.ndarray) -> float | None:
    """Spearman's, over the rows of finite score; None where one of both is the same for all."""
    from scipy.stats import rankdata

    finite = np.isfinite(score)
    if finite.sum() < 10:
        return None
    ranks = [rankdata(values[finite]) for values in (score, sizes)]
    if min(values.std() for values in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _notices(
    scorer: _Scorer,
    ess: np.ndarray,
    found: np.ndarray,
    samples: int,
    level: float | None,
    ranked: Reference,
    complexity: float | None,
) -> tuple[str, ...]:
    finite = np.isfinite(found)
    notices = [score_warning(scorer.first.px), units_warning(scorer.model, scorer.blocks)]
    notices += [few_samples_warning(torch.from_numpy(ess[finite]), samples)] if finite.any() else []
    if not finite.all():
        rows = counted(int((~finite).sum()), "row has", "rows have")
        notices += [f"{rows} no finite density under the model, which counts as the oddest"]
    count = ranked.beyond[0]
    if level is not None and level * (count + 1) < 1 - 1e-9:
        notices += [
            f"no p-value is below 1/{count + 1:.0f}, of {count:.0f} rows to be ranked among, so that none is at most "
            f"{level:g}: that takes {math.ceil(1 / level) - 1}"
        ]
    if count < (1 - NAMED) * len(ranked.oddness):
        notices += [
            f"{1 - count / len(ranked.oddness):.0%} of the rows that others are ranked among stand apart: they are "
            "taken for odd ones, and hardly count in p-values"
        ]
    if not scorer.has_cells:
        notices += ["the likelihood ties the cells of a row to one another: there is no density of single ones"]
    if complexity is not None and abs(complexity) >= COMPLEX:
        notices += [
            f"the scores follow how complex the rows are, whatever they show: their rank correlation with the rows' "
            f"sizes after zlib is {complexity:.2f} (Serra et al., 2020, arXiv 1909.11480); a likelihood is a poor judge"
        ]
    return tuple(notice for notice in notices if notice)
