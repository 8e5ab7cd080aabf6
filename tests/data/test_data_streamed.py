"""Streamed rows are the rows that memory would hold: the same x, each once an epoch, mixed, bounded, and repeatable."""

import gc
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vaekit.data import Dataset, DataSpec, Levels, Limit, Rows, StreamedRows, prepare, read_like
from vaekit.data.scaling import Moments
from vaekit.data.stores import Sizes
from vaekit.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
N = 700
GREY = RNG.integers(0, 256, (N, 6, 5), dtype=np.uint8)
TABLE = RNG.normal(size=(N, 4)) * [1, 10, 0.1, 1000] + [0, 5, -3, 1e6]
LABELS = np.arange(N) % 7
SMALL = Limit(data_gb=1e-4)  # a quarter of which is 25 kB: a window of 12.5 kB, chunks of 781 bytes


@pytest.fixture(autouse=True)
def quickly(one_thread):
    """Batches here are small."""


def npy(folder: Path, array: np.ndarray) -> str:
    np.save(folder / "a.npy", array)
    return str(folder / "a.npy")


def parquet(folder: Path) -> str:
    columns = {name: TABLE[:, k] for k, name in enumerate("abcd")} | {"label": LABELS}
    (folder / "parts").mkdir(exist_ok=True)
    for k, rows in enumerate((slice(0, 300), slice(300, N))):
        part = pa.table({name: column[rows] for name, column in columns.items()})
        pq.write_table(part, folder / "parts" / f"{k}.parquet", row_group_size=23)
    return str(folder / "parts")


def pictures(folder: Path) -> str:
    for k, (array, label) in enumerate(zip(GREY[:90], LABELS, strict=False)):
        place = folder / "set" / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(place / f"{k:03}.png")
    return str(folder / "set")


