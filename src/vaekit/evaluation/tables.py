"""How good a synthetic table is: its columns and pairs of them, what can be learned from it, and what it gives away."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.errors import DataError
from vaekit.evaluation.columns import Difference, compare_columns
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.results import unit_of
from vaekit.randomness import Purpose, numpy_generator, sklearn_seed

RESAMPLINGS = 10  # for errors of columns and pairs
RESAMPLED_SCORES = 100
MOST_COMPARED = 2000  # rows whose closest training row is looked for
MOST_BINS = 255  # categories that gradient boosting takes as such
AT_ONCE = 20_000_000  # numbers of a block of distances


@dataclass(frozen=True)
class Tables:
    """Rows of one table from three sources, as numbers in the units of the data.

    Attributes:
        train: (n, columns) that the model was trained on; NaN where a cell is missing.
        held_out: (m, columns) that it was not.
        synthetic: (k, columns) that it made.
        names: Of the columns.
        categories: Whether the numbers of each column stand for categories.
    """

    train: np.ndarray
    held_out: np.ndarray
    synthetic: np.ndarray
    names: Sequence[str]
    categories: Sequence[bool]


@dataclass(frozen=True)
class TableQuality:
    """What is measured of a synthetic table.

    Attributes:
        estimates: By `synthetic.NAME`, and for comparison by `real.NAME`: see `table_quality`.
        columns: Errors of single columns, by name.
        pairs: Those of pairs, by the names with a comma between.
        target: The column that is predicted.
    """

    estimates: dict[str, Estimate]
    columns: dict[str, Estimate]
    pairs: dict[str, Estimate]
    target: str


def table_quality(tables: Tables, target: str | None = None, seed: int = 0) -> TableQuality:
    """Compare a synthetic table with the rows that a model was trained on, and with held-out rows.

    - `column_error`, `pair_error`: mean distances of columns and of pairs from those of the training rows; see
      `vaekit.evaluation.columns`. `real` is that of the held-out rows.
    - `auc`, or `r2` of a column of numbers: of the target, predicted from the other columns of held-out rows by
      gradient boosting (scikit-learn, HistGradientBoosting with its defaults) that is trained on the synthetic rows;
      `real` is trained on the training rows. The AUC of several categories is the mean over each against the rest.
    - `closest`: the distance of a row from the closest training row, on average: the mean over columns of 1 where
      categories, or what is missing, differ, and else of |a - b| / range (Gower, 1971). `real` is that of held-out
      rows, which a synthetic row that is copied is below.
    - `copies`: the share of rows that equal a training row in every cell; `real` likewise.

    Errors are by resampling rows, of `closest` that of a mean, and of `copies` binomial.

    Args:
        tables: The rows.
        target: The column to predict; by default the last of categories, or the last.
        seed: Of gradient boosting and of resampling.

    Raises:
        DataError: There is no such column, or there are too few rows.

    Source: Esteban, Hyland and Raetsch, 2017, arXiv 1706.02633 (train on synthetic, test on real).
    """
    few = min(len(tables.train), len(tables.held_out), len(tables.synthetic))
    if few < 2 or len(tables.names) < 2:
        raise DataError(
            f"{few} rows of {len(tables.names)} columns are too few to compare: give 2 of each at least", field="rows"
        )
    place = _place_of(tables, target)
    first, second = tables.train, tables.synthetic
    made, real = (
        compare_columns(first, rows, tables.names, tables.categories, seed, RESAMPLINGS)
        for rows in (second, tables.held_out)
    )
    estimates: dict[str, Estimate] = {}
    for source, found, rows in (("synthetic", made, second), ("real", real, tables.held_out)):
        estimates[f"{source}.column_error"] = _of_difference(found.single_mean, len(rows))
        estimates[f"{source}.pair_error"] = _of_difference(found.pairs_mean, len(rows))
    score = "auc" if tables.categories[place] else "r2"
    for source, rows in (("synthetic", second), ("real", first)):
        estimates[f"{source}.{score}"] = _predicted(tables, rows, place, seed)
    most = min(MOST_COMPARED, len(second), len(tables.held_out))
    for source, rows in (("synthetic", second), ("real", tables.held_out)):
        estimates[f"{source}.closest"] = _closest(tables, rows[:most])
        estimates[f"{source}.copies"] = _copies(first, rows[: min(len(second), len(tables.held_out))])
    return TableQuality(
        estimates,
        {one.columns[0]: _of_difference(one, len(second)) for one in made.single},
        {", ".join(one.columns): _of_difference(one, len(second)) for one in made.pairs},
        tables.names[place],
    )


def _place_of(tables: Tables, target: str | None) -> int:
    names = list(tables.names)
    if target is None:
        named = [place for place, categories in enumerate(tables.categories) if categories]
        return named[-1] if named else len(names) - 1
    if target not in names:
        raise DataError(
            f"there is no column {target!r}: the target is one of {', '.join(names)}", field="target", value=target
        )
    return names.index(target)


def _of_difference(found: Difference | None, n: int) -> Estimate:
    assert found is not None  # there are columns, and pairs of them
    return Estimate(found.value, found.error, n, unit_of("column_error"))


def _predicted(tables: Tables, train: np.ndarray, place: int, seed: int) -> Estimate:
    """The score of the target in held-out rows, predicted by what is fitted to other rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # slow to import

    others = [other for other in range(len(tables.names)) if other != place]
    known, test = (rows[~np.isnan(rows[:, place])] for rows in (train, tables.held_out))
    named = [tables.categories[other] and train[:, other].max(initial=0) < MOST_BINS for other in others]
    x, y, test_x, test_y = known[:, others], known[:, place], test[:, others], test[:, place]
    for column, categories in enumerate(named):
        if categories:  # those that fitting has not seen count as missing
            test_x[:, column] = np.where(np.isin(test_x[:, column], x[:, column]), test_x[:, column], np.nan)
    is_category, n = tables.categories[place], len(test)
    unit = unit_of("auc" if is_category else "r2")
    if len(np.unique(y)) < 2 or len(np.unique(test_y)) < 2:
        return Estimate(None, 0.0, n, unit, f"the column {tables.names[place]} has one value in these rows")
    make: Any = HistGradientBoostingClassifier if is_category else HistGradientBoostingRegressor
    model = make(categorical_features=named, random_state=sklearn_seed(seed, Purpose.TABLE_TREES)).fit(x, y)
    if is_category:
        probabilities, classes = model.predict_proba(test_x), model.classes_

        def score(rows: np.ndarray) -> float:
            return area_under_roc(probabilities[rows], classes, test_y[rows])
    else:
        predicted = model.predict(test_x)

        def score(rows: np.ndarray) -> float:
            return 1 - float(np.square(test_y - predicted)[rows].mean() / test_y[rows].var())

    return _resampled(score, n, unit, seed)


