"""Which rows train, validate and test: drawn without replacement, and the same for the same seed."""

from dataclasses import dataclass

import numpy as np

from vaekit.data.source import Source
from vaekit.data.spec import DataSpec, Limit
from vaekit.errors import ConfigError, DataError

_TRAIN_PART, _TEST_PART = 0, 1


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a source by number: no row is in two splits. Training and validation rows are in the order in
    which they were drawn, test rows in the order of the source.

    protocol: how they were drawn, in words.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    protocol: str


def split_rows(source: Source, spec: DataSpec, limit: Limit) -> Split:
    """Draw the splits, then keep the first rows of training and validation that the limits allow.

    Raises DataError where a split would be empty or a limit asks for more rows than there are, ConfigError
    where the fractions leave no rows for training.
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
        raise _empty(source, spec)
    kept = [f"{n} {name}" for n, name in ((limit.train, "training"), (limit.valid, "validation")) if n]
    if kept:
        protocol += f"; limited to {' and '.join(kept)} rows"
    return Split(
        train=_limited(train, limit.train, "train", "lower it"),
        valid=_limited(valid, limit.valid, "valid", "lower it, or raise data.valid_fraction"),
        test=np.sort(tests),
        protocol=f"{protocol}; drawn without replacement, split seed {spec.seed}",
    )


def _permuted(start: int, count: int, seed: int, part: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, part])))
    return start + generator.permutation(count)


def _share(fraction: float, rows: int) -> int:
    return max(1, round(fraction * rows))


def _cut(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:count], rows[count:]


def _limited(rows: np.ndarray, limit: int | None, name: str, fix: str) -> np.ndarray:
    if limit is not None and limit > len(rows):
        raise DataError(f"limit.{name}={limit} asks for more rows than the {len(rows)} that there are: {fix}.")
    return rows[:limit]


def _empty(source: Source, spec: DataSpec) -> ConfigError | DataError:
    rows, tests = source.train_rows, source.test_rows
    divided, parts = rows, 3
    if tests > 0:
        divided, parts = (rows if spec.valid_from == "train" else tests), 2
    if divided < parts:
        count = f"{rows} rows" if tests == 0 else f"{rows} training and {tests} test rows"
        return DataError(
            f"{source.name} has {count}; training, validation and test need at least one row each: add rows."
        )
    fractions = f"data.valid_fraction={spec.valid_fraction:g}"
    if tests == 0:
        fractions += f" and data.test_fraction={spec.test_fraction:g}"
    return ConfigError(f"{fractions} leave no rows of the {divided} of {source.name} over: lower them.")
