"""Streamed rows come in windows: each once an epoch, mixed, bounded in memory, read ahead, and repeatable."""

import gc
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from streams import SMALL, N, epoch, npy

from vaekit.data import DataSpec, Limit, StreamedRows, prepare
from vaekit.data.table import Sizes
from vaekit.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")  # batches here are small


def numbered(folder: Path, rows: int = N, limit: Limit = SMALL, **settings) -> StreamedRows:
    """Rows that hold their own numbers in the file: 10 columns of 8 bytes."""
    source = npy(folder, np.repeat(np.arange(rows)[:, None], 10, 1) * 1.0)
    data = prepare(DataSpec(source=source, stream="always", scale="none", **settings), limit)
    assert isinstance(data.train, StreamedRows)
    return data.train


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vaekit-data"]


def gone() -> bool:
    """Whether the threads end within two seconds."""
    for _ in range(200):
        if not alive():
            return True
        time.sleep(0.01)
    return False


def test_every_training_row_once_an_epoch_and_no_other(tmp_path):
    train = numbered(tmp_path)
    held = set(range(N)) - {int(row[0]) for row in train.batch(slice(None))}
    assert len(held) == 140
    for seed in range(3):
        seen = [int(x[0]) for part in train.order(epoch(seed)).split(64) for x in train.batch(part)]
        assert len(seen) == len(set(seen)) == N - 140
        assert not held & set(seen)


def test_the_order_is_a_function_of_the_generator(tmp_path):
    train, again = numbered(tmp_path), numbered(tmp_path)
    assert torch.equal(train.order(epoch(1)), again.order(epoch(1)))
    assert not torch.equal(train.order(epoch(1)), train.order(epoch(2)))
    assert sorted(train.order(epoch(1)).tolist()) == list(range(len(train)))


def test_memory_does_not_decide_the_order():
    assert Sizes.of(Limit(data_gb=0.512)).chunk == Sizes.of(Limit(data_gb=50)).chunk == 4_000_000
    assert Sizes.of(Limit(data_gb=0.512)).window == Sizes.of(Limit(data_gb=50)).window
    assert Sizes.of(Limit(data_gb=0.1)).window * 2 <= Sizes.of(Limit(data_gb=0.1)).cache


def test_resumed_in_the_middle_and_divided_among_processes(tmp_path):
    whole = numbered(tmp_path)
    order = whole.order(epoch(3))
    batches = [whole.batch(part) for part in order.split(50)]
    resumed = numbered(tmp_path)
    parts = resumed.order(epoch(3)).split(50)
    for number in range(7, len(parts)):
        half = len(parts[number]) // 2
        shares = [resumed.batch(parts[number][:half]), resumed.batch(parts[number][half:])]
        assert torch.equal(torch.cat(shares), batches[number])


