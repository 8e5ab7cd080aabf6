"""Which rows train, validate and test: drawn without replacement, and the same for the same seed."""

from dataclasses import dataclass

import numpy as np

from vaekit.data.source import Source
from vaekit.data.spec import DataSpec, Limit
from vaekit.errors import ConfigError, DataError
from vaekit.randomness import split_generator

_TRAIN_PART, _TEST_PART = 0, 1
_MOST_IN_MEMORY = 10_000  # rows of a streamed source that validate, and that test
_MOST_BYTES = 256_000_000


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a source by number: no row is in two splits.

    Attributes:
        train, valid: in the order in which they were drawn.
        test: in the order of the source.
        protocol: how they were drawn, in words.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    protocol: str


def split_rows(source: Source, spec: DataSpec, limit: Limit) -> Split:
    """Draw the splits, then keep the first rows of training and validation that the limits allow.

    Raises:
        DataError: a split would be empty or a limit is more than the rows that there are.
        ConfigError: the fractions leave no rows for training.
    """
    pool = _permuted(0, source.train_rows, spec.seed, _TRAIN_PART)
    tests = _permuted(source.train_rows, source.test_rows, spec.seed, _TEST_PART)
    if source.test_rows == 0:
        count = _share(spec.test_fraction, len(pool))
        tests, rest = pool[:count], pool[count:]
        valid, train = _cut(rest, _share(spec.valid_fraction, len(pool)))
        protocol = f"validation and test are {len(valid)} and {len(tests)} of {len(pool)} rows"
    elif spec.valid_from == "train":
        valid, train = _cut(pool, _share(spec.valid_fraction, len(pool)))
        protocol = f"the source's test set; validation is {len(valid)} of its {len(pool)} training rows"
    else:
        whole = len(tests)
        (valid, tests), train = _cut(tests, _share(spec.valid_fraction, whole)), pool
        protocol = f"validation is {len(valid)} of the source's {whole} test rows, test the other {len(tests)}"
    if min(len(train), len(valid), len(tests)) == 0:
        raise _empty(source.name, source.train_rows, source.test_rows, spec)
    kept = [f"{n} {name}" for n, name in ((limit.train, "training"), (limit.valid, "validation")) if n]
    if kept:
        protocol += f"; limited to {' and '.join(kept)} rows"
    return Split(
        train=_limited(train, limit.train, "train", "lower it"),
        valid=_limited(valid, limit.valid, "valid", "lower it, or raise DataSpec.valid_fraction"),
        test=np.sort(tests),
        protocol=f"{protocol}; drawn without replacement, split seed {spec.seed}",
    )


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """The rows of a store that are read into memory, by number, and those that training leaves out.

    train is None where training rows are streamed: all that are not in `out`, which is in rising order.
    """

    train: np.ndarray | None
    valid: np.ndarray
    test: np.ndarray
    out: np.ndarray
    protocol: str


def split_streamed(name: str, rows: int, row_bytes: int, spec: DataSpec, limit: Limit) -> StreamedSplit:
    """Draw the rows of a streamed source that validate and test: the first of those that `split_rows` would draw.

    At most 10,000 each, or as many as fit into 256 MB; the rows beyond that train. Where Limit.train is set, and that
    many rows fit into Limit.data_gb, these are drawn and read as well, unless DataSpec.stream=always.

    Args:
        name: of the source, for errors.
        rows: how many there are.
        row_bytes: what a row takes in memory. Drawing takes 8 bytes a row for a moment.
        spec: the shares and the seed.
        limit: how many training and validation rows are kept.

    Raises:
        DataError, ConfigError: as by `split_rows`.
    """
    pool = _permuted(0, rows, spec.seed, _TRAIN_PART)
    tests, rest = _cut(pool, _share(spec.test_fraction, rows))
    valid, train = _cut(rest, _share(spec.valid_fraction, rows))
    if min(len(train), len(valid), len(tests)) == 0:
        raise _empty(name, rows, 0, spec)
    most = max(1, min(_MOST_IN_MEMORY, _MOST_BYTES // row_bytes))
    tests, more_tests = _cut(tests, most)
    valid, more_valid = _cut(valid, most)
    train_rows = rows - len(tests) - len(valid)
    protocol = f"validation and test are {len(valid)} and {len(tests)} of {rows} rows (streamed: at most {most} each)"
    kept = [f"{n} {what}" for n, what in ((limit.train, "training"), (limit.valid, "validation")) if n]
    if kept:
        protocol += f"; limited to {' and '.join(kept)} rows"
    chosen = None
    if limit.train is not None:
        if limit.train > train_rows:
            _limited(np.arange(train_rows), limit.train, "train", "lower it")
        if spec.stream != "always" and limit.train * row_bytes <= limit.data_gb * 1e9:
            chosen = np.concatenate([train, more_valid, more_tests])[: limit.train]
        else:
            protocol += "; the training rows are the first of the file"
    return StreamedSplit(
        train=chosen,
        valid=_limited(valid, limit.valid, "valid", "lower it, or raise DataSpec.valid_fraction"),
        test=np.sort(tests),
        out=np.sort(np.concatenate([tests, valid])),
        protocol=f"{protocol}; drawn without replacement, split seed {spec.seed}",
    )


def _permuted(start: int, count: int, seed: int, part: int) -> np.ndarray:
    return start + split_generator(seed, part).permutation(count)


def _share(fraction: float, rows: int) -> int:
    return max(1, round(fraction * rows))


def _cut(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:count], rows[count:]


def _limited(rows: np.ndarray, limit: int | None, name: str, fix: str) -> np.ndarray:
    if limit is not None and limit > len(rows):
        raise DataError(
            f"Limit.{name}={limit} is more than the {len(rows)} rows that there are: {fix}.",
            field=f"Limit.{name}",
            value=limit,
        )
    return rows[:limit]


def _empty(name: str, rows: int, tests: int, spec: DataSpec) -> ConfigError | DataError:
    divided, parts = rows, 3
    if tests > 0:
        divided, parts = (rows if spec.valid_from == "train" else tests), 2
    if divided < parts:
        count = f"{rows} rows" if tests == 0 else f"{rows} training and {tests} test rows"
        return DataError(f"{name} has {count}; training, validation and test need at least one row each: add rows.")
    fractions = f"DataSpec.valid_fraction={spec.valid_fraction:g}"
    if tests == 0:
        fractions += f" and DataSpec.test_fraction={spec.test_fraction:g}"
    return ConfigError(f"{fractions} leave no rows of the {divided} of {name} over: lower them.")
