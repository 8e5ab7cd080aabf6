"""Files are read by content; every damaged or unsuitable one gives one error that says what to do."""

import gzip
import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import load, refused

from vaekit.data.idx import read_idx
from vaekit.data.readers import read
from vaekit.errors import ConfigError, DataError

TABLE = np.random.default_rng(0).normal(size=(20, 3))
IMAGES = np.random.default_rng(1).integers(0, 256, (20, 6, 5), dtype=np.uint8)
CSV = "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(10))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Good files.


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "f4", "f2", "i8", "u1", "g"])
def test_npy_tables_of_any_number_type(tmp_path, dtype):
    table = (TABLE * 9).astype(np.int8).clip(0) if dtype == "u1" else TABLE * 9
    source = load(write(tmp_path, "a.npy", npy(table.astype(dtype))))
    np.testing.assert_array_equal(source.values, table.astype(dtype))
    assert source.values.dtype.isnative
    assert source.columns == ("column 0", "column 1", "column 2")
    assert source.kind == "table"


def test_fortran_order_is_understood(tmp_path):
    source = load(write(tmp_path, "a.npy", npy(np.asfortranarray(TABLE))))
    np.testing.assert_array_equal(source.values, TABLE)


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
    assert source.values.shape == (20, *shape)
    assert source.kind == "image"
    assert source.columns is None
    for channel in range(shape[0]):
        expected = IMAGES if array.ndim == 3 or shape[0] > 1 else array[..., 0]
        np.testing.assert_array_equal(source.values[:, channel], expected)


@pytest.mark.parametrize("key", ["X", "x", "data", "images", "X_train", "anything"])
def test_npz_values_are_found(tmp_path, key):
    labels = np.arange(20) % 3 + 5
    source = load(write(tmp_path, "a.npz", npz(**{key: TABLE, "labels": labels})))
    np.testing.assert_array_equal(source.values, TABLE)
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


def test_npz_measurements_called_y_are_not_labels_unless_asked(tmp_path):
    path = write(tmp_path, "a.npz", npz(X=TABLE, y=TABLE[:, 0]))
    assert load(path).labels is None
    refused(path, "not classes", "data.label", label="y")


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_idx(tmp_path, pack):
    path = write(tmp_path, "train-images-idx3-ubyte.gz", pack(idx(IMAGES)))
    write(tmp_path, "train-labels-idx1-ubyte.gz", pack(idx(np.arange(20, dtype=np.uint8) % 10)))
    source = load(path)
    np.testing.assert_array_equal(source.values[:, 0], IMAGES)
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
    assert source.columns == ("a", "b")
    np.testing.assert_array_equal(source.values, [[i, i * i] for i in range(10)])
    assert source.values.dtype == np.float64


@pytest.mark.parametrize("mark", ["", "\ufeff", "\n\n"])
def test_csv_without_a_header(tmp_path, mark):
    source = load(write(tmp_path, "a.csv", mark + "0.5,1e3\n-2,7\n3,4\n"), drop=("column 1",))
    assert source.columns == ("column 0",)
    assert source.values.tolist() == [[0.5], [-2.0], [3.0]]


def test_csv_with_column_numbers_for_a_header(tmp_path):
    source = load(write(tmp_path, "a.csv", "0,1\n5,6\n7,8\n9,9\n"))
    assert source.columns == ("0", "1")
    assert len(source.values) == 3


@pytest.mark.parametrize("name", ["label", "Class", "y", "target"])
def test_csv_labels(tmp_path, name):
    text = f"a,{name}\n" + "".join(f"{i},{'cat' if i % 2 else 'dog'}\n" for i in range(6))
    source = load(write(tmp_path, "a.csv", text))
    assert source.columns == ("a",)
    assert source.classes == ("cat", "dog")
    assert source.labels is not None
    assert source.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_csv_label_by_name_and_drop(tmp_path):
    text = "a,kind,city\n1,3,Rome\n2,3,Oslo\n4,4,Lima\n"
    source = load(write(tmp_path, "a.csv", text), label="kind", drop=("city",))
    assert (source.columns, source.classes) == (("a",), ("3", "4"))


