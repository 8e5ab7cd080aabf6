"""Streamed rows are the rows that memory would hold: the same x, the same splits, the same refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from streams import SMALL, N, epoch, npy

from naming import naming
from vaekit.data import Dataset, DataSpec, Levels, Limit, Rows, StreamedRows, prepare, read_like
from vaekit.data.scaling import Moments
from vaekit.errors import DataError, SpecError

pytestmark = pytest.mark.usefixtures("one_thread")  # batches here are small

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (N, 6, 5), dtype=np.uint8)
TABLE = RNG.normal(size=(N, 4)) * [1, 10, 0.1, 1000] + [0, 5, -3, 1e6]
LABELS = np.arange(N) % 7


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
    more = prepare(DataSpec(source=source, stream="always"), Limit(data_gb=0.01, valid=10_001))
    assert len(more.valid) == 10_000


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
    assert len(prepare(DataSpec(source=source), replace(limit, train=561)).train) == 560


def test_a_bad_cell_deep_in_the_file_is_named(tmp_path):
    for value, what in ((np.nan, "nan"), (np.inf, "inf"), (1e300, "range of 32-bit")):
        table = TABLE.copy()
        table[613, 2] = value
        with pytest.raises(DataError, match=rf"{what}.*row 613 \(counted from 0\), column 'column 2'|row 613.*{what}"):
            prepare(DataSpec(source=npy(tmp_path, table), stream="always", missing="refuse"), SMALL)
    bad = GREY.astype(np.int16)
    bad[650, 1, 2] = -3
    with pytest.raises(
        DataError,
        match=r"-3 in image 650 \(counted from 0\), pixel",
        check=naming("DataSpec.support", "levels"),
    ):
        prepare(DataSpec(source=npy(tmp_path, bad), stream="always", support="levels", layout="image"), SMALL)


def test_constant_columns_and_wrong_files(tmp_path):
    table = TABLE.copy()
    table[:, 3] = 0.1
    with pytest.raises(DataError, match="'column 3' is constant in the 560 training rows"):
        prepare(DataSpec(source=npy(tmp_path, table), stream="always", scale="standard"), SMALL)
    aside = prepare(DataSpec(source=npy(tmp_path, table), stream="always"), SMALL)
    assert [(constant.name, constant.value) for constant in aside.schema.constants] == [("column 3", 0.1)]
    assert aside.train.batch(slice(0, 3)).shape == (3, len(table[0]) - 1)
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
        with pytest.raises(DataError, check=naming("Limit.data_gb", 2e-5)):
            prepare(spec, Limit(data_gb=2e-5))
        with pytest.raises(SpecError, check=naming("DataSpec.stream", "always")):
            prepare(replace(spec, stream="always"), Limit())
        assert isinstance(prepare(replace(spec, stream="never"), Limit(data_gb=2e-5)).train, Rows)
    with pytest.raises(SpecError, check=naming("DataSpec.stream", "always")):
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
    assert streamed.cache.peak <= 2500
    np.save(tmp_path / "b.npy", TABLE[:, :3])
    with pytest.raises(DataError, match=r"rows of shape \(3,\)"):
        read_like(str(tmp_path / "b.npy"), spec, schema, Limit(data_gb=1e-5))


def test_moments_of_parts_are_those_of_the_whole():
    parts = [Moments.of(part, each=True) for part in np.split(TABLE, [1, 50, 333])]
    joined = parts[0].join(parts[1]).join(parts[2]).join(parts[3])
    whole = Moments.of(TABLE, each=True)
    for name in ("low", "high", "mean", "std"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), rtol=1e-10)
    assert (joined.rows == N).all()


@pytest.mark.parametrize("stream", ["always", "never"])
@pytest.mark.parametrize("answer", [True, False])
def test_what_the_likelihood_takes_may_depend_on_the_data(tmp_path, stream, answer):
    spec = DataSpec(source=npy(tmp_path, GREY), stream=stream)
    seen = []
    data = prepare(spec, SMALL, discrete=lambda *found: seen.append(found) or answer)
    assert data.schema == prepare(spec, SMALL, discrete=answer).schema
    assert seen == [(Levels(256), "image")]
