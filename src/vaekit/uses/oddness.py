"""How odd rows are: by their cells one by one, and by how these go together.

Where training rows may hold odd ones, a sharp density of whole rows fits those, too. Cells one by one, and coarse
densities of rows, are fitted by the many. So the oddness of a row is a composite likelihood (Varin, Reid and Firth,
2011, Statistica Sinica 21), its lack of probability by two judges, in nats:

    -sum_j ln p_j(x_j) - ln p(x)

p_j is a kernel density of training rows: Gaussian kernels as wide as the normal reference rule says, 1.06 s n^(-1/5),
s the least of the standard deviation and the interquartile range over 1.34 (Silverman, 1986, equations 3.28 to 3.30).
`FLOOR` bounds what one cell can add. p is a kernel density of `MADE` rows that the model makes: of Student's t of 3
degrees of freedom, a standard deviation of the column wide, whose tails order far rows. Of categories, p_j is their
share of the rows, and the kernel is half that and half their being the same.

Odd rows among those that others are ranked among would make p-values of ordinary rows too large. So each of them has a
weight, the probability that it is ordinary in a two-groups model (Efron, 2008, Statistical Science 23): where the
density of oddness has fallen steepest, that of ordinary rows goes on to fall as steeply, as a log-concave one at least
does, and what is above are odd rows. That can be seen only of odd rows that stand apart: of those that lie within the
tail of ordinary ones, p-values stay too large.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data import Rows, StreamedRows
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.cells import CellFacts

FLOOR = 1e-4  # of the height of a kernel, which a density has everywhere
PER_WIDTH, MOST_POINTS = 8, 1 << 15  # points of a density in a kernel's width, and in all
REACH = 5  # widths to which a Gaussian kernel reaches
MADE = 256  # rows of the model
AT_ONCE = 256  # rows, and
FACTORS = 8  # cells, whose kernels are multiplied before a logarithm is taken; `FAR` keeps the product finite
FAR = 1e15  # the most that a squared distance counts
MOST_ROWS, CHUNK = 50_000, 4096  # of training, that densities are fitted to; and that are read at once
SMOOTH = 2.0  # kernels of the density of oddness are so much wider than by the rule, as slopes take more rows
LEAST_TAIL, LEAST_ROWS = 0.1, 5  # share of rows beyond a slope, and rows within a kernel's width of it, that tell it
POINTS = 4001


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
    """

    points: tuple[np.ndarray, ...]
    density: tuple[np.ndarray, ...]
    heights: np.ndarray
    own: np.ndarray
    spread: np.ndarray
    made: np.ndarray

    @classmethod
    def fitted(cls, rows: np.ndarray, seen: np.ndarray, categories: np.ndarray, made: np.ndarray) -> "Oddness":
        """Of training rows and of rows that the model makes.

        Args:
            rows: (n, m).
            seen: Which cells are observed, (n, m).
            categories: How many categories each cell has; 0 of a number, (m,).
            made: (`MADE`, m).
        """
        columns = [
            _shares(x[known], count) if count else _density(x[known].astype(np.float64))
            for x, known, count in zip(rows.T, seen.T, categories.tolist(), strict=True)
        ]
        points, density, heights, own, spread = zip(*columns, strict=True)
        return cls(points, density, np.array(heights), np.array(own), np.array(spread), made.astype(np.float64))

    def of(self, rows: np.ndarray, seen: np.ndarray, among: bool = False) -> np.ndarray:
        """The oddness of each row, (n,), in nats; of missing cells, as if they were as odd as the others.

        Args:
            rows: (n, m).
            seen: Which cells are observed, (n, m).
            among: Whether the rows are those that the densities were fitted to: each then leaves itself out.
        """
        found = [
            self._of_some(rows[start : start + AT_ONCE], seen[start : start + AT_ONCE], among)
            for start in range(0, len(rows), AT_ONCE)
        ]
        return np.concatenate(found) if found else np.zeros(0)

    def _of_some(self, rows: np.ndarray, seen: np.ndarray, among: bool) -> np.ndarray:
        apart, factors = np.zeros(len(rows)), np.ones((len(rows), len(self.made)))
        together = np.zeros_like(factors)
        for cell in range(rows.shape[1]):
            x, known = rows[:, cell].astype(np.float64), seen[:, cell]
            x = np.where(known, x, self.points[cell][0])
            height, own, spread = self.heights[cell], self.own[cell], self.spread[cell]
            level = np.interp(x, self.points[cell], self.density[cell])
            if among:
                level = np.maximum(level - own, 0) / (1 - own)
            if spread:
                apart -= np.where(known, np.log((level + FLOOR) * height), 0)
                square = np.minimum(np.square((x[:, None] - self.made[:, cell]) / spread), FAR)
                factor = np.square(1 + square / 3)
            else:
                apart -= np.where(known, np.log(np.maximum(level, own)), 0)
                factor = 2 / ((x[:, None] == self.made[:, cell]) + np.maximum(level, own)[:, None])
            factors *= np.where(known[:, None], factor, 1)
            if cell % FACTORS == FACTORS - 1 or cell == rows.shape[1] - 1:
                together += np.log(factors)
                factors[:] = 1
        nearest = together.min(1)
        joint = nearest - np.log(np.exp(nearest[:, None] - together).mean(1))
        return (apart + joint) * (rows.shape[1] / np.maximum(seen.sum(1), 1))


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

    Each of these is left out of the densities that its own oddness is measured by. Of more than `MOST_ROWS` of training
    some in even distances are taken.

    Args:
        trained: The run.
        train: Its rows for training.
        valid: And those for validation.
        seed: Of the rows that the model makes, which are the first that `TrainedRun.sample` gives for it.
    """
    parts = [cells_of(part) for part in (train, valid) if len(part)]
    rows, seen = (np.concatenate(some) for some in zip(*parts, strict=True))
    device = next(trained.model.parameters()).device
    made = trained.model.generate(MADE, generator=new_generator(seed, Purpose.GENERATE, device=device))
    measure = Oddness.fitted(rows, seen, CellFacts(trained.schema).categories, made.flatten(1).cpu().numpy())
    found = measure.of(rows, seen, among=True)
    return measure, Reference.of(found, ordinary(found))


def cells_of(rows: Rows | StreamedRows, most: int = MOST_ROWS) -> tuple[np.ndarray, np.ndarray]:
    """The cells of rows, and which are observed, (n, cells) each; of more rows than `most`, some in even distances."""
    chunks = math.ceil(len(rows) / CHUNK)
    taken = np.unique(np.linspace(0, chunks - 1, min(chunks, math.ceil(most / CHUNK))).round().astype(int))
    values, masks = [], []
    for number in taken.tolist():
        index = slice(number * CHUNK, min((number + 1) * CHUNK, len(rows)))
        x = rows.batch(index, new_generator(0, Purpose.ENCODED_ROWS, index.start, device=rows.device)).flatten(1)
        mask = rows.mask_of(index)
        values += [x.cpu().numpy()]
        masks += [np.ones(x.shape, bool) if mask is None else mask.flatten(1).cpu().numpy()]
    return np.concatenate(values), np.concatenate(masks)


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
    points, level = _smoothed(np.minimum(t, high), low, high, POINTS, width)
    step = points[1] - points[0]
    beyond = 1 - np.searchsorted(np.sort(t), points) / len(t)
    near = min(max(1, int(width / step)), POINTS // 2)
    slope = np.full(POINTS, -np.inf)
    log_level = np.log(np.maximum(level, 1e-12))
    slope[near:-near] = (log_level[: -2 * near] - log_level[2 * near :]) / (2 * near * step)
    usable = (np.arange(POINTS) > level.argmax()) & (beyond > LEAST_TAIL) & (level * len(t) > LEAST_ROWS)
    usable &= slope > 0
    if not usable.any():
        return np.ones(len(t))
    at = np.flatnonzero(usable)[slope[usable].argmax()]
    tail = level[at] * np.exp(-slope[at] * np.maximum(points - points[at], 0))
    share = np.where(points <= points[at], 1.0, np.minimum(1, tail / np.maximum(level, 1e-300)))
    return np.interp(t, points, share)