def test_csv_coordinates_called_y_are_data(tmp_path):
    source = load(write(tmp_path, "a.csv", "x,y\n1,0.5\n2,1.5\n3,2\n"))
    assert source.columns == ("x", "y")
    assert source.labels is None


def test_csv_types_may_change_along_the_file(tmp_path):
    text = "a,b\n" + "1,2\n" * 5000 + "1.5,3\n"
    assert load(write(tmp_path, "a.csv", text)).values[-1].tolist() == [1.5, 3.0]


def test_a_name_that_says_nothing_is_no_matter(tmp_path):
    assert load(write(tmp_path, "table", CSV)).columns == ("a", "b")


# Bad files.

CONTENTS = {
    "NumPy array (.npy)": npy(TABLE),
    "NumPy archive (.npz)": npz(X=TABLE),
    "CSV file (.csv)": CSV.encode(),
    "IDX file": gzip.compress(idx(IMAGES), mtime=0),
}
SUFFIXES = dict(zip(CONTENTS, (".npy", ".npz", ".csv", "-ubyte.gz"), strict=True))


@pytest.mark.parametrize("said", CONTENTS)
@pytest.mark.parametrize("held", CONTENTS)
def test_renamed_files(tmp_path, said, held):
    path = write(tmp_path, f"a{SUFFIXES[said]}", CONTENTS[held])
    if said == held:
        load(path)
    else:
        refused(path, f"{path} is not a", said, f"but {'an' if held.startswith('IDX') else 'a'} {held}", "rename it")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG picture"),
        (b"ARROW1....", "Arrow file"),
        (pickle.dumps(TABLE), "Python pickle"),
        (CSV.encode("utf-16"), "text in UTF-16"),
        (gzip.compress(CSV.encode(), mtime=0), "gzip file of something else"),
        (b"\x01\x02\x03", "unknown type (it begins with the bytes 01 02 03)"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.bin"])
def test_files_of_other_kinds(tmp_path, content, what, name):
    refused(write(tmp_path, name, content), name, what, ".npy", "CSV")


@pytest.mark.parametrize("suffix", [*SUFFIXES.values(), ""])
def test_empty_files(tmp_path, suffix):
    refused(write(tmp_path, f"a{suffix}", b""), "is empty (0 bytes)", "expected")


@pytest.mark.parametrize("kind", ["NumPy array (.npy)", "NumPy archive (.npz)", "IDX file"])
def test_truncated_at_any_place(tmp_path, kind):
    whole = CONTENTS[kind]
    for cut in range(4, len(whole), max(1, len(whole) // 64)):
        refused(write(tmp_path, f"a{SUFFIXES[kind]}", whole[:cut]), "a" + SUFFIXES[kind])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (idx(IMAGES)[:-1], "of which 599 came"),
        (idx(IMAGES) + b"x", "beyond"),
        (idx(IMAGES, (21, 6, 5)), "630 bytes"),
        (idx(IMAGES, (2**32 - 1,) * 4), "its header says"),
        (idx(IMAGES)[:7], "truncated"),
    ],
)
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_idx_headers_that_lie(tmp_path, content, part, pack):
    path = write(tmp_path, "a-ubyte.gz", pack(content))
    message = refused(path, str(path))
    assert part in message or "bytes" in message


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("shape", ["(99999999999999, 3)", "(-20, -3)", "(20, 2)", "(1.5, 2)", "()", "'x'", "(("])
def test_numpy_headers_that_lie(tmp_path, suffix, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + TABLE.tobytes()
    if suffix == ".npz":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("X.npy", content)
        content = buffer.getvalue()
    refused(write(tmp_path, f"a{suffix}", content), "header")


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_objects_are_never_opened(tmp_path):
    canary = tmp_path / "canary"
    trap = np.array([[Trap(canary)]], dtype=object)
    refused(write(tmp_path, "a.npy", npy(trap)), "Python objects", ".astype")
    refused(write(tmp_path, "a.npz", npz(X=trap)), "Python objects", "'X'")
    refused(write(tmp_path, "b.npz", npz(X=TABLE, y=trap[0].repeat(20))), "Python objects", "'y'")
    refused(write(tmp_path, "p.npy", pickle.dumps(trap)), "pickle")
    assert not canary.exists()


def test_npz_members(tmp_path):
    def archive(*names: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name in dict.fromkeys(names):
                file.writestr(name, npy(TABLE))
        return buffer.getvalue()

    refused(write(tmp_path, "a.npz", archive("../X.npy")), "'../X.npy'")
    refused(write(tmp_path, "a.npz", archive("/X.npy")), "'/X.npy'")
    refused(write(tmp_path, "a.npz", archive("X.npy", "notes.txt")), "'notes.txt'")
    twice = archive("X.npy", "Z.npy").replace(b"Z.npy", b"X.npy")
    refused(write(tmp_path, "a.npz", twice), "twice")
    refused(write(tmp_path, "a.npz", archive("notes.txt")), "zip archive")
    refused(write(tmp_path, "a.npz", archive("a.npy", "b.npy")), "arrays a, b", "name it X")


def test_bombs_are_not_unpacked(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", npy(np.zeros((1000, 100))))
    content = bytearray(buffer.getvalue())
    size = zipfile.ZipFile(buffer).getinfo("X.npy").file_size
    content = bytes(content).replace(struct.pack("<I", size), struct.pack("<I", 2**31))
    refused(write(tmp_path, "a.npz", content), "2.1 GB", "refused above 200 times", "uncompressed")

    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1_200_000, 1000, 1)
    packed = gzip.compress(header) + np.random.default_rng(0).bytes(2_000_000)
    refused(write(tmp_path, "a-ubyte.gz", packed), "1.2 GB", "refused above 200 times")


@pytest.mark.parametrize(
    ("array", "parts"),
    [
        (TABLE[:, 0], ("(20,)", "x.reshape(-1, 1)")),
        (np.float64(3), ("()", "rows of data")),
        (np.zeros((2, 3, 4, 5, 6)), ("(2, 3, 4, 5, 6)", "1, 3 or 4 channels")),
        (np.zeros((5, 2, 6, 7)), ("(5, 2, 6, 7)", "1, 3 or 4 channels")),
        (np.zeros((0, 3)), ("(0, 3)", "holds nothing")),
        (np.zeros((5, 0)), ("(5, 0)", "holds nothing")),
        (TABLE.astype(str), ("<U", "numbers are needed")),
        (TABLE + 1j, ("complex128", "numbers are needed")),
        (np.zeros((5, 2), "M8[s]"), ("datetime64", "numbers are needed")),
        (np.zeros(5, [("a", "f4")]), ("numbers are needed",)),
    ],
)
def test_arrays_that_are_no_data(tmp_path, array, parts):
    refused(write(tmp_path, "a.npy", npy(array)), "a.npy", *parts)


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        (CSV + "1,2,3\n", {}, ("line 12 has 3 cells (1,2,3)", "the first row has 2", "mend")),
        ("\n" + CSV + "\n7\n", {}, ("line 14 has 1 cells (7)",)),
        (CSV + "x,3\n", {}, ("column 'a'", "'x'", "row 10", 'data.drop=["a"]', "data.label=a")),
        ("a,b,c\n1,u,2\n2,v,3\n", {"drop": ("b",), "label": "d"}, ("'d'", "columns are a, b, c")),
        ("a;b\n1,5;2\n2,5;3\n", {}, ("'1,5'", "decimals with a point")),
        ("a,b\n1,2020-01-01\n", {}, ("'2020-01-01'", "numbers")),
        ("a,a\n1,2\n", {}, ("two columns named 'a'", "rename")),
        ("a,b\n", {}, ("header but no rows",)),
        ("\n\n\n", {}, ("only blank lines",)),
        (b"a,b\n\xe9,2\n", {}, ("UTF-8", "0xe9")),
        (b"a,\xe9\n1,2\n", {}, ("UTF-8", "0xe9")),
        ("a,label\n1,\n2,x\n", {}, ("label", "missing", "row 0")),
        ("a,label\n1,3\n2,\n", {}, ("label", "missing", "row 1")),
        (CSV, {"drop": ("a", "b")}, ("no column of data is left",)),
        (CSV, {"drop": ("aa",)}, ("'aa'", "did you mean a?")),
        ("label\n1\n2\n", {}, ("no column of data is left",)),
        ("a,b\n1,2.5\n2,3\n", {"label": "b"}, ("not classes", "data.label")),
    ],
)
def test_csv_errors(tmp_path, text, settings, parts):
    refused(write(tmp_path, "a.csv", text), *parts, **settings)


@pytest.mark.parametrize(
    ("arrays", "settings", "parts"),
    [
        ({"X": TABLE, "y": np.arange(19)}, {}, ("(19,)", "20 rows")),
        ({"X": TABLE, "y": np.arange(20), "X_test": TABLE[:4]}, {}, ("test set are missing", "4 rows")),
        ({"X": TABLE, "X_test": TABLE[:, :2]}, {}, ("(2,)", "(3,)", "the same")),
        ({"X": TABLE, "X_test": TABLE[:0]}, {}, ("the test set", "holds nothing")),
        ({"X": TABLE, "y": np.arange(20)}, {"label": "z"}, ("'z'", "arrays are X, y")),
        ({"X": TABLE, "z": np.eye(20)}, {"label": "z"}, ("(20, 20)", "one label per row")),
        ({"X": TABLE, "y": np.where(np.arange(20) == 7, np.nan, 1)}, {}, ("missing in 1 rows", "row 7")),
        ({"X": TABLE}, {"drop": ("column 9",)}, ("'column 9'", "column 0, column 1, column 2")),
    ],
)
def test_npz_errors(tmp_path, arrays, settings, parts):
    refused(write(tmp_path, "a.npz", npz(**arrays)), *parts, **settings)


def test_settings_that_are_not_for_the_data(tmp_path):
    table, images = write(tmp_path, "a.npy", npy(TABLE)), write(tmp_path, "b.npy", npy(IMAGES))
    refused(table, "data.label=y", "only one array", label="y")
    refused(images, "data.drop", "tables", error=ConfigError, drop=("a",))
    refused(Path("digits"), "data.label=y", "leave data.label out", error=ConfigError, label="y")


def test_folders_devices_and_paths_that_are_not_there(tmp_path):
    refused(tmp_path, "is a folder", "without .parquet files or pictures", ".png")
    refused(Path("/dev/zero"), "neither a file")
    refused(tmp_path / "no.csv", "no.csv", "no file is there", "digits")
    for name in ("~nobody-here/x", "a\0b", "a" * 5000):
        refused(Path(name), "no data is named", "digits")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([*CONTENTS, "plain IDX"]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0.01, 1),
)
def test_damage_gives_data_or_an_error_of_ours(tmp_path_factory, kind, edits, cut):
    content = bytearray(CONTENTS.get(kind, idx(IMAGES)))
    for place, byte in edits:
        content[int(place * len(content))] = byte
    suffix = SUFFIXES.get(kind, "-ubyte")
    path = write(tmp_path_factory.getbasetemp(), f"fuzz{suffix}", bytes(content[: max(1, int(cut * len(content)))]))
    with suppress(DataError):
        read(path)
