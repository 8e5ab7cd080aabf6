"""Files that would take more memory or time than they are worth are refused before they are read."""

import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reading import CSV, IMAGES, TABLE, idx, load, npy, npz, refused, write

from naming import naming
from vaekit.data.bounds import check_rows, check_streamed
from vaekit.data.columns import check_distinct, check_drop, drop_setting, unnamed
from vaekit.errors import DataError

HEAD = b"\x93NUMPY\x01\x00"


def header(shape: str, descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return HEAD + struct.pack("<H", len(text)) + text


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


@pytest.mark.parametrize("stream", ["auto", "always", "never"])
@pytest.mark.parametrize(
    ("shape", "descr"), [((7_500_000_000, 1), "<f8"), ((100, 30_000_000), "<f8"), ((100_000_000, 800), "|u1")]
)
def test_sparse_arrays(tmp_path, shape, descr, stream):
    head = header(str(shape), descr)
    size = len(head) + shape[0] * shape[1] * np.dtype(descr).itemsize
    refused(sparse(tmp_path / "a.npy", head, size), "on disk", "a hole", stream=stream)


@pytest.mark.parametrize("name", ["a.csv", "a-ubyte.gz", "a.npz", "a.parquet", "a"])
def test_sparse_files_of_every_kind(tmp_path, name):
    refused(sparse(tmp_path / name, CSV.encode(), 10_000_000_000), "10.0 GB", "a hole")


def test_what_streaming_takes_is_bounded():
    check_streamed("a", 10_000_000, 1000, 250_000_000)
    with pytest.raises(DataError, check=naming("Limit.data_gb")):
        check_streamed("a", 150_000_000, 1, 250_000_000)
    with pytest.raises(DataError, check=naming("Limit.data_gb")):
        check_streamed("a", 100, 30_000_000, 250_000_000)
    check_streamed("a", 150_000_000, 1, 1_000_000_000)


@pytest.mark.parametrize(("names", "stream", "said"), [("a", "always", "50,000,000 rows"), ("abc", "never", "1.2 GB")])
def test_many_rows_in_a_small_file(tmp_path, names, stream, said):
    path = tmp_path / "a.parquet"
    part = pa.table({name: pa.nulls(5_000_000, pa.float64()) for name in names})
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(10):
            writer.write_table(part, row_group_size=5_000_000)
    assert path.stat().st_size < 1_000_000
    refused(path, said, stream=stream)


def test_many_dimensions(tmp_path):
    content = header(f"({'1, ' * 70})") + b"\0" * 8
    refused(write(tmp_path, "a.npy", content), "70 dimensions", "at most 32")
    refused(write(tmp_path, "b.npy", npy(np.zeros((2,) * 20))), "channels")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"1," * 9_000_000, ("line 1 has more than 16,777,216 characters", ".npy")),
        (CSV.encode() + b"x" * 17_000_000, ("line 12 has more than", ".npy")),
        (b",".join([b"1"] * 100_001) + b"\n", ("100,001 columns", "at most 100,000")),
        (CSV.encode() + b'"1,2\n' + b"3,4\n" * 50_000, ("131,072 characters", "close the quote")),
        (b'"a,b\n' + b"3,4\n" * 50_000, ("131,072 characters", "close the quote")),
        (b"a,b\n1,0.640\n2,0.7\n3,\xff\n", ("not text in UTF-8", "line 4", "0xff")),
        (b"a,b\n" + b"1,2\n" * 100_000 + b"\xe9,2\n", ("not text in UTF-8", "line 100002", "0xe9")),
        (b"a,label\n1,x\n2,\xfe\n", ("not text in UTF-8", "line 3", "0xfe")),
        (b"a,label\n" + b"1,y\n" * 200_000 + b"2," + b"x" * 2_000_000 + b"\n", ("the label", "2,000,000 characters")),
    ],
)
def test_tables_of_text(tmp_path, text, parts):
    refused(write(tmp_path, "a.csv", text), "a.csv", *parts)


def test_long_texts_in_a_column_that_is_left_out(tmp_path):
    text = "a,b,about\n" + "".join(f'{i},{i * i},"{"x" * 140_000}"\n' for i in range(5))
    assert load(write(tmp_path, "a.csv", text), drop=("about",)).whole().shape == (5, 2)


