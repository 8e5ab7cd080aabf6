"""Which rows train, validate and test: drawn without replacement, and the same for the same seed.

Windows of a series that overlap are drawn in blocks of consecutive ones, so that no step is in two splits.
"""

import math
from dataclasses import dataclass

import numpy as np

from vaekit.data.bounds import BESIDE, BYTES_PER_ROW, check_chunks, check_rows, check_streamed
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError, SpecError
from vaekit.randomness import split_generator
from vaekit.words import counted

_TRAIN_PART, _TEST_PART = 0, 1
_MOST_IN_MEMORY = 10_000  # rows of a streamed source that validate, and that test
_MOST_BYTES = 256_000_000
_STANDING_IN = 0.1  # of the training rows, where none validate
_BLOCKS = 50  # that rows are divided into, where these are drawn in blocks
_GAPS = 8  # rows of a block, at least, over those left out on either side
_LOOKED_AT = 1000  # rows, to see whether windows overlap
_ALIKE = 0.99  # of neighbouring windows that share steps, where windows overlap
_BYTES_MADE = 5  # of each number, for the model, and of whether it is observed


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a table by number: no row is in two splits, but for rows that stand in for validation.

    Between blocks of neighbouring rows, some are in none.

    Attributes:
        train: In the order in which they were drawn; None where they are streamed: all that are not in `out`.
        valid: In the order in which they were drawn; rows of `train` where DataSpec.valid_fraction is 0.
        test: In the order of the table.
        out: The rows that training leaves out where it is streamed, in rising order.
        protocol: How they were drawn, in words.
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
    stored, most = len(table) * table.row_bytes, limit.data_gb * 1e9
    return table.streamable and (stored > most or stored + _made(table) > most + BESIDE)


