"""How far the columns of one table are from those of another: single columns, and pairs of them, with errors.

A distance is 1 less the similarity of the same name in SDMetrics (sdv-dev, release 0.20): KSComplement of a column of
numbers, TVComplement of one of categories, CorrelationSimilarity of two columns of numbers, by Spearman's coefficient,
and ContingencySimilarity of other pairs, whose numbers are in ten bins. These bins hold equally many rows, where those
of SDMetrics are equally wide.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_BINS = 10  # of a column of numbers beside one of categories
_RESAMPLINGS = 40
MOST_COLUMNS = 40  # whose pairs are compared


@dataclass(frozen=True)
class Difference:
    """A distance between two tables, from 0 (alike) to 1.

    Attributes:
        columns: One name, or the two of a pair.
        measure: "total variation" of categories and of pairs with one, "Kolmogorov-Smirnov" of a column of numbers, or
            "rank correlation", half the absolute difference, of two of these. Missing cells do not count, but in a pair
            with categories, where they are one more.
        value: The distance.
        error: Its standard error, by resampling the rows of both tables.
        chance: What it is on average between two tables of as many rows from the same distribution.
    """

    columns: tuple[str, ...]
    measure: str
    value: float
    error: float
    chance: float


@dataclass(frozen=True)
class Differences:
    """Distances of all single columns and pairs, in order, and the mean over each.

    Attributes:
        single, pairs: of each.
        single_mean, pairs_mean: over these; None where there is none.
    """

    single: tuple[Difference, ...]
    pairs: tuple[Difference, ...]
    single_mean: Difference | None
    pairs_mean: Difference | None


def compare_columns(
    data: np.ndarray,
    samples: np.ndarray,
    names: Sequence[str],
    categories: Sequence[bool],
    seed: int = 0,
    resamplings: int = _RESAMPLINGS,
) -> Differences:
    """Compare each column, and each pair of the first 40.

    Args:
        data: (n, columns), NaN where a cell is missing.
        samples: (m, columns), likewise.
        names: Of the columns.
        categories: Whether the numbers of each column stand for categories.
        seed: Of the resampling.
        resamplings: For errors, and for what chance makes of two tables.
    """
    rng = np.random.default_rng(seed)
    places = range(len(names))
    wanted = [(place,) for place in places] + list(itertools.combinations(places[:MOST_COLUMNS], 2))
    coded = _Coded.of(data, samples, categories)
    measures = [coded.measure(of) for of in wanted]
    n, m = len(data), len(samples)
    both = np.arange(n + m)

    def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.array([distance(of, first, second) for of, (_, distance) in zip(wanted, measures, strict=True)])

    values = distances(both[:n], both[n:])
    again = np.array([distances(rng.integers(0, n, n), rng.integers(n, n + m, m)) for _ in range(resamplings)])
    mixed = [rng.permutation(both) for _ in range(resamplings)]
    chance = np.array([distances(order[:n], order[n:]) for order in mixed])

    def difference(columns: tuple[str, ...], measure: str, of: slice | int) -> Difference:
        spread = np.atleast_2d(again[:, of].T).mean(0).std(ddof=1)
        return Difference(columns, measure, *map(float, (np.mean(values[of]), spread, np.mean(chance[:, of]))))

    found = [
        difference(tuple(names[place] for place in of), measure, number)
        for number, (of, (measure, _)) in enumerate(zip(wanted, measures, strict=True))
    ]
    single, pairs = slice(0, len(names)), slice(len(names), None)
    return Differences(
        tuple(found[single]),
        tuple(found[pairs]),
        difference((), "mean", single) if found[single] else None,
        difference((), "mean", pairs) if found[pairs] else None,
    )


@dataclass(frozen=True, eq=False)
class _Coded:
    """Both tables, one under the other.

    Attributes:
        ranks: (rows, columns) of numbers, NaN where one is missing.
        codes: (rows, columns) of categories, or of the bin that a number is in; -1 where one is missing.
        sizes: How many codes each column has.
        categories: Which columns have categories.
    """

    ranks: np.ndarray
    codes: np.ndarray
    sizes: tuple[int, ...]
    categories: tuple[bool, ...]

    @classmethod
    def of(cls, data: np.ndarray, samples: np.ndarray, categories: Sequence[bool]) -> "_Coded":
        values = np.concatenate([data, samples])
        ranks, codes, sizes = np.full(values.shape, np.nan), np.full(values.shape, -1), []
        for place, named in enumerate(categories):
            there = ~np.isnan(values[:, place])
            cells = values[there, place]
            known = data[~np.isnan(data[:, place]), place]
            distinct, order = np.unique(cells, return_inverse=True)
            ranks[there, place] = order
            if named or len(distinct) <= _BINS:
                codes[there, place] = order
                sizes.append(max(1, len(distinct)))
                continue
            edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.empty(0)
            codes[there, place] = np.searchsorted(edges, cells, side="right")
            sizes.append(len(edges) + 1)
        return cls(ranks, codes, tuple(sizes), tuple(categories))

    def measure(self, of: tuple[int, ...]) -> tuple[str, Callable[[tuple[int, ...], np.ndarray, np.ndarray], float]]:
        """The measure for a column or a pair: its name, and the distance between two sets of rows."""
        if any(self.categories[place] for place in of):
            return "total variation", self._total_variation
        return (
            ("Kolmogorov-Smirnov", self._kolmogorov_smirnov)
            if len(of) == 1
            else ("rank correlation", self._correlation)
        )

    def _total_variation(self, of: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> float:
        found = []
        for rows in (first, second):
            codes = self.codes[rows][:, list(of)]
            there = codes if len(of) > 1 else codes[codes[:, 0] >= 0]
            found.append(np.ravel_multi_index(tuple(there.T + 1), [self.sizes[place] + 1 for place in of]))
        cells = np.unique(np.concatenate(found), return_inverse=True)[1]  # those that occur, which are few
        parts = np.split(cells, [len(found[0])])
        shares = [np.bincount(part, minlength=cells.max(initial=0) + 1) / max(1, len(part)) for part in parts]
        return float(np.abs(shares[0] - shares[1]).sum() / 2)

    def _kolmogorov_smirnov(self, of: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> float:
        found = [self.ranks[rows, of[0]] for rows in (first, second)]
        ranks = [cells[~np.isnan(cells)].astype(int) for cells in found]
        most = 1 + max((int(cells.max()) for cells in ranks if len(cells)), default=0)
        below = [np.bincount(cells, minlength=most).cumsum() / max(1, len(cells)) for cells in ranks]
        return float(np.abs(below[0] - below[1]).max())

    def _correlation(self, of: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> float:
        return abs(_correlation(self.ranks[first][:, list(of)]) - _correlation(self.ranks[second][:, list(of)])) / 2


def _correlation(pairs: np.ndarray) -> float:
    """Of the ranks of two columns, over the rows that have both; 0 where one of them does not vary."""
    known = pairs[~np.isnan(pairs).any(1)]
    if len(known) < 2:
        return 0.0
    places = np.stack([_mean_ranks(column) for column in known.T])
    spread = places.std(1)
    centred = places - places.mean(1, keepdims=True)
    return float((centred[0] * centred[1]).mean() / spread.prod()) if spread.all() else 0.0


def _mean_ranks(cells: np.ndarray) -> np.ndarray:
    """The rank of each number; equal ones have their mean."""
    _, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[inverse]