def test_texts_that_a_parquet_file_repeats(tmp_path):
    """10 GB of text, of which the file holds 10 MB."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array(["x" * 10_000_000]))
    for name, part in {"label": "10,000,000 characters in 1,000 rows", "text": "holds 'xxxxx"}.items():
        pq.write_table(pa.table({"a": np.arange(1000.0), name: texts}), tmp_path / "a.parquet")
        refused(tmp_path / "a.parquet", part)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "loop"])
def test_labels_beside_images_are_a_file(tmp_path, monkeypatch, kind):
    images = write(tmp_path, "train-images-idx3-ubyte", idx(IMAGES))
    labels = tmp_path / "train-labels-idx1-ubyte"
    match kind:
        case "fifo":
            os.mkfifo(labels)
        case "folder":
            labels.mkdir()
        case "loop":
            labels.symlink_to(labels.name)
        case "device":
            labels.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                monkeypatch.chdir(tmp_path)  # for a short name
                bound.bind(labels.name)
    refused(images, labels.name)


def test_names_are_checked_in_time_that_is_linear_in_them():
    began, width = time.process_time(), 40_000
    names = unnamed(range(width))
    check_drop(names, names, "x")
    check_distinct(names, "x")
    with pytest.raises(DataError, match="two columns named 'column 39999'"):
        check_distinct([*names, names[-1]], "x")
    with pytest.raises(DataError, check=naming("DataSpec.drop", ["colunm 7"])):
        check_drop(["colunm 7"], names, "x")
    assert len(drop_setting(names)) < 2000
    assert time.process_time() - began < 5  # 40 s and more where every name was compared with every other


def test_names_cannot_forge_a_message(tmp_path):
    message = refused(write(tmp_path, "a.csv", '"a\nvaekit: done","\x1b[2Jb"\nx,y\n1,2\n3,4\n'), "holds 'x'")
    assert message.isprintable()
    assert len(refused(write(tmp_path, "b.csv", ",".join(f"c{i}" for i in range(10_000)) + "\n"), "no rows")) < 2100
    assert len(refused(write(tmp_path, "c.npz", npz(**{f"n{i}": TABLE for i in range(500)})), "and 488 more")) < 2100


MEMORY = """
import resource, sys
from pathlib import Path
from vaekit.data import DataSpec, Limit, prepare
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]),) * 2)
spec = DataSpec(source=sys.argv[1], bad_files="skip", image_size=(8, 8), scale="none")
try:
    print(prepare(spec, Limit()).schema.protocol)
except MemoryError:
    print("out of memory")
"""


@pytest.mark.parametrize(("free", "said"), [(200_000_000, "out of memory"), (3_000_000_000, "1 of 5 files skipped")])
def test_memory_that_runs_out_is_no_verdict_on_a_picture(tmp_path, free, said):
    for place in range(3):
        Image.fromarray(np.full((8, 8, 3), place * 9, np.uint8)).save(tmp_path / f"{place}.png")
    Image.new("RGB", (5000, 5000)).save(tmp_path / "large.png", compress_level=1)
    write(tmp_path, "damaged.png", (tmp_path / "large.png").read_bytes()[:-200_000])
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path), str(free)], capture_output=True, text=True)
    assert said in done.stdout, done.stderr


SMALL = """
import resource, sys
from vaekit.data import DataSpec, Limit, prepare
import h5py, scipy.sparse, torch, vaekit.data.formats.csv, vaekit.data.formats.feather, vaekit.data.formats.parquet
torch.set_num_threads(1)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000,) * 2)
for name in sys.argv[1:]:
    try:
        print(prepare(DataSpec(source=name), Limit(data_gb=0.05)).schema.columns)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_small_files_that_unpack_to_much(tmp_path):
    """Each unpacks to 300 MB and more, and is read or refused with 300 MB of memory."""
    h5py = pytest.importorskip("h5py")
    lists = pa.ListArray.from_arrays(pa.array([0, 10_000_000], pa.int32()), pa.array(np.zeros(10_000_000)))
    beside = pa.table({"a": pa.chunked_array([lists] * 6), "b": np.arange(6.0) ** 2})
    pq.write_table(beside, tmp_path / "lists.parquet")
    zeros = pa.table({"a": np.zeros(40_000_000)})
    pq.write_table(zeros, tmp_path / "group.parquet", row_group_size=40_000_000)
    text = pa.table({"a": ["x" * 320_000_000]})
    pq.write_table(text, tmp_path / "page.parquet", use_dictionary=False, compression="zstd")
    runs = pa.record_batch({"a": pa.RunEndEncodedArray.from_arrays([100_000_000], [1.0])})
    with pa.ipc.new_file(tmp_path / "runs.feather", runs.schema) as file:
        file.write_batch(runs)
    rows = b"1,2\n" * 1_000_000
    write(tmp_path, "rows.csv.gz", gzip.compress(b"a,b\n", mtime=0) + gzip.compress(rows, 6, mtime=0) * 60)
    write(tmp_path, "train-images-idx3-ubyte", idx(IMAGES))
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 500_000_000)
    sparse(tmp_path / "train-labels-idx1-ubyte", labels, 500_000_008)
    with h5py.File(tmp_path / "chunk.h5ad", "w") as file:
        file.create_dataset("X", (1_000_000, 50), "f8", chunks=(1_000_000, 50), compression="gzip")[:1] = 1.0
    said = {
        "lists.parquet": "('b',)",
        "group.parquet": "DataError group.parquet has a row group of 40000000 rows",
        "page.parquet": "DataError page.parquet has a page of 0.32 GB in the column 'a'",
        "runs.feather": "DataError runs.feather would take about 0.8 GB",
        "rows.csv.gz": "DataError rows.csv.gz would",
        "train-images-idx3-ubyte": "the labels have shape",
        "chunk.h5ad": "lies in chunks of 0.4 GB",
    }
    words = [sys.executable, "-c", SMALL, *(str(tmp_path / name) for name in said)]
    done = subprocess.run(words, capture_output=True, text=True)
    found = done.stdout.replace(f"{tmp_path}/", "").splitlines()
    assert len(found) == len(said), done.stderr
    assert not [line for line, part in zip(found, said.values(), strict=True) if part not in line], found


