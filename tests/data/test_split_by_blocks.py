"""Windows of a series that overlap are divided by blocks, so that no step of the series is in two splits."""

from pathlib import Path

import numpy as np
import pytest

from naming import naming
from vaekit.data import Dataset, DataSpec, Limit, prepare
from vaekit.data.split import steps_between_windows
from vaekit.errors import DataError

STEPS, CHANNELS, N = 6, 2, 800
RNG = np.random.default_rng(0)
SERIES = RNG.permutation(10 * N).astype(np.float32).reshape(-1, CHANNELS)  # no step occurs twice


def windows(moved: int = 1, n: int = N) -> np.ndarray:
    """(n, STEPS, CHANNELS), each moved on by so many steps."""
    return np.stack([SERIES[moved * i : moved * i + STEPS] for i in range(n)])


def prepared(values: np.ndarray, limit: Limit | None = None, **settings) -> Dataset:
    return prepare(DataSpec(layout="sequence", scale="none", **settings), limit or Limit(), data=values)


def steps_of(data: Dataset) -> list[set[float]]:
    """The values of the first channel in each split."""
    return [set(rows.batch(slice(None))[:, 0].flatten().tolist()) for rows in (data.train, data.valid, data.test)]


def shared(data: Dataset) -> int:
    train, valid, test = steps_of(data)
    return len(train & valid) + len(train & test) + len(valid & test)


@pytest.mark.parametrize("moved", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_is_in_two_splits(moved, seed):
    data = prepared(windows(moved), seed=seed)
    assert shared(data) == 0
    assert (len(data.valid), len(data.test)) == (80, 80)
    between = N - len(data.train) - 160
    assert between > 0
    assert f"in blocks of consecutive rows, and {between} rows between blocks left out" in data.schema.protocol
    assert "windows overlap, so that errors over rows are too small" in data.schema.protocol
    assert shared(prepared(windows(moved), seed=seed, split_by="rows")) > 0


def test_rows_left_out_are_the_neighbours_of_those_held_out():
    at = {float(step): place for place, step in enumerate(SERIES[:, 0])}
    data = prepared(windows())
    train, valid, test = (
        {at[float(x)] for x in rows.batch(slice(None))[:, 0, 0]} for rows in (data.train, data.valid, data.test)
    )
    near = {place + off for place in valid | test for off in range(1 - STEPS, STEPS)}
    assert train == set(range(N)) - near


def test_the_seed_decides_which_blocks_and_limits_keep_some_of_all():
    one, same, other = prepared(windows()), prepared(windows()), prepared(windows(), seed=1)
    np.testing.assert_array_equal(one.train.batch(slice(None)), same.train.batch(slice(None)))
    assert steps_of(one)[2] != steps_of(other)[2]
    few = prepared(windows(), Limit(train=50, valid=10))
    assert (len(few.train), len(few.valid), len(few.test)) == (50, 10, 80)
    np.testing.assert_array_equal(few.train.batch(slice(None)), one.train.batch(slice(0, 50)))
    assert np.ptp(few.train.batch(slice(None)).numpy()) > 0.9 * np.ptp(SERIES)


def test_streamed_windows_are_divided_as_in_memory(tmp_path):
    np.save(path := tmp_path / "a.npy", windows())
    spec = {"layout": "sequence", "scale": "none", "source": str(path)}
    streamed = prepare(DataSpec(stream="always", **spec), Limit(data_gb=0.001))
    whole = prepare(DataSpec(**spec), Limit())
    assert shared(streamed) == 0
    np.testing.assert_array_equal(streamed.test.batch(slice(None)), whole.test.batch(slice(None)))
    ours, theirs = (np.sort(rows.train.batch(slice(None))[:, 0, 0]) for rows in (streamed, whole))
    np.testing.assert_array_equal(ours, theirs)


def test_a_source_with_a_test_set_of_its_own_has_validation_in_blocks(tmp_path: Path):
    np.savez(path := tmp_path / "a.npz", x_train=windows(), x_test=windows()[:50])
    data = prepare(DataSpec(source=str(path), layout="sequence", scale="none"), Limit())
    train, valid, _ = steps_of(data)
    assert (len(data.valid), len(data.test)) == (80, 50)
    assert not train & valid


def test_by_how_much_windows_move():
    rows = windows(2).transpose(0, 2, 1)
    assert steps_between_windows(rows) == 2
    assert steps_between_windows(windows(STEPS - 2, 400).transpose(0, 2, 1)) == STEPS - 2
    assert steps_between_windows(windows(STEPS, 400).transpose(0, 2, 1)) is None
    holes = rows.copy()
    holes[np.isin(holes, rows[20])] = np.nan
    assert steps_between_windows(holes) == 2
    broken = rows.copy()
    broken[::10] += 0.5
    assert steps_between_windows(broken) is None
    assert steps_between_windows(rows[RNG.permutation(N)]) is None
    assert steps_between_windows(RNG.integers(0, 2, (N, CHANNELS, STEPS))) is None
    assert steps_between_windows((RNG.random((N, 1, STEPS)) < 0.02).astype(float)) is None
    assert steps_between_windows(np.zeros((N, CHANNELS, STEPS))) is None


def test_other_rows_are_divided_by_blocks_where_that_is_said():
    table = np.arange(200.0)[:, None] + np.zeros((1, 3))
    data = prepare(DataSpec(split_by="blocks", scale="none", support="real"), Limit(), data=table)
    test = np.sort(data.test.batch(slice(None))[:, 0])
    assert (len(data.train), len(data.valid), len(test)) == (160, 20, 20)
    assert len(np.flatnonzero(np.diff(test) > 1)) <= 20 // 4  # runs of four rows at least


def test_too_short_a_series_is_one_line():
    with pytest.raises(DataError, match=r"12 windows.*5 left out", check=naming("DataSpec.split_by", "auto")) as raised:
        prepared(windows(n=12))
    assert "\n" not in str(raised.value)
    assert len(prepared(windows(n=12), split_by="rows").test) == 1
