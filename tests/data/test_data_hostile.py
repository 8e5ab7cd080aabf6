"""Every renamed, damaged, lying or unsuitable file gives one error that says what to do."""

import gzip
import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import CSV, IMAGES, TABLE, idx, load, npy, npz, refused, write

from naming import naming
from vaekit.errors import DataError, SpecError

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
        (pickle.dumps(TABLE), "Python pickle"),
        (gzip.compress(bytes(9), mtime=0), "gzip file of something else"),
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
        (np.zeros((2, 3, 4, 5, 6)), ("(2, 3, 4, 5, 6)", "DataSpec.layout=volume")),
        (np.zeros((5, 2, 6, 7)), ("(5, 2, 6, 7)", "DataSpec.layout=image or volume")),
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
        (CSV + "1,2,3\n", {}, ("line 12 has 3 cells (1,2,3)", "the first row has 2", "correct that line")),
        ("\n" + CSV + "\n7\n", {}, ("line 14 has 1 cell (7)",)),
        (CSV + "x,3\n", {}, ("column 'a'", "'x'", "row 10", 'DataSpec.drop=["a"]', "DataSpec.label=a")),
        ("a,b,c\n1,u,2\n2,v,3\n", {"drop": ("b",), "label": "d"}, ("'d'", "columns are a, b, c")),
        ("a;b\n1,500;2\n2,500;3\n", {}, ("'1,500'", "decimals or thousands", "DataSpec.decimal")),
        ("a,b\n1,2020-01-01\n", {}, ("dates", "one kind must be numbers")),
        ("a,a\n1,2\n", {}, ("two columns named 'a'", "rename")),
        ("a,b\n", {}, ("header but no rows",)),
        ("\n\n\n", {}, ("only blank lines",)),
        (b"a,b\n\xe9,2\n", {}, ("UTF-8", "0xe9")),
        (b"a,\xe9\n1,2\n", {}, ("UTF-8", "0xe9")),
        ("a,label\n1,\n2,x\n", {"label": "label"}, ("label", "missing", "row 0")),
        ("a,label\n1,3\n2,\n", {"label": "label"}, ("label", "missing", "row 1")),
        (CSV, {"drop": ("a", "b")}, ("no column of data is left",)),
        (CSV, {"drop": ("aa",)}, ("'aa'", "did you mean a?")),
        ("label\n1\n2\n", {}, ("no column of data is left",)),
        ("a,b\n1,2.5\n2,3\n", {"label": "b"}, ("not classes", "DataSpec.label")),
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
        ({"X": TABLE, "y": np.where(np.arange(20) == 7, np.nan, 1)}, {}, ("missing in 1 row,", "row 7")),
        ({"X": TABLE}, {"drop": ("column 9",)}, ("'column 9'", "column 0, column 1, column 2")),
    ],
)
def test_npz_errors(tmp_path, arrays, settings, parts):
    refused(write(tmp_path, "a.npz", npz(**arrays)), *parts, **settings)


def test_settings_that_are_not_for_the_data(tmp_path):
    table, images = write(tmp_path, "a.npy", npy(TABLE)), write(tmp_path, "b.npy", npy(IMAGES))
    refused(table, check=naming("DataSpec.label", "y"), label="y")
    refused(images, error=SpecError, check=naming("DataSpec.drop", ["a"]), drop=("a",))
    refused(Path("digits"), error=SpecError, check=naming("DataSpec.label", "y"), label="y")


def test_folders_devices_and_paths_that_are_not_there(tmp_path):
    refused(tmp_path, "is a folder", "without .parquet files, pictures", ".png", "recordings")
    refused(Path("/dev/zero"), "neither a file")
    refused(tmp_path / "no.csv", "no.csv", "no file is there", "digits")
    for name in ("~nobody-here/x", "a" * 5000):
        refused(Path(name), "no data is named", "digits")


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": TABLE[:, 0], "label": [str(row % 3) for row in range(20)]}), buffer)
    return buffer.getvalue()


DAMAGED = {**CONTENTS, "plain IDX": idx(IMAGES), "Parquet file": parquet()}
SUFFIXES_OF_DAMAGED = {**SUFFIXES, "plain IDX": "-ubyte", "Parquet file": ".parquet"}


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(list(DAMAGED)),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0.01, 1),
)
def test_damage_gives_data_or_an_error_of_ours(tmp_path_factory, kind, edits, cut):
    content = bytearray(DAMAGED[kind])
    for place, byte in edits:
        content[int(place * len(content))] = byte
    name, part = f"fuzz{SUFFIXES_OF_DAMAGED[kind]}", bytes(content[: max(1, int(cut * len(content)))])
    with suppress(DataError):
        load(write(tmp_path_factory.getbasetemp(), name, part))