def test_a_text_after_blocks_of_numbers(tmp_path):
    """The column is one of text throughout, though its first 16 MB are numbers."""
    path = write(tmp_path, "a.csv", b"a,b\n" + b"1.50,7\n" * 2_500_000 + b"x,8\n")
    first, other = load(path).columns or ()
    assert (first.categories, other.categories, other.dtype) == (("1.50", "x"), None, "int64")
    assert load(path).whole()[[0, -2, -1]].tolist() == [[0, 7], [0, 7], [1, 8]]


def test_a_late_row_is_named_by_its_number(tmp_path):
    text = b"a,b\n" + b"1,2\n" * 150_000 + b"1,2,3\n"
    refused(write(tmp_path, "a.csv", text), "row 150,001 below the header has 3 cells (1,2,3)")


def test_what_is_made_of_data_counts(tmp_path):
    """0.75 GB may be taken beside Limit.data_gb for what is made of data."""
    check_rows("a", 100, 500, 1e9)
    with pytest.raises(
        DataError,
        match=r"takes 0\.9 GB in memory, and 1\.1 GB more",
        check=naming("Limit.data_gb", 1.0),
    ):
        check_rows("a", 900_000_000, 1_100_000_000, 1e9)


AS_NOBODY = """
import os, sys
import vaekit.cli.console.running, vaekit.data.formats.csv, vaekit.data.formats.npy, vaekit.runs
from vaekit.cli.main import main
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
main(["data", sys.argv[1]])
"""


@pytest.mark.parametrize("name", ["a.npy", "a.csv"])
def test_a_file_of_another_user_is_named(name):
    """As root everything may be read, so the process becomes nobody, as one that a server starts may be."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = write(Path(folder), name, npy(TABLE) if name == "a.npy" else CSV)
        path.chmod(0)
        done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{name} cannot be read: Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_idx_header_of_no_rows_and_endless_ones(tmp_path):
    content = bytes([0, 0, 8, 4]) + struct.pack(">4I", 0, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    refused(write(tmp_path, "a-ubyte", content), "which no array has")


def test_a_dictionary_whose_places_are_wrong(tmp_path):
    """A text is looked up by its number, which a damaged file may give beyond the end."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": TABLE[:5, 0], "label": ["x", "y", "x", "y", "z"]}), buffer, compression="none")
    whole = buffer.getvalue()
    at = whole.index(b"x\x01\x00\x00\x00y") + 11  # behind the texts of the dictionary
    for place in range(at, at + 60):
        changed = whole[:place] + b"\xff" + whole[place + 1 :]
        with suppress(DataError):
            load(write(tmp_path, "a.parquet", changed))
