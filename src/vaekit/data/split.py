"""Which rows train, validate and test: drawn without replacement, and the same for the same seed."""

from dataclasses import dataclass

import numpy as np

from vaekit.data.bounds import check_chunks, check_streamed
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError, SpecError
from vaekit.randomness import split_generator

_TRAIN_PART, _TEST_PART = 0, 1
_MOST_IN_MEMORY = 10_000  # rows of a streamed source that validate, and that test
_MOST_BYTES = 256_000_000
_STANDING_IN = 0.1  # of the training rows, where none validate


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a table by number: no row is in two splits, but for rows that stand in for validation.

    Attributes:
        train: in the order in which they were drawn; None where they are streamed: all that are not in `out`.
        valid: in the order in which they were drawn; rows of `train` where DataSpec.valid_fraction is 0.
        test: in the order of the table.
        out: the rows that training leaves out where it is streamed, in rising order.
        protocol: how they were drawn, in words.
    """

    train: np.ndarray | None
    valid: np.ndarray
    test: np.ndarray
    out: np.ndarray
    protocol: str


def is_streamed(table: Table, spec: DataSpec, limit: Limit) -> bool:
    """Whether rows are read in chunks as they are needed, and not kept in memory."""
    if spec.stream != "auto":
        return spec.stream == "always"
    return table.streamable and len(table) * table.row_bytes > limit.data_gb * 1e9


def check_size(table: Table, spec: DataSpec, limit: Limit) -> None:
    """Raise DataError where rows are streamed, and that would take too much memory."""
    if is_streamed(table, spec, limit):
        cache = Sizes.of(limit).cache
        check_streamed(table.name, len(table), table.row_bytes // table.dtype.itemsize, cache)
        check_chunks(table.name, table.starts, table.row_bytes, cache)


def split_rows(table: Table, spec: DataSpec, limit: Limit) -> Split:
    """Draw the splits, then keep the first rows of training and validation that the limits allow.

    Of a table that is streamed, at most 10,000 rows each validate and test, or as many as fit into 256 MB: the first of
    those that are drawn otherwise; the rows beyond that train. Where Limit.train is set, and that many rows fit into
    Limit.data_gb, these are drawn and read into memory, unless DataSpec.stream=always.

    Raises:
        DataError: a split would be empty.
        SpecError: the fractions leave no rows for training.
    """
    pool = _permuted(0, table.train_rows, spec.seed, _TRAIN_PART)
    tests = _permuted(table.train_rows, table.test_rows, spec.seed, _TEST_PART)
    streamed = is_streamed(table, spec, limit)
    most = max(1, min(_MOST_IN_MEMORY, _MOST_BYTES // table.row_bytes)) if streamed else len(table)
    if table.test_rows == 0:
        tests, rest = _cut(pool, _share(spec.test_fraction, len(pool)))
        valid, train = _cut(rest, _share(spec.valid_fraction, len(pool)))
        few = f" (streamed: at most {most} each)" if streamed else ""
        protocol = (
            f"validation and test are {min(len(valid), most)} and {min(len(tests), most)} of {len(pool)} rows{few}"
        )
    elif spec.valid_from == "train":
        valid, train = _cut(pool, _share(spec.valid_fraction, len(pool)))
        protocol = f"the source's test set; validation is {len(valid)} of its {len(pool)} training rows"
    else:
        whole = len(tests)
        (valid, tests), train = _cut(tests, _share(spec.valid_fraction, whole)), pool
        protocol = f"validation is {len(valid)} of the source's {whole} test rows, test the other {len(tests)}"
    without_test = table.test_rows == 0 and spec.test_fraction == 0
    wanted = [train, *([valid] if spec.valid_fraction else []), *([] if without_test else [tests])]
    if min(map(len, wanted)) == 0:
        raise _empty(table.name, table.train_rows, table.test_rows, spec)
    (tests, more_tests), (valid, more_valid) = _cut(tests, most), _cut(valid, most)
    train = np.concatenate([train, more_valid, more_tests])
    out = np.sort(np.concatenate([tests, valid]))
    if spec.valid_fraction == 0:
        valid = train[: limit.train][: min(most, _share(_STANDING_IN, len(train)))]
        protocol += (
            f"; no rows are kept out for validation: {len(valid)} training rows stand in, nothing stops early and the "
            "last weights are kept"
        )
    limits = ((limit.train, len(train), "training"), (limit.valid, len(valid), "validation"))
    kept = [f"{most} {name}" for most, there, name in limits if most is not None and most < there]
    protocol += f"; limited to {' and '.join(kept)} rows" if kept else ""
    chosen: np.ndarray | None = train[: limit.train]
    if streamed:
        fits = limit.train is not None and limit.train * table.row_bytes <= limit.data_gb * 1e9
        if not fits or spec.stream == "always":
            protocol += "; the training rows are the first of the file" if limit.train is not None else ""
            chosen = None
    valid = valid[: limit.valid]
    return Split(chosen, valid, np.sort(tests), out, f"{protocol}; drawn without replacement, split seed {spec.seed}")


def _permuted(start: int, count: int, seed: int, part: int) -> np.ndarray:
    return start + split_generator(seed, part).permutation(count)


def _share(fraction: float, rows: int) -> int:
    return max(1, round(fraction * rows)) if fraction else 0


def _cut(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:count], rows[count:]


def _empty(name: str, rows: int, tests: int, spec: DataSpec) -> SpecError | DataError:
    divided, parts = rows, 3
    if tests > 0:
        divided, parts = (rows if spec.valid_from == "train" else tests), 2
    if divided < parts:
        count = f"{rows} rows" if tests == 0 else f"{rows} training and {tests} test rows"
        return DataError(f"{name} has {count}; training, validation and test need at least one row each: add rows.")
    fractions = f"DataSpec.valid_fraction={spec.valid_fraction:g}"
    if tests == 0:
        fractions += f" and DataSpec.test_fraction={spec.test_fraction:g}"
    return SpecError(f"{fractions} leave no rows of the {divided} of {name} over: lower them.")
