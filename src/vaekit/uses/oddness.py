"""How odd rows are: by their cells one by one, and by how these go together.

Where training rows may hold odd ones, a sharp density of whole rows fits those, too, and cells one by one are fitted by
the many; where cells go together closely, no single one shows what is odd. So the oddness of a row is its lack of
probability by several judges, in nats:

    -sum_j ln p_j(x_j) - s ln p(x) - t ln r(x)

p_j is a kernel density of training rows: Gaussian kernels as wide as the normal reference rule says, 1.06 s n^(-1/5),
s the least of the standard deviation and the interquartile range over 1.34 (Silverman, 1986, equations 3.28 to 3.30);
`FLOOR` bounds what one cell can add. Of categories, p_j is their share of the rows. This term alone is a composite
likelihood (Varin, Reid and Firth, 2011, Statistica Sinica 21). ln p(x) is the model's bound, of `SAMPLES` samples of z,
whose noise all rows share. r is coarse, a kernel density of `MADE` rows that the model makes: of Student's t of 3
degrees of freedom, a standard deviation of the column wide, whose tails order far rows; of categories, half their share
and half their being the same. s and t make both terms vary half as much over training rows as the first, by
interquartile range, so that whole rows count as much as their cells.

Odd rows among those that others are ranked among would make p-values of ordinary rows too large. So each of them has a
weight, the probability that it is ordinary in a two-groups model (Efron, 2008, Statistical Science 23): where the
density of oddness has fallen steepest, that of ordinary rows goes on to fall as steeply, as a log-concave one at least
does, and what is above are odd rows. Where the density rises again by more than chance, that is looked for before it
does. All that can be seen only of odd rows that stand apart: of those that lie within the tail of ordinary ones,
p-values stay too large.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vaekit.data import Rows, StreamedRows
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.bounds import in_double, log_px_bounds
from vaekit.uses.cells import CellFacts

FLOOR = 1e-4  # of the height of a kernel, which a density has everywhere
PER_WIDTH, MOST_POINTS = 8, 1 << 15  # points of a density in a kernel's width, and in all
REACH = 5  # widths to which a Gaussian kernel reaches
SAMPLES = 16  # of z: what orders rows takes fewer than what is said of one
FAR = 1e100  # nats, the most that a bound counts
MADE = 256  # rows of the model
AT_ONCE = 256  # rows, and
FACTORS = 8  # cells, whose kernels are multiplied before a logarithm is taken; `FARTHEST` keeps the product finite
FARTHEST = 1e15  # the most that a squared distance counts
MOST_ROWS, CHUNK = 50_000, 4096  # of training, that densities are fitted to; and that are read at once
SMOOTH = 2.0  # kernels of the density of oddness are so much wider than by the rule, as slopes take more rows
LEAST_ROWS = 20  # within a kernel's width, that tell a slope
APART = 3.0  # standard errors by which a density rises again
POINTS = 4001


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows of m cells, and what the model says of them.

    Attributes:
        cells: (n, m).
        seen: Which of these are observed, (n, m).
        bounds: On ln p(x) of the observed cells as the model has them, (n,), in nats.
    """

    cells: np.ndarray
    seen: np.ndarray
    bounds: np.ndarray

    @staticmethod
    def of(model: Any, rows: Rows | StreamedRows, seed: int, most: int | None = None) -> "Judged":
        """Of rows, or of more than `most` of them some in even distances; no rows give none.

        Args:
            model: A VAE.
            rows: On its device.
            seed: Of the noise of z.
            most: How many are taken, about; None for all.
        """
        double = copy.deepcopy(model).double()  # how its products round then shows in no result
        chunks = math.ceil(len(rows) / CHUNK)
        count = chunks if most is None else min(chunks, math.ceil(most / CHUNK))
        taken = np.unique(np.linspace(0, chunks - 1, count).round().astype(int)) if chunks else np.zeros(0, int)
        parts = [Judged(np.zeros((0, math.prod(rows.shape))), np.zeros((0, math.prod(rows.shape)), bool), np.zeros(0))]
        for number in taken.tolist():
            index = slice(number * CHUNK, min((number + 1) * CHUNK, len(rows)))
            x = rows.batch(index, new_generator(0, Purpose.ENCODED_ROWS, index.start, device=rows.device))
            mask = rows.mask_of(index)
            bounds = log_px_bounds(double, in_double(x, mask), SAMPLES, seed).cpu().numpy()
            cells = x.flatten(1).cpu().numpy()
            seen = np.ones(cells.shape, bool) if mask is None else mask.flatten(1).cpu().numpy()
            parts += [Judged(cells, seen, np.clip(np.nan_to_num(bounds, nan=-FAR), -FAR, FAR))]
        return joined(parts)