CASES = {
    "levels": (lambda f: npy(f, GREY), {}, True),
    "levels, scaled": (lambda f: npy(f, GREY), {}, False),
    "levels, standardised": (lambda f: npy(f, GREY), {"scale": "standard"}, True),
    "levels, declared": (lambda f: npy(f, GREY.astype(np.int32) // 16), {"support": "levels"}, True),
    "levels, found": (lambda f: npy(f, np.arange(N)[:, None, None] // 100 + GREY // 64), {}, True),
    "binary": (lambda f: npy(f, GREY > 99), {}, True),
    "unit": (lambda f: npy(f, (GREY / 255).astype(">f4")), {}, True),
    "dynamic": (lambda f: npy(f, GREY), {"binarise": "dynamic"}, True),
    "dynamic, unit": (lambda f: npy(f, GREY / 255), {"binarise": "dynamic"}, True),
    "threshold": (lambda f: npy(f, GREY), {"binarise": "threshold"}, True),
    "channels last": (lambda f: npy(f, RNG.integers(0, 9, (N, 4, 5, 3))), {}, True),
    "table": (lambda f: npy(f, TABLE), {}, True),
    "table, dropped": (lambda f: npy(f, TABLE), {"drop": ("column 1",)}, True),
    "table, plain": (lambda f: npy(f, TABLE), {"scale": "none"}, True),
    "counts": (lambda f: npy(f, GREY.reshape(N, -1)), {"support": "count", "scale": "none"}, True),
    "parquet": (parquet, {}, True),
    "parquet, dropped": (parquet, {"drop": ("b", "label")}, True),
    "pictures": (pictures, {}, True),
    "pictures, resized": (pictures, {"image_size": (4, 4)}, False),
}


def both(source: str, discrete: bool = True, limit: Limit = SMALL, **settings) -> tuple[Dataset, StreamedRows, Dataset]:
    """The same data streamed, its training rows, and in memory."""
    spec = DataSpec(source=source, stream="always", **settings)
    streamed = prepare(spec, limit, discrete=discrete)
    assert isinstance(streamed.train, StreamedRows)
    memory = prepare(replace(spec, stream="never"), replace(limit, data_gb=1.0), discrete=discrete)
    return streamed, streamed.train, memory


def numbered(folder: Path, rows: int = N, limit: Limit = SMALL, **settings) -> StreamedRows:
    """Rows that hold their own numbers in the file: 10 columns of 8 bytes."""
    source = npy(folder, np.repeat(np.arange(rows)[:, None], 10, 1) * 1.0)
    data = prepare(DataSpec(source=source, stream="always", scale="none", **settings), limit)
    assert isinstance(data.train, StreamedRows)
    return data.train


def epoch(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vaekit-data"]


def gone() -> bool:
    """Whether the threads end within two seconds."""
    for _ in range(200):
        if not alive():
            return True
        time.sleep(0.01)
    return False


def in_order_of_the_file(rows: Rows, permutation: np.ndarray) -> torch.Tensor:
    return rows.batch(torch.from_numpy(np.argsort(permutation)), epoch(0), noise=None)


@pytest.mark.parametrize("case", CASES)
def test_streamed_rows_are_those_in_memory(tmp_path, case):
    make, settings, discrete = CASES[case]
    streamed, train, memory = both(make(tmp_path), discrete, **settings)
    ours, theirs = streamed.schema, memory.schema
    moments = (ours.loc, ours.scale)
    assert replace(ours, loc=None, scale=None, protocol="") == replace(theirs, loc=None, scale=None, protocol="")
    for ours_, theirs_ in zip(moments, (theirs.loc, theirs.scale), strict=True):
        assert (ours_ is None) == (theirs_ is None)
        if ours_ is not None and theirs_ is not None:
            np.testing.assert_allclose(ours_, theirs_, rtol=1e-12)
    assert ours.protocol.split(" (streamed")[0] == theirs.protocol.split("; drawn")[0]
    exact = ours.scale is None or (len(ours.scale) == 1 and settings.get("scale") != "standard")
    for held, known in ((streamed.valid, memory.valid), (streamed.test, memory.test)):
        torch.testing.assert_close(held.batch(slice(None)), known.batch(slice(None)), rtol=0 if exact else 1e-5, atol=0)
        assert (held.labels is None) == (known.labels is None)
        if held.labels is not None and known.labels is not None:
            assert torch.equal(held.labels, known.labels)
    # The same rows train; in memory they are in another order, which the drawing of the split decides.
    n = len(train) + len(streamed.valid) + len(streamed.test)
    pool = np.random.Generator(np.random.PCG64(np.random.SeedSequence([0, 0]))).permutation(n)
    permutation = pool[len(streamed.valid) + len(streamed.test) :]
    back = torch.from_numpy(np.argsort(permutation))
    noise = train.noise(len(train), epoch(1))
    assert isinstance(memory.train, Rows)
    x, known = train.batch(slice(None), noise=noise), memory.train.batch(back, noise=noise)
    assert x.dtype == known.dtype
    assert x.shape[1:] == train.shape == memory.train.shape
    torch.testing.assert_close(x, known, rtol=0 if exact else 1e-5, atol=0)
    if train.labels is not None and memory.train.labels is not None:
        assert torch.equal(train.labels, memory.train.labels[back])


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
    assert Sizes.of(Limit(data_gb=0.1)).window * 2 <= Sizes.of(Limit(data_gb=0.1)).held


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
    store = replace(train.store, read=lambda chunk: reads.append(chunk) or train.store.read(chunk))
    counted = StreamedRows.of(store, train.out, train.make, train.sizes)
    for part in counted.order(epoch(0)).split(100):
        counted.batch(part)
    assert counted.shelf.peak <= 100_000 < train.store.row_bytes * len(train) / 10
    assert sorted(reads) == list(range(len(store.starts) - 1))
    reads.clear()
    for index in (slice(0, 3000), torch.randperm(len(counted), generator=epoch(1))[:1000]):
        counted.batch(index)
    assert counted.shelf.peak <= 100_000
    assert reads


def test_the_next_window_is_read_ahead(tmp_path):
    train = numbered(tmp_path, rows=5000, limit=Limit(data_gb=1e-3))
    reads: list[tuple[int, str]] = []

    def read(chunk: int) -> np.ndarray:
        reads.append((chunk, threading.current_thread().name))
        return train.store.read(chunk)

    counted = StreamedRows.of(replace(train.store, read=read), train.out, train.make, train.sizes)
    order = counted.order(epoch(0))
    assert not reads
    counted.batch(order[:1])
    assert gone()
    window = counted.sizes.window // train.store.row_bytes
    assert len(reads) > 16
    by_caller = sum(name != "vaekit-data" for _, name in reads)
    counted.batch(order[: window // 2])
    counted.batch(order[window // 2 : window - 200])
    assert sum(name != "vaekit-data" for _, name in reads) == by_caller


def test_an_abandoned_epoch_and_the_end_of_the_thread(tmp_path):
    train = numbered(tmp_path, rows=5000)
    seconds = [0.005]
    slow = replace(train.store, read=lambda chunk: time.sleep(seconds[0]) or train.store.read(chunk))
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
        return train.store.read(chunk)

    rows = StreamedRows.of(replace(train.store, read=read), train.out, train.make, train.sizes)
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


def test_rows_that_stay_out_are_at_most_ten_thousand_of_each(tmp_path):
    source = npy(tmp_path, np.arange(210_000, dtype=np.float32)[:, None])
    streamed = prepare(DataSpec(source=source, stream="always", scale="none"), Limit(data_gb=0.01, valid=500))
    assert (len(streamed.train), len(streamed.valid), len(streamed.test)) == (190_000, 500, 10_000)
    assert "validation and test are 10000 and 10000 of 210000 rows (streamed: at most 10000 each)" in (
        streamed.schema.protocol
    )
    test = streamed.test.batch(slice(None)).flatten()
    assert torch.equal(test, test.sort().values)
    assert 95_000 < float(test.mean()) < 115_000
    with pytest.raises(DataError, match=r"limit\.valid=10001"):
        prepare(DataSpec(source=source, stream="always"), Limit(data_gb=0.01, valid=10_001))


def test_few_training_rows_are_held_in_memory(tmp_path):
    source = npy(tmp_path, TABLE)
    limit = replace(SMALL, data_gb=1e-5, train=50)
    streamed = prepare(DataSpec(source=source), limit)
    memory = prepare(DataSpec(source=source), Limit(train=50))
    assert isinstance(streamed.train, Rows)
    assert isinstance(memory.train, Rows)
    assert torch.equal(streamed.train.values, memory.train.values)
    assert streamed.schema.scale == memory.schema.scale
    always = prepare(DataSpec(source=source, stream="always"), limit)
    assert isinstance(always.train, StreamedRows)
    assert len(always.train) == 50
    assert "the training rows are the first of the file" in always.schema.protocol
    with pytest.raises(DataError, match=r"limit\.train=561"):
        prepare(DataSpec(source=source), replace(limit, train=561))


def test_a_bad_cell_deep_in_the_file_is_named(tmp_path):
    for value, what in ((np.nan, "nan"), (np.inf, "inf"), (1e300, "range of 32-bit")):
        table = TABLE.copy()
        table[613, 2] = value
        with pytest.raises(DataError, match=rf"{what}.*row 613 \(counted from 0\), column 'column 2'|row 613.*{what}"):
            prepare(DataSpec(source=npy(tmp_path, table), stream="always"), SMALL)
    bad = GREY.astype(np.int16)
    bad[650, 1, 2] = -3
    with pytest.raises(DataError, match=r"-3 in image 650 \(counted from 0\), pixel .*data.support=levels"):
        prepare(DataSpec(source=npy(tmp_path, bad), stream="always", support="levels"), SMALL)


def test_constant_columns_and_wrong_files(tmp_path):
    table = TABLE.copy()
    table[:, 3] = 0.1
    with pytest.raises(DataError, match="'column 3' is constant in the 560 training rows"):
        prepare(DataSpec(source=npy(tmp_path, table), stream="always"), SMALL)
    with pytest.raises(DataError, match="column by column"):
        prepare(DataSpec(source=npy(tmp_path, np.asfortranarray(TABLE)), stream="always"), SMALL)
    path = Path(npy(tmp_path, TABLE))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="truncated"):
        prepare(DataSpec(source=str(path), stream="always"), SMALL)


def test_what_is_streamed_and_what_is_refused(tmp_path):
    source = npy(tmp_path, TABLE)
    assert isinstance(prepare(DataSpec(source=source), SMALL).train, Rows)
    assert isinstance(prepare(DataSpec(source=source), Limit(data_gb=2e-5)).train, StreamedRows)
    assert isinstance(prepare(DataSpec(source=source, stream="never"), Limit(data_gb=2e-5)).train, Rows)
    np.savez(tmp_path / "a.npz", X=TABLE)
    np.savetxt(tmp_path / "a.csv", TABLE, delimiter=",")
    (tmp_path / "a-ubyte").write_bytes(bytes([0, 0, 8, 3]) + np.array([N, 6, 5], ">u4").tobytes() + GREY.tobytes())
    for name in ("a.npz", "a.csv", "a-ubyte"):
        spec = DataSpec(source=str(tmp_path / name))
        with pytest.raises(DataError, match=r"more than limit\.data_gb=2e-05.*\.npy or Parquet"):
            prepare(spec, Limit(data_gb=2e-5))
        with pytest.raises(ConfigError, match=r"data\.stream=always is for"):
            prepare(replace(spec, stream="always"), Limit())
        assert isinstance(prepare(replace(spec, stream="never"), Limit(data_gb=2e-5)).train, Rows)
    with pytest.raises(ConfigError, match="digits"):
        prepare(DataSpec(source="digits", stream="always"), Limit())


def test_another_large_source_is_streamed_as_the_model_knows_it(tmp_path):
    spec = DataSpec(source=npy(tmp_path, TABLE))
    schema = prepare(spec, Limit()).schema
    np.save(tmp_path / "b.npy", TABLE[::-1] * 2)
    memory = read_like(str(tmp_path / "b.npy"), spec, schema, Limit())
    streamed = read_like(str(tmp_path / "b.npy"), spec, schema, Limit(data_gb=1e-5))
    assert isinstance(streamed, StreamedRows)
    assert len(streamed) == N
    for start in range(0, N, 100):
        part = slice(start, start + 100)
        assert torch.equal(streamed.batch(part), memory.batch(part))
    assert streamed.shelf.peak <= 2500
    np.save(tmp_path / "b.npy", TABLE[:, :3])
    with pytest.raises(DataError, match=r"rows of shape \(3,\)"):
        read_like(str(tmp_path / "b.npy"), spec, schema, Limit(data_gb=1e-5))


def test_moments_of_parts_are_those_of_the_whole():
    parts = [Moments.of(part, by_column=True) for part in np.split(TABLE, [1, 50, 333])]
    joined = parts[0].join(parts[1]).join(parts[2]).join(parts[3])
    whole = Moments.of(TABLE, by_column=True)
    for name in ("low", "high", "mean", "std"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), rtol=1e-10)
    assert joined.rows == N


def test_global_state_is_left_alone(tmp_path, globals_untouched):
    with globals_untouched():
        train = numbered(tmp_path)
        train.batch(train.order(epoch(0))[:100])


@pytest.mark.parametrize("stream", ["always", "never"])
@pytest.mark.parametrize("answer", [True, False])
def test_what_the_likelihood_takes_may_depend_on_the_data(tmp_path, stream, answer):
    spec = DataSpec(source=npy(tmp_path, GREY), stream=stream)
    asked = []
    data = prepare(spec, SMALL, discrete=lambda *found: asked.append(found) or answer)
    assert data.schema == prepare(spec, SMALL, discrete=answer).schema
    assert asked == [(Levels(256), "image")]