def check_size(table: Table, spec: DataSpec, limit: Limit) -> None:
    """Raise DataError where rows would take too much memory, streamed or whole."""
    sizes = Sizes.of(limit)
    if is_streamed(table, spec, limit):
        check_streamed(table.name, len(table), table.row_bytes // table.dtype.itemsize, sizes.cache)
        check_chunks(table.name, table.starts, table.row_bytes, sizes.cache)
    elif spec.source is not None and spec.stream == "auto":
        check_rows(table.name, len(table) * table.row_bytes, _made(table), sizes.whole)


def _made(table: Table) -> int:
    """What the rows that are made of a table take in memory: grey levels stay as they are, else they are floats."""
    kept = table.columns is None and table.dtype.kind in "bui"
    return len(table) * (int(np.prod(table.shape)) * (table.dtype.itemsize if kept else _BYTES_MADE) + BYTES_PER_ROW)


def split_rows(table: Table, spec: DataSpec, limit: Limit) -> Split:
    """Draw the splits, then keep the first rows of training and validation that the limits allow.

    Of a table that is streamed, at most 10,000 rows each validate and test, or as many as fit into 256 MB: the first of
    those that are drawn otherwise; the rows beyond that train. Where Limit.train is set, and that many rows fit into
    Limit.data_gb, these are drawn and read into memory, unless DataSpec.stream=always.

    Raises:
        DataError: A split would be empty.
        SpecError: The fractions leave no rows for training.
    """
    pool = _permuted(0, table.train_rows, spec.seed, _TRAIN_PART)
    tests = _permuted(table.train_rows, table.test_rows, spec.seed, _TEST_PART)
    streamed = is_streamed(table, spec, limit)
    most = max(1, min(_MOST_IN_MEMORY, _MOST_BYTES // table.row_bytes)) if streamed else len(table)
    gap = gap_of(table, spec)

    def cut(rows: np.ndarray, fraction: float, of: int) -> tuple[np.ndarray, np.ndarray]:
        count = _share(fraction, of)
        return _cut(rows, count) if gap is None else _cut_blocks(rows, min(count, most), gap)

    if table.test_rows == 0:
        tests, rest = cut(pool, spec.test_fraction, len(pool))
        valid, train = cut(rest, spec.valid_fraction, len(pool))
        few = f" (streamed: at most {most} each)" if streamed else ""
        protocol = (
            f"validation and test are {min(len(valid), most)} and {min(len(tests), most)} of {len(pool)} rows{few}"
        )
    elif spec.valid_from == "train":
        valid, train = cut(pool, spec.valid_fraction, len(pool))
        protocol = f"the source's test set; validation is {len(valid)} of its {len(pool)} training rows"
    else:
        whole = len(tests)
        (valid, tests), train = cut(tests, spec.valid_fraction, whole), pool
        protocol = f"validation is {len(valid)} of the source's {whole} test rows, test the other {len(tests)}"
    without_test = table.test_rows == 0 and spec.test_fraction == 0
    wanted = [train, *([valid] if spec.valid_fraction else []), *([] if without_test else [tests])]
    if min(map(len, wanted)) == 0:
        raise _empty(table.name, table.train_rows, table.test_rows, spec, gap)
    if gap is not None:
        left = len(table) - len(train) - len(valid) - len(tests)
        protocol += f"; in blocks of consecutive rows, and {counted(left, 'row')} between blocks left out"
        protocol += "; windows overlap, so that errors over rows are too small" if gap else ""
    (tests, more_tests), (valid, more_valid) = _cut(tests, most), _cut(valid, most)
    if gap is None and (len(more_valid) or len(more_tests)):
        train = np.concatenate([train, more_valid, more_tests])
    left_out = np.ones(len(table), bool)
    left_out[train] = False
    if spec.valid_fraction == 0:
        valid = train[: limit.train][: min(most, _share(_STANDING_IN, len(train)))]
        stands = counted(len(valid), "training row stands", "training rows stand")
        protocol += (
            f"; no rows are kept out for validation: {stands} in, nothing stops early and the last weights are kept"
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
    protocol = f"{protocol}; drawn without replacement, split seed {spec.seed}"
    return Split(chosen, valid, np.sort(tests), np.flatnonzero(left_out), protocol)


def gap_of(table: Table, spec: DataSpec) -> int | None:
    """How many rows lie between blocks of different splits; None where rows are drawn one by one.

    Of windows of a series, each moved on by the same number of steps from the one before, it is how many follow one
    that still share a step with it.
    """
    if spec.split_by == "rows":
        return None
    moved = steps_between_windows(table.chunk(0)[:_LOOKED_AT]) if _may_be_windows(table) else None
    if moved is None:
        return 0 if spec.split_by == "blocks" else None
    return math.ceil(table.shape[-1] / moved) - 1


def steps_between_windows(rows: np.ndarray) -> int | None:
    """By how many steps each window of a series is moved on from the one before, where neighbours share two or more.

    Args:
        rows: Neighbouring sequences, (n, channels, steps); those that do not vary say nothing.

    Returns:
        The smallest number of steps; None where neighbours do not share their steps.
    """
    flat = rows.reshape(len(rows), -1)
    varying = (flat != flat[:, :1]).any(1)
    before, after = rows[:-1][varying[1:]], rows[1:][varying[1:]]
    if len(before) == 0:
        return None

    def alike(moved: int, steps: int | None) -> bool:
        one, other = before[..., moved:][..., :steps], after[..., : rows.shape[-1] - moved][..., :steps]
        return bool(((one == other) | ((one != one) & (other != other))).all((1, 2)).mean() >= _ALIKE)

    found = (moved for moved in range(1, rows.shape[-1] - 1) if alike(moved, 1) and alike(moved, None))
    return next(found, None)


def _may_be_windows(table: Table) -> bool:
    return table.kind == "sequence" and table.sound is None and len(table) > 1


def _permuted(start: int, count: int, seed: int, part: int) -> np.ndarray:
    rows = split_generator(seed, part).permutation(count)
    rows += start
    return rows


def _share(fraction: float, rows: int) -> int:
    return max(1, round(fraction * rows)) if fraction else 0


def _cut(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[:count], rows[count:]


def _cut_blocks(rows: np.ndarray, count: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of the rows in whole blocks of consecutive ones, and the others that are more than `gap` away from these.

    Args:
        rows: In a random order, which is also that of the blocks.
        count: Of rows to take; the last block may be a part of one.
        gap: How many rows on either side of a block are in neither part.
    """
    if count == 0 or len(rows) == 0:
        return rows[:0], rows
    end = int(rows.max()) + 1
    length = min(count, max(math.ceil(len(rows) / _BLOCKS), _GAPS * gap, 1))
    _, first, block = np.unique(rows // length, return_index=True, return_inverse=True)
    by_block = np.lexsort((rows, first[block]))  # blocks as their first rows come, and consecutive rows within
    taken = np.zeros(end, bool)
    taken[rows[by_block[:count]]] = True
    ahead = np.cumsum(np.concatenate([np.zeros(gap + 1, int), taken, np.zeros(gap, int)]))
    near = ahead[2 * gap + 1 :] - ahead[:end] > 0  # how many are taken of the rows from i - gap to i + gap
    return rows[taken[rows]], rows[~near[rows]]


def _empty(name: str, rows: int, tests: int, spec: DataSpec, gap: int | None) -> SpecError | DataError:
    if gap:
        return DataError(
            f"{name} has {rows + tests} windows of a series that overlap, and where blocks of them train, validate and "
            f"test, with {gap} left out on either side, none are left for one of these: give a longer series, or let "
            "the same steps be in several splits with DataSpec.split_by=rows.",
            field="DataSpec.split_by",
            value=spec.split_by,
        )
    divided, parts = rows, 3
    if tests > 0:
        divided, parts = (rows if spec.valid_from == "train" else tests), 2
    if divided < parts:
        count = counted(rows, "row") if tests == 0 else f"{rows} training and {tests} test rows"
        return DataError(f"{name} has {count}; training, validation and test need at least one row each: add rows.")
    fractions = f"DataSpec.valid_fraction={spec.valid_fraction:g}"
    if tests == 0:
        fractions += f" and DataSpec.test_fraction={spec.test_fraction:g}"
    return SpecError(
        f"{fractions} leave no rows of the {divided} of {name} over: lower them.",
        field="DataSpec.valid_fraction",
        value=spec.valid_fraction,
    )