def test_windows_mix(tmp_path):
    """Rows of an epoch are far from the order of the file, in the large and within each batch."""
    train = numbered(tmp_path, rows=5000, limit=Limit(data_gb=1e-3))
    order = train.order(epoch(0)).double()
    n = len(order)
    places = torch.arange(n, dtype=torch.float64)
    rank_correlation = float(torch.corrcoef(torch.stack([order, places]))[0, 1])
    # Chunks come in a random order, and there are 52 of them: 4.5 standard deviations of their rank correlation.
    assert abs(rank_correlation) < 4.5 / 51**0.5
    assert float((order.diff() == 1).double().mean()) < 0.01
    for batch in order.split(100)[:-1]:
        assert len((batch // (n / 52)).unique()) >= 8  # chunks that a batch draws from; a window has 16


def test_memory_is_bounded_and_chunks_are_read_once_an_epoch(tmp_path):
    train = numbered(tmp_path, rows=20_000, limit=Limit(data_gb=4e-4))
    reads: list[int] = []
    store = replace(train.table, read=lambda chunk: reads.append(chunk) or train.table.read(chunk))
    counted = StreamedRows.of(store, train.out, train.make, train.sizes)
    for part in counted.order(epoch(0)).split(100):
        counted.batch(part)
    assert counted.cache.peak <= 100_000 < train.table.row_bytes * len(train) / 10
    assert sorted(reads) == list(range(len(store.starts) - 1))
    reads.clear()
    for index in (slice(0, 3000), torch.randperm(len(counted), generator=epoch(1))[:1000]):
        counted.batch(index)
    assert counted.cache.peak <= 100_000
    assert reads


def test_the_next_window_is_read_ahead(tmp_path):
    train = numbered(tmp_path, rows=5000, limit=Limit(data_gb=1e-3))
    reads: list[tuple[int, str]] = []

    def read(chunk: int) -> np.ndarray:
        reads.append((chunk, threading.current_thread().name))
        return train.table.read(chunk)

    counted = StreamedRows.of(replace(train.table, read=read), train.out, train.make, train.sizes)
    order = counted.order(epoch(0))
    assert not reads
    counted.batch(order[:1])
    assert gone()
    window = counted.sizes.window // train.table.row_bytes
    assert len(reads) > 16
    by_caller = sum(name != "vaekit-data" for _, name in reads)
    counted.batch(order[: window // 2])
    counted.batch(order[window // 2 : window - 200])
    assert sum(name != "vaekit-data" for _, name in reads) == by_caller


def test_an_abandoned_epoch_and_the_end_of_the_thread(tmp_path):
    train = numbered(tmp_path, rows=5000)
    seconds = [0.005]
    slow = replace(train.table, read=lambda chunk: time.sleep(seconds[0]) or train.table.read(chunk))
    rows = StreamedRows.of(slow, train.out, train.make, train.sizes)
    first = rows.order(epoch(0))
    rows.batch(first[:10])
    assert alive()
    second = rows.order(epoch(1))
    expected = train.batch(second[:500])
    assert torch.equal(rows.batch(second[:500]), expected)
    copy = rows.to("cpu").take(100)
    del rows
    assert len(copy.batch(slice(None))) == 100
    copy.batch(copy.order(epoch(2))[:1])
    whole = replace(copy, n=train.n)
    order = whole.order(epoch(3))
    assert gone()
    seconds[0] = 0.25  # so that the thread would go on for seconds, if nothing ended it
    whole.batch(order[:1])
    assert alive()
    del whole, copy
    gc.collect()
    started = time.perf_counter()
    assert gone()
    assert time.perf_counter() - started < 1.5


def test_an_error_of_the_thread_comes_out_of_batch(tmp_path):
    train = numbered(tmp_path, rows=5000)

    def read(chunk: int) -> np.ndarray:
        if threading.current_thread().name == "vaekit-data":
            raise OSError("the disk is gone")
        time.sleep(0.002)
        return train.table.read(chunk)

    rows = StreamedRows.of(replace(train.table, read=read), train.out, train.make, train.sizes)
    order = rows.order(epoch(0))
    with pytest.raises(DataError, match=r"a\.npy can no longer be read.*the disk is gone"):
        _ = [rows.batch(part) for part in order.split(50)]
    assert gone()
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match="cut short while in use"):
        train.batch(slice(None))


def test_rows_by_slice_by_number_and_some_of_them(tmp_path):
    train = numbered(tmp_path)
    everything = train.batch(slice(None))
    index = torch.tensor([5, 5, -1, 559, 0])
    assert torch.equal(train.batch(index), everything[index])
    assert torch.equal(train.batch(slice(500, 9999, 7)), everything[500::7])
    assert len(train.batch(slice(3, 3))) == 0
    with pytest.raises(IndexError):
        train.batch(torch.tensor([560]))
    few = train.take(40)
    assert (len(few), len(train.take(9999))) == (40, 560)
    assert sorted(few.order(epoch(0)).tolist()) == list(range(40))
    some = train.some(100)
    assert len(some.unique()) == 100
    assert some.max() > 540
    assert torch.equal(train.some(9999), torch.arange(560))


def test_global_state_is_left_alone(tmp_path, globals_untouched):
    with globals_untouched():
        train = numbered(tmp_path)
        train.batch(train.order(epoch(0))[:100])