def _resampled(score: Callable[[np.ndarray], float], n: int, unit: str, seed: int) -> Estimate:
    """A score of n rows, and its spread over resampled ones."""
    rng = numpy_generator(seed, Purpose.TABLE_ROWS)
    with np.errstate(invalid="ignore", divide="ignore"):
        again = np.array([score(rng.integers(0, n, n)) for _ in range(RESAMPLED_SCORES)])
        return Estimate(score(np.arange(n)), float(np.nanstd(again, ddof=1)), n, unit)


def area_under_roc(probabilities: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes of the area under the ROC curve against all others; of two classes it is that of either."""
    found = []
    for column, name in enumerate(classes):
        positive = labels == name
        count = int(positive.sum())
        if 0 < count < len(labels):
            _, inverse, counts = np.unique(probabilities[:, column], return_inverse=True, return_counts=True)
            ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
            found += [(ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count))]
    return float(np.mean(found)) if found else math.nan


def _closest(tables: Tables, rows: np.ndarray) -> Estimate:
    train, distances = tables.train, []
    span = np.nanmax(train, 0, initial=-math.inf) - np.nanmin(train, 0, initial=math.inf)
    at_once = max(1, AT_ONCE // len(train))
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        total = np.zeros((len(some), len(train)), np.float32)
        for column, categories in enumerate(tables.categories):
            a, b = some[:, column, None], train[:, column]
            if categories or span[column] <= 0:
                apart = (a != b).astype(np.float32)
            else:
                apart = np.minimum(np.abs(a - b) / span[column], 1).astype(np.float32)
            total += np.where(np.isnan(a) | np.isnan(b), np.isnan(a) != np.isnan(b), apart)
        distances += [total.min(1) / len(tables.names)]
    found = np.concatenate(distances).astype(float)
    return Estimate(
        float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found))), len(found), unit_of("closest")
    )


def _copies(train: np.ndarray, rows: np.ndarray) -> Estimate:
    known = {row.tobytes() for row in _canonical(train)}
    n, share = len(rows), float(np.mean([row.tobytes() in known for row in _canonical(rows)]))
    return Estimate(share, math.sqrt(share * (1 - share) / n), n, unit_of("copies"))


def _canonical(rows: np.ndarray) -> np.ndarray:
    """Rows of which equal ones have the same bytes."""
    return np.ascontiguousarray(np.where(np.isnan(rows), np.nan, rows + 0.0))
