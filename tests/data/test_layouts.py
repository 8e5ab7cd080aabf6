"""How arrays are read: any order of axes, channels first or last and of any number, 8 and 16 bits; and back again."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from naming import naming
from vaekit.data import Dataset, DataSpec, Levels, Limit, prepare
from vaekit.data.layout import Axes
from vaekit.errors import DataError, SpecError

N = 40
RNG = np.random.default_rng(0)

# The shape of an array, the setting, and the axes that it is then read by.
READ: list[tuple[tuple[int, ...], str, Axes]] = [
    ((6,), "table", "nf"),
    ((12,), "sequence", "nt"),
    ((12, 3), "sequence", "ntc"),
    ((3, 12), "sequence", "ntc"),
    ((2, 1024), "sequence", "ntc"),
    ((8, 6), "image", "nhw"),
    ((3, 8, 6), "image", "nchw"),
    ((8, 6, 3), "image", "nhwc"),
    ((5, 8, 9), "image", "nchw"),
    ((8, 9, 5), "image", "nhwc"),
    ((2, 8, 9), "image", "nchw"),
    ((8, 9, 2), "image", "nhwc"),
    ((4, 6, 7), "volume", "ndhw"),
    ((4, 6, 7, 2), "volume", "ndhwc"),
    ((4, 6, 7, 1), "volume", "ndhwc"),
]


def of(folder: Path, array: np.ndarray, **settings) -> Dataset:
    np.save(folder / "a.npy", array)
    return prepare(DataSpec(source=str(folder / "a.npy"), **settings), Limit(), discrete=False, by_column="never")


def channels_first(array: np.ndarray, axes: Axes) -> np.ndarray:
    if "c" in axes or axes == "nf":
        return np.moveaxis(array, axes.index("c"), 1) if "c" in axes else array
    return array[:, None]


def whole(data: Dataset) -> np.ndarray:
    return np.concatenate([rows.batch(slice(None)).numpy() for rows in (data.train, data.valid, data.test)])


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.reshape(len(rows), -1).T)]


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize(("shape", "layout", "axes"), READ)
def test_an_array_is_read_as_what_it_is_said_to_be_and_comes_back_as_it_was(tmp_path, shape, layout, axes, stream):
    array = RNG.normal(size=(N, *shape)).astype(np.float32)
    data = of(tmp_path, array, layout=layout, scale="none", stream=stream)
    schema, rows = data.schema, channels_first(array, axes)
    assert (schema.kind, schema.axes, schema.shape) == (layout, axes, rows.shape[1:])
    assert np.array_equal(sorted_rows(whole(data)), sorted_rows(rows))
    assert np.array_equal(sorted_rows(schema.to_array(whole(data))), sorted_rows(array))


@pytest.mark.parametrize(("shape", "layout", "axes"), [one for one in READ if one[1] != "image"])
def test_each_column_and_channel_has_its_own_mean_and_deviation(tmp_path, shape, layout, axes):
    rows = channels_first(RNG.normal(size=(N, *shape)), axes)
    each = (1, -1, *[1] * (rows.ndim - 2))
    scales, means = 10.0 ** RNG.uniform(-3, 3, rows.shape[1]), RNG.normal(0, 1e3, rows.shape[1])
    array = rows * scales.reshape(each) + means.reshape(each)
    array = array if axes == "nf" else np.moveaxis(array, 1, -1) if "c" in axes else array[:, 0]
    data = of(tmp_path, array, layout=layout, scale="standard")
    x, others = data.train.batch(slice(None)).double().numpy(), (0, *range(2, rows.ndim))
    np.testing.assert_allclose(x.mean(others), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(others), 1, rtol=1e-4)
    back = data.schema.to_array(whole(data).astype(np.float64))
    np.testing.assert_allclose(np.sort(back, 0), np.sort(array, 0), rtol=1e-5, atol=1e-5 * scales.max())


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.zeros((N, 2, 1024)), "image or sequence"),
        (RNG.normal(size=(N, 24, 28)), "image or sequence"),
        (RNG.normal(size=(N, 8, 9, 5)), "image or volume"),
        (RNG.normal(size=(N, 5, 8, 9)), "image or volume"),
        (RNG.normal(size=(N, 4, 6, 7, 2)), "volume"),
    ],
)
def test_what_cannot_be_seen_from_a_shape_is_asked(tmp_path, array, wanted):
    with pytest.raises(DataError, match=f"set DataSpec.layout={wanted}"):
        of(tmp_path, array)


@pytest.mark.parametrize(
    ("shape", "axes"), [((8, 6), "nhw"), ((3, 8, 6), "nchw"), ((8, 6, 3), "nhwc"), ((8, 6, 4), "nhwc")]
)
@pytest.mark.parametrize(
    ("dtype", "settings"),
    [(np.uint8, {}), (np.uint16, {"support": "levels", "levels": 65536}), (np.int32, {"support": "levels"})],
)
def test_levels_of_pictures_keep_all_their_bits(tmp_path, shape, axes, dtype, settings):
    levels = 256 if dtype == np.uint8 else 65536
    array = RNG.integers(0, levels, (N, *shape)).astype(dtype)
    array[0].flat[0] = levels - 1
    data = of(tmp_path, array, **settings)
    assert data.schema.axes == axes
    assert data.schema.stored == Levels(levels)
    back = data.schema.to_array(whole(data).astype(np.float64)).round()
    assert np.array_equal(sorted_rows(back.astype(dtype)), sorted_rows(array))


def test_a_layout_that_data_does_not_have_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2.5\n3,4.5\n" * 20)
    table, matrix = pa.table({"a": RNG.normal(size=N)}), sparse.csr_array(np.eye(N))
    sparse.save_npz(tmp_path / "sparse.npz", matrix)
    files = [({"source": str(tmp_path / name)}, None) for name in ("a.csv", "sparse.npz")]
    for settings, data in [*files, ({}, table), ({}, matrix)]:
        with pytest.raises(SpecError, check=naming("DataSpec.layout", "image")):
            prepare(DataSpec(layout="image", **settings), Limit(), data=data)
    with pytest.raises(SpecError, check=naming("DataSpec.layout", "table")):
        prepare(DataSpec(layout="table", source="digits"), Limit())