def joined(parts: list[Judged]) -> Judged:
    """One after the other."""
    cells, seen, bounds = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("cells", "seen", "bounds")
    )
    return Judged(cells, seen, bounds)


@dataclass(frozen=True, eq=False)
class Oddness:
    """What the oddness of rows of m cells is measured by, fitted to training rows.

    Attributes:
        points: Of each number, where its density is known, (points,) in rising order; of a category its codes.
        density: The density there, in kernel heights; of a category its share of the rows.
        heights: Of a kernel of each number, a standard deviation of the column being 1, (m,); of a category 1.
        own: The share of one row in the density, in heights, (m,): what is left out where a row is itself among them.
        spread: The standard deviation of each number, (m,); of a category 0.
        made: Rows that the model makes, (`MADE`, m).
        scales: What -ln p(x) and -ln r(x) are multiplied by.
    """

    points: tuple[np.ndarray, ...]
    density: tuple[np.ndarray, ...]
    heights: np.ndarray
    own: np.ndarray
    spread: np.ndarray
    made: np.ndarray
    scales: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def fitted(cls, rows: Judged, categories: np.ndarray, made: np.ndarray) -> "Oddness":
        """Of training rows and of rows that the model makes.

        Args:
            rows: For training.
            categories: How many categories each cell has; 0 of a number, (m,).
            made: (`MADE`, m).
        """
        columns = [
            _shares(x[known], count) if count else _density(x[known].astype(np.float64))
            for x, known, count in zip(rows.cells.T, rows.seen.T, categories.tolist(), strict=True)
        ]
        points, density, heights, own, spread = zip(*columns, strict=True)
        found = cls(points, density, np.array(heights), np.array(own), np.array(spread), made.astype(np.float64))
        of_cells, *of_rows = (_range(term) for term in found._terms(rows, True))
        return replace(found, scales=tuple(of_cells / 2 / one for one in of_rows))

    def of(self, rows: Judged, among: bool = False) -> np.ndarray:
        """The oddness of each row, (n,), in nats; of missing cells, as if they were as odd as the others.

        Args:
            rows: n of them.
            among: Whether the rows are those that the densities were fitted to: each then leaves itself out.
        """
        by_cells, fine, coarse = self._terms(rows, among)
        return by_cells + self.scales[0] * fine + self.scales[1] * coarse

    def _terms(self, rows: Judged, among: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each term before it is scaled, (n,)."""
        whole = rows.seen.shape[1] / np.maximum(rows.seen.sum(1), 1)
        parts = [
            self._of_some(rows.cells[start : start + AT_ONCE], rows.seen[start : start + AT_ONCE], among)
            for start in range(0, len(rows.cells), AT_ONCE)
        ]
        by_cells, coarse = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else np.zeros((2, 0))
        return by_cells * whole, -rows.bounds * whole, coarse * whole

    def _of_some(self, cells: np.ndarray, seen: np.ndarray, among: bool) -> tuple[np.ndarray, np.ndarray]:
        apart, factors = np.zeros(len(cells)), np.ones((len(cells), len(self.made)))
        together = np.zeros_like(factors)
        for cell in range(cells.shape[1]):
            x, known = cells[:, cell].astype(np.float64), seen[:, cell]
            x = np.where(known, x, self.points[cell][0])
            height, own, spread = self.heights[cell], self.own[cell], self.spread[cell]
            level = np.interp(x, self.points[cell], self.density[cell])
            if among:
                level = np.maximum(level - own, 0) / (1 - own)
            if spread:
                apart -= np.where(known, np.log((level + FLOOR) * height), 0)
                square = np.minimum(np.square((x[:, None] - self.made[:, cell]) / spread), FARTHEST)
                factor = np.square(1 + square / 3)
            else:
                apart -= np.where(known, np.log(np.maximum(level, own)), 0)
                factor = 2 / ((x[:, None] == self.made[:, cell]) + np.maximum(level, own)[:, None])
            factors *= np.where(known[:, None], factor, 1)
            if cell % FACTORS == FACTORS - 1 or cell == cells.shape[1] - 1:
                together += np.log(factors)
                factors[:] = 1
        nearest = together.min(1)
        return apart, nearest - np.log(np.exp(nearest[:, None] - together).mean(1))


def _range(x: np.ndarray) -> float:
    """Between quartiles; where most values are one, of all."""
    lower, upper = np.quantile(x, [0.25, 0.75])
    return float(upper - lower) or float(np.ptp(x)) or 1.0


def _shares(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """The share of each category, one row of each being added."""
    share = (np.bincount(codes.astype(np.int64), minlength=count) + 1) / (len(codes) + count)
    return np.arange(float(count)), share, 1.0, 1 / (len(codes) + count), 0.0


def _density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """A kernel density of numbers (n,): points, heights there, the height of a kernel, a row's share, and spread."""
    if not len(x):
        return np.zeros(1), np.zeros(1), 1.0, 0.0, 1.0
    spread = float(x.std()) or 1.0
    width = _width(x) or spread
    low, high = x.min() - REACH * width, x.max() + REACH * width
    count = int(min(np.ceil((high - low) / width * PER_WIDTH), MOST_POINTS)) + 1
    points, level = _smoothed(x, low, high, count, width)
    return points, level, spread / width, 1 / (len(x) + 1), spread


def _width(x: np.ndarray, ordinary_below: bool = False) -> float:
    """Of a kernel, by the normal reference rule.

    Args:
        x: (n,).
        ordinary_below: Whether the lower half of the rows is ordinary, and how wide that is counts, too.
    """
    lower, middle, upper = np.quantile(x, [0.25, 0.5, 0.75])
    spreads = [float(x.std()), (upper - lower) / 1.34, (middle - lower) / 0.67 if ordinary_below else 0.0]
    return 1.06 * min((spread for spread in spreads if spread > 0), default=0.0) * len(x) ** -0.2


def _smoothed(x: np.ndarray, low: float, high: float, count: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Points, and the density there in heights of a kernel."""
    points = np.linspace(low, high, count)
    step = points[1] - points[0]
    shares = np.bincount(np.rint((x - low) / step).astype(np.int64), minlength=count)[:count] / len(x)
    reach = int(np.ceil(REACH * width / step))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * step / width))
    return points, np.convolve(shares, kernel)[reach : reach + count]


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows that others are ranked among.

    Attributes:
        oddness: (n,) theirs, in rising order.
        beyond: (n + 1,) the weights of each and of all odder ones, added up.
    """

    oddness: np.ndarray
    beyond: np.ndarray

    @classmethod
    def of(cls, oddness: np.ndarray, weights: np.ndarray) -> "Reference":
        """Of rows in any order.

        Args:
            oddness: (n,).
            weights: How much each counts, (n,).
        """
        order = np.argsort(oddness, kind="stable")
        return cls(oddness[order], np.append(weights[order][::-1].cumsum()[::-1], 0.0))

    def p_values(self, oddness: np.ndarray) -> np.ndarray:
        """The share of rows that are at least as odd, (n,), the row itself counted among them."""
        return (1 + self.beyond[np.searchsorted(self.oddness, oddness)]) / (1 + self.beyond[0])

    def threshold(self, level: float) -> float:
        """The least oddness whose p-value is at most a level; inf where none is."""
        most = level * (1 + self.beyond[0]) - 1 + 1e-9
        place = int(np.argmax(self.beyond <= most)) if most >= 0 else 0  # where rows of at least its oddness start
        if most < 0:
            return math.inf
        return -math.inf if place == 0 else float(np.nextafter(self.oddness[place - 1], math.inf))


def reference(
    trained: Any, train: Rows | StreamedRows, valid: Rows | StreamedRows, seed: int
) -> tuple[Oddness, Reference]:
    """What oddness is measured by, and the rows that others are ranked among: those of training and validation.

    Each of these is left out of the densities of single cells that its own oddness is measured by. The model has seen
    those for training: of one that overfits, p-values are too small. Of more than `MOST_ROWS` of training some in even
    distances are taken.

    Args:
        trained: The run.
        train: Its rows for training, on the model's device.
        valid: And those for validation.
        seed: Of the noise of z, and of the rows that the model makes, the first that `TrainedRun.sample` gives for it.
    """
    rows = joined([Judged.of(trained.model, part, seed, MOST_ROWS) for part in (train, valid) if len(part)])
    device = next(trained.model.parameters()).device
    made = trained.model.generate(MADE, generator=new_generator(seed, Purpose.GENERATE, device=device))
    measure = Oddness.fitted(rows, CellFacts(trained.schema).categories, made.flatten(1).cpu().numpy())
    found = measure.of(rows, among=True)
    return measure, Reference.of(found, ordinary(found))


def ordinary(oddness: np.ndarray) -> np.ndarray:
    """The probability of each row to be ordinary, (n,), by how odd all of them are: see above.

    Args:
        oddness: (n,).
    """
    t = oddness.astype(np.float64)
    width = SMOOTH * _width(t, ordinary_below=True) if len(t) else 0.0
    if width <= 0:
        return np.ones(len(t))
    low = t.min()
    high = min(t.max(), low + POINTS * width / 4)
    within = t <= high
    points, level = _smoothed(t[within], low, high, POINTS, width)
    rows = level * within.sum()  # as far as they are within a kernel's width
    step = points[1] - points[0]
    end = _antimode(rows)
    near = min(max(1, int(width / step)), POINTS // 2)
    slope = np.full(POINTS, -np.inf)
    log_rows = np.log(np.maximum(rows, 1e-12))
    slope[near:-near] = (log_rows[: -2 * near] - log_rows[2 * near :]) / (2 * near * step)
    place = np.arange(POINTS)
    usable = (place > rows.argmax()) & (place < end) & (rows > LEAST_ROWS) & (slope > 0)
    if not usable.any():
        return np.ones(len(t))
    at = np.flatnonzero(usable)[slope[usable].argmax()]
    tail = rows[at] * np.exp(-slope[at] * np.maximum(points - points[at], 0))
    share = np.where(points <= points[at], 1.0, np.minimum(1, tail / np.maximum(rows, 1)))
    return np.interp(t, points, share)


def _antimode(rows: np.ndarray) -> int:
    """Where a density is least before it rises again by `APART` standard errors, by its place; the end if nowhere.

    Of several such places it is that of the largest rise, in standard errors.

    Args:
        rows: Within a kernel's width about points in even distances, which are the density, (points,).
    """
    inner = np.arange(int(rows.argmax()) + 1, len(rows) - 1)
    found, most = len(rows), APART
    for place in inner[(rows[inner] <= rows[inner - 1]) & (rows[inner] < rows[inner + 1])].tolist():
        peak = rows[place:].max()
        rise = (peak - rows[place]) / math.sqrt((peak + rows[place]) / math.sqrt(2))
        if rise > most:
            found, most = place, rise
    return found
