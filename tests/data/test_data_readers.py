"""Files are read by content, whatever their dialect, type, order or name."""

import gzip
import struct

import numpy as np
import pytest
from reading import CSV, IMAGES, TABLE, idx, load, npy, npz, refused, write

from naming import naming
from vaekit.data.formats.idx import read_idx


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "f4", "f2", "i8", "u1", "g"])
def test_npy_tables_of_any_number_type(tmp_path, dtype):
    table = (TABLE * 9).astype(np.int8).clip(0) if dtype == "u1" else TABLE * 9
    source = load(write(tmp_path, "a.npy", npy(table.astype(dtype))))
    np.testing.assert_array_equal(source.whole(), table.astype(dtype))
    assert source.whole().dtype.isnative
    assert source.names == ("column 0", "column 1", "column 2")
    assert source.kind == "table"


def test_fortran_order_is_understood(tmp_path):
    source = load(write(tmp_path, "a.npy", npy(np.asfortranarray(TABLE))))
    np.testing.assert_array_equal(source.whole(), TABLE)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (IMAGES, (1, 6, 5)),
        (np.stack([IMAGES] * 3, axis=1), (3, 6, 5)),
        (np.stack([IMAGES] * 3, axis=3), (3, 6, 5)),
        (IMAGES[..., None], (1, 6, 5)),
        (np.stack([IMAGES] * 4, axis=3), (4, 6, 5)),
    ],
)
def test_images_become_channel_first(tmp_path, array, shape):
    source = load(write(tmp_path, "a.npy", npy(array)))
    assert source.whole().shape == (20, *shape)
    assert source.kind == "image"
    assert source.names is None
    for channel in range(shape[0]):
        expected = IMAGES if array.ndim == 3 or shape[0] > 1 else array[..., 0]
        np.testing.assert_array_equal(source.whole()[:, channel], expected)


@pytest.mark.parametrize("key", ["X", "x", "data", "images", "X_train", "anything"])
def test_npz_values_are_found(tmp_path, key):
    labels = np.arange(20) % 3 + 5
    source = load(write(tmp_path, "a.npz", npz(**{key: TABLE, "labels": labels})))
    np.testing.assert_array_equal(source.whole(), TABLE)
    assert source.classes == ("5", "6", "7")
    np.testing.assert_array_equal(source.labels, labels - 5)


@pytest.mark.parametrize(("train", "labels"), [("X", "y"), ("x_train", "y_train")])
def test_npz_test_set(tmp_path, train, labels):
    base, base_labels = train.removesuffix("_train"), labels.removesuffix("_train")
    text = np.array(list("ab") * 10)
    arrays = {train: TABLE, labels: text, f"{base}_test": TABLE[:4], f"{base_labels}_test": text[1:5][:, None]}
    source = load(write(tmp_path, "a.npz", npz(**arrays)))
    assert (source.train_rows, source.test_rows) == (20, 4)
    assert source.classes == ("a", "b")
    assert source.labels is not None
    assert source.labels[20:].tolist() == [1, 0, 1, 0]


def test_npz_measurements_called_y_are_not_labels_unless_named(tmp_path):
    path = write(tmp_path, "a.npz", npz(X=TABLE, y=TABLE[:, 0]))
    assert load(path).labels is None
    refused(path, "not classes", check=naming("DataSpec.label"), label="y")


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_idx(tmp_path, pack):
    path = write(tmp_path, "train-images-idx3-ubyte.gz", pack(idx(IMAGES)))
    write(tmp_path, "train-labels-idx1-ubyte.gz", pack(idx(np.arange(20, dtype=np.uint8) % 10)))
    source = load(path)
    np.testing.assert_array_equal(source.whole()[:, 0], IMAGES)
    assert source.classes == tuple("0123456789")


@pytest.mark.parametrize("code_type", [(0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_idx_types(tmp_path, code_type):
    code, dtype = code_type
    array = (TABLE * 10).astype(dtype)
    content = bytes([0, 0, code, 2]) + struct.pack(">2I", 20, 3) + array.tobytes()
    np.testing.assert_array_equal(read_idx(write(tmp_path, "a-ubyte", content)), array)


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        "\n\n" + CSV + "\n\n",
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace("a,b", '"a"," b"'),
        "\ufeff\r\n" + CSV.replace("\n", "\r\n"),
        CSV.removesuffix("\n"),
    ],
)
def test_csv_dialects(tmp_path, text):
    source = load(write(tmp_path, "a.csv", text))
    assert source.names == ("a", "b")
    np.testing.assert_array_equal(source.whole(), [[i, i * i] for i in range(10)])
    assert source.whole().dtype == np.float64


@pytest.mark.parametrize("mark", ["", "\ufeff", "\n\n"])
def test_csv_without_a_header(tmp_path, mark):
    source = load(write(tmp_path, "a.csv", mark + "0.5,1e3\n-2,7\n3,4\n"), drop=("column 1",))
    assert source.names == ("column 0",)
    assert source.whole().tolist() == [[0.5], [-2.0], [3.0]]


def test_csv_with_column_numbers_for_a_header(tmp_path):
    source = load(write(tmp_path, "a.csv", "0,1\n5,6\n7,8\n9,9\n"))
    assert source.names == ("0", "1")
    assert len(source.whole()) == 3


@pytest.mark.parametrize("name", ["label", "Class", "y", "target"])
def test_csv_labels(tmp_path, name):
    text = f"a,{name}\n" + "".join(f"{i},{'cat' if i % 2 else 'dog'}\n" for i in range(6))
    source = load(write(tmp_path, "a.csv", text))
    assert source.names == ("a",)
    assert source.classes == ("cat", "dog")
    assert source.labels is not None
    assert source.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_csv_label_by_name_and_drop(tmp_path):
    text = "a,kind,city\n1,3,Rome\n2,3,Oslo\n4,4,Lima\n"
    source = load(write(tmp_path, "a.csv", text), label="kind", drop=("city",))
    assert (source.names, source.classes) == (("a",), ("3", "4"))


def test_csv_coordinates_called_y_are_data(tmp_path):
    source = load(write(tmp_path, "a.csv", "x,y\n1,0.5\n2,1.5\n3,2\n"))
    assert source.names == ("x", "y")
    assert source.labels is None


def test_csv_types_may_change_along_the_file(tmp_path):
    text = "a,b\n" + "1,2\n" * 5000 + "1.5,3\n"
    assert load(write(tmp_path, "a.csv", text)).whole()[-1].tolist() == [1.5, 3.0]


def test_a_name_that_says_nothing_is_no_matter(tmp_path):
    assert load(write(tmp_path, "table", CSV)).names == ("a", "b")


def test_a_target_of_very_many_numbers_is_no_label(tmp_path):
    rows = "".join(f"{i * 0.37:.2f},{i % 150}\n" for i in range(400))
    found = load(write(tmp_path, "t.csv", "x,target\n" + rows))
    assert (found.labels, found.names) == (None, ("x", "target"))
    few = "".join(f"{i * 0.37:.2f},{i % 7}\n" for i in range(400))
    assert load(write(tmp_path, "f.csv", "x,target\n" + few)).classes == tuple("0123456")
