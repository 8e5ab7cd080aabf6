"""Hostile data files, of every format that is read, and the cases that read them."""

import gzip
import io
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import NOBODY, Case
from hostile_bytes import Maker, damaged, not_files, sparse, write
from PIL import Image

Named = Iterator[tuple[str, str, Maker]]  # file name, what is hostile about it, how it is made
GOOD_OR_DATA = frozenset({0, 3})
DATA = frozenset({3})
GB = 1_000_000_000
RENAMED = "renamed files"
NOT_FILES = "not a file, or one that may not be read"

_RNG = np.random.default_rng(0)
TABLE = _RNG.normal(size=(60, 3))
PICTURES = _RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8)


class Trap:
    """Unpickling this makes a file, which shows that a pickle was opened."""

    def __reduce__(self) -> tuple:
        return (open, ("../outside/canary", "w"))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_head(shape: str, descr: str = "'<f8'", fortran: bool = False, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header) % (1 << 16 if version == 1 else 1 << 32))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def csv(rows: int = 60) -> bytes:
    return b"a,b,c\n" + b"".join(b"%f,%f,%f\n" % tuple(row) for row in TABLE[:rows])


def parquet(table: dict | pa.Table | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    if table is None:
        table = {name: TABLE[:, place] for place, name in enumerate("abc")}
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer, **options)
    return buffer.getvalue()


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(_RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


WHOLE = {
    "table.npy": npy(TABLE),
    "table.npz": npz(X=TABLE, y=np.arange(60) % 3),
    "table.csv": csv(),
    "table.parquet": parquet(),
    "images-idx3-ubyte": idx(PICTURES),
    "images-idx3-ubyte.gz": gzip.compress(idx(PICTURES), mtime=0),
}


def lying_npy() -> Named:
    shapes = {
        "60 GB declared": "(7500000000, 1)",
        "more than any machine has": "(99999999999999, 3)",
        "a negative shape": "(-20, -3)",
        "a shape of no rows and 10^18 columns": "(0, 1000000000000000000)",
        "a shape of fractions": "(1.5, 2)",
        "a shape that is text": "'x'",
        "a shape of truth values": "(True, True)",
        "an integer of 5,000 digits": f"({'9' * 5000},)",
        "a shape of 70 dimensions": f"({'1, ' * 70})",
        "a shape of 3,000 dimensions": f"({'1, ' * 3000})",
    }
    for what, shape in shapes.items():
        yield "a.npy", what, write(npy_head(shape) + TABLE.tobytes())
    yield "a.npy", "70 dimensions of 1, whole", write(npy_head(f"({'1, ' * 70})") + b"\0" * 8)
    yield "a.npy", "33 dimensions of 1, whole", write(npy_head(f"(40, {'1, ' * 32})") + b"\0" * 320)
    yield "a.npy", "a header of 60,000 parentheses", write(npy_head("(" * 60_000))
    yield "a.npy", "a header of 60,000 minus signs", write(npy_head("-" * 60_000 + "1"))
    yield "a.npy", "a header of 10 MB", write(npy_head("(1, 1)" + " " * 10_000_000, version=2))
    yield "a.npy", "a header said to have 4 GB", write(b"\x93NUMPY\2\0\xff\xff\xff\xff" + WHOLE["table.npy"][10:])
    yield "a.npy", "version 3 of the format", write(npy_head("(60, 3)", version=3) + TABLE.tobytes())
    yield "a.npy", "version 9 of the format", write(b"\x93NUMPY\x09\0" + WHOLE["table.npy"][8:])
    for descr in (
        "'|O'",
        "'<U1000000000'",
        "'<M8[s]'",
        "'<c16'",
        "'|V8'",
        "'>f2'",
        "[('a', '<f8')]",
        "'<f8,<f8'",
        "'<x8'",
    ):
        yield "a.npy", f"cells of type {descr}", write(npy_head("(60, 3)", descr) + TABLE.tobytes())
    yield "a.npy", "pickled objects", write(npy(np.array([[Trap()]], dtype=object)))
    yield "a.npy", "a pickle by another name", write(pickle.dumps(Trap()))
    yield "a.npy", "60 GB, sparse", partial(_sparse_npy, shape=(7_500_000_000, 1))
    yield "a.npy", "80 GB, sparse, of bytes", partial(_sparse_npy, shape=(100_000_000, 800), descr="|u1")
    yield "a.npy", "24 GB, sparse, in rows of 240 MB", partial(_sparse_npy, shape=(100, 30_000_000))
    yield "a.npy", "24 GB, sparse, in one row", partial(_sparse_npy, shape=(1, 3_000_000_000))
    yield "a.npy", "24 GB, sparse, in 3 rows of pictures", partial(_sparse_npy, shape=(3, 100_000, 80_000), descr="|u1")
    yield "a.npy", "16 GB, sparse, column by column", partial(_sparse_npy, shape=(1_000_000_000, 2), fortran=True)


def _sparse_npy(path: Path, shape: tuple[int, ...], descr: str = "<f8", fortran: bool = False) -> None:
    head = npy_head(str(shape), f"'{descr}'", fortran)
    size = int(np.prod(shape, dtype=object)) * np.dtype(descr).itemsize
    sparse(path, head, len(head) + size)


def lying_npz() -> Named:
    def archive(*members: tuple[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as file:
            warnings.simplefilter("ignore")
            for name, content in members:
                file.writestr(name, content)
        return buffer.getvalue()

    trap = np.array([[Trap()]], dtype=object)
    whole, table = archive(("X.npy", npy(TABLE))), npy(TABLE)
    yield "a.npz", "pickled objects", write(npz(X=trap))
    yield "a.npz", "pickled objects for labels", write(npz(X=TABLE, y=trap[0].repeat(60)))
    for name in ("../X.npy", "/X.npy", "a/X.npy", "X", "X.npy.npy", "\n.npy", "\x1b[31m.npy", ".npy"):
        yield "a.npz", f"a member called {name!r}", write(archive((name, table)))
    yield "a.npz", "a member twice", write(archive(("X.npy", table), ("X.npy", table)))
    yield "a.npz", "50,000 members", write(archive(*((f"m{i}.npy", b"") for i in range(50_000))))
    yield (
        "a.npz",
        "1,000 arrays of which none is the data",
        write(npz(**{f"{'n' * 100}{i}": TABLE[:1] for i in range(1000)})),
    )
    yield "a.npz", "a bomb of 2 GB", _zip_bomb
    zeros = npy_head("(50000, 1000)", "'|u1'") + bytes(50_000_000)
    for what, kind in {"bzip2": zipfile.ZIP_BZIP2, "LZMA": zipfile.ZIP_LZMA}.items():
        yield "a.npz", f"a bomb in {what}", partial(_archived, member=("X.npy", zeros), kind=kind)
    yield (
        "a.npz",
        "a bomb whose directory says 4 GB",
        write(whole.replace(struct.pack("<I", len(table)), b"\xff\xff\xff\xfe")),
    )
    yield (
        "a.npz",
        "a directory that says a member is small",
        write(whole.replace(struct.pack("<I", len(table)), struct.pack("<I", 100))),
    )
    yield "a.npz", "an encrypted member", write(_with_flag(whole, 1))
    yield "a.npz", "a member of patched data", write(_with_flag(whole, 32))
    yield "a.npz", "an unknown compression", write(_with_method(whole, 97))
    yield "a.npz", "a directory that begins elsewhere", write(whole[:-6] + struct.pack("<I", 7) + whole[-2:])
    yield "a.npz", "a directory that is not there", write(whole[:-6] + struct.pack("<I", 0xFFFFFFF0) + whole[-2:])
    yield "a.npz", "a local header elsewhere", write(_with_offset(whole, 0x7FFFFFFF))
    yield "a.npz", "sizes in 64 bits that are missing", write(_with_offset(whole, 0xFFFFFFFF))
    yield "a.npz", "a name in no encoding", write(whole.replace(b"X.npy", b"\xff\xfe\xfd\xfcy"))
    yield "a.npz", "labels that are long texts", write(npz(X=TABLE, y=np.array(["x" * 20_000] * 60)))
    yield "a.npz", "labels of 10 GB", partial(_npz_of_long_labels)
    yield "a.npz", "no arrays", write(archive())
    yield "a.npz", "a test set of another shape", write(npz(X=TABLE, X_test=PICTURES))
    yield "a.npz", "labels of another number", write(npz(X=TABLE, y=np.arange(3)))
    yield "a.npz", "an empty member", write(archive(("X.npy", b"")))
    yield "a.npz", "a header cut", write(archive(("X.npy", table[:60])))
    yield "a.npz", "70 dimensions", write(archive(("X.npy", npy_head(f"({'1, ' * 70})") + b"\0" * 8)))
    yield "a.npz", "NaN labels", write(npz(X=TABLE, y=np.full(60, np.nan)))


def _archived(path: Path, member: tuple[str, bytes], kind: int) -> None:
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr(*member)


def _zeros(size: int) -> bytes:
    """The deflated form of so many zeros, a multiple of 10^7, but for its end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * (size // 10_000_000)


_END = b"\x03\0"  # of what is deflated


def _deflated(head: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)


def _zip_bomb(path: Path, name: bytes = b"X.npy") -> None:
    """2 GB of zeros in 2 MB."""
    head = npy_head("(2000000, 1000)", "'|u1'")
    packed, size = _deflated(head) + _zeros(2 * GB) + _END, len(head) + 2 * GB
    facts = struct.pack("<4H3L2H", 0, 8, 0, 0, 0, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<H", 20) + facts + name + packed
    directory = b"PK\x01\x02" + struct.pack("<2H", 20, 20) + facts + struct.pack("<3H2L", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def _npz_of_long_labels(path: Path) -> None:
    """Labels of 10 GB by their header, of which the file holds nothing."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", npy(TABLE))
        file.writestr("y.npy", npy_head("(60,)", "'<U41666666'") + b"x" * 1000)


def _central(whole: bytes) -> int:
    return whole.index(b"PK\x01\x02")


def _with_flag(whole: bytes, flag: int) -> bytes:
    changed, at = bytearray(whole), _central(whole)
    changed[6] |= flag
    changed[at + 8] |= flag
    return bytes(changed)


def _with_method(whole: bytes, method: int) -> bytes:
    changed, at = bytearray(whole), _central(whole)
    changed[8] = changed[at + 10] = method
    return bytes(changed)


def _with_offset(whole: bytes, offset: int) -> bytes:
    changed, at = bytearray(whole), _central(whole)
    changed[at + 42 : at + 46] = struct.pack("<I", offset)
    return bytes(changed)


def hostile_csv(large: bool) -> Named:
    rows = csv()
    texts: dict[str, bytes] = {
        "an open quote": b'a,b\n"1,2\n3,4\n' + b"5,6\n" * 1000,
        "an open quote in a late row": rows + b'"1,2,3\n' + rows[6:] * 100,
        "an open quote in the header": b'"a,b\n1,2\n' + b"3,4\n" * 100_000,
        "a field of 200,000 characters": rows + b"1,2," + b"x" * 200_000 + b"\n",
        "a number of 200,000 digits": rows + b"1,2," + b"9" * 200_000 + b"\n",
        "a header of 200,000 characters": b"a,b," + b"x" * 200_000 + b"\n" + rows[6:],
        "a quoted field over many lines": rows + b'1,2,"' + b"x\n" * 100_000 + b'"\n',
        "NUL bytes in the first row": b"a,b\n1,\x002\n3,4\n",
        "NUL bytes in a late row": rows + b"1,2,\x00\n" + rows[6:] * 2000,
        "invalid UTF-8 after the first rows": rows + b"1,2,\xff\xfe\n" + rows[6:],
        "invalid UTF-8 in a late row": b"a,b,c\n" + rows[6:] * 2000 + b"1,2,\xff\n",
        "invalid UTF-8 in the header": b"a,\xff\n1,2\n3,4\n5,6\n",
        "a cut character at the end": rows + b"1,2,3\xe2\x82",
        "invalid UTF-8 in a column of text": b"a,name\n" + b"1,x\n" * 50 + b"2,\xffy\n",
        "UTF-16": rows.decode().encode("utf-16"),
        "UTF-32": rows.decode().encode("utf-32"),
        "a mark of order, then nothing": b"\xef\xbb\xbf",
        "2,000 marks of order": b"\xef\xbb\xbf" * 2000 + rows,
        "40,000 columns of text": b",".join(b"c%d" % i for i in range(40_000))
        + b"\n"
        + b",".join([b"x"] * 40_000)
        + b"\n",
        "40,000 names alike": b",".join([b"same"] * 40_000) + b"\n" + b",".join([b"1"] * 40_000) + b"\n",
        "40,000 columns and no rows": b",".join(b"c%d" % i for i in range(40_000)) + b"\n",
        "names with line breaks and brackets": b'"a\nvaekit: done","[bold]b[/]","\x1b[2Jc"\n1,x,3\n2,y,4\n3,z,5\n',
        "a ragged row of 100,000 cells": rows + b",".join([b"1"] * 100_000) + b"\n",
        "a ragged late row": b"a,b,c\n" + rows[6:] * 3000 + b"1,2\n",
        "line breaks of old Macs": rows.replace(b"\n", b"\r"),
        "breaks that only Unicode knows": rows.replace(b"\n", "\u2028".encode()),
        "blank lines only": b"\n" * 1_000_000,
        "a million blank lines, then rows": b"\n" * 1_000_000 + rows,
        "commas only": b"," * 100_000,
        "quotes only": b'"' * 100_000,
        "texts by the thousand": b"a,b\n" + b"".join(b"1,word%d\n" % i for i in range(20_000)),
        "numbers that are none": b"a,b\n1e400,0x10\n1_000,nan\n-inf,--1\n1e,+\n",
        "digits of another script": "a,b\n\u0661,\u0662\n\u0969,\uff14\n5,6\n".encode(),
        "an integer of 400 digits": b"a,b\n" + b"1,2\n" * 30 + b"9" * 400 + b",3\n",
        "gzipped": gzip.compress(rows, mtime=0),
        "one number": b"1",
        "one comma": b",",
        "labels of 100,000 characters": b"a,label\n" + b"".join(b"%d,%s\n" % (i, b"x" * 100_000) for i in range(60)),
    }
    for what, text in texts.items():
        yield "a.csv", what, write(text)
    yield "a.tsv", "commas where tabs belong", write(rows)
    if large:
        lines: dict[str, Maker] = {
            "one line of 20 MB of cells": partial(_long_line, cell=b"1,", times=10_000_000),
            "a header, then a line of 20 MB": partial(_long_line, cell=b"1,", times=10_000_000, head=b"a,b,c\n"),
            "one text of 30 MB": partial(_long_line, cell=b"x", times=30_000_000),
            "one line of 100 MB of cells": partial(_long_line, cell=b"1,", times=50_000_000),
            "one line of 100 MB": partial(_long_line, cell=b"x", times=100_000_000),
            "an open quote, then 100 MB": partial(_long_line, cell=b"1,2\n", times=25_000_000, head=b'a,b\n1,"'),
            "10 GB of nothing": sparse,
            "rows, then 10 GB of nothing": partial(sparse, head=rows),
            "short labels, and one of 20 MB": partial(
                _long_line, cell=b"x", times=20_000_000, head=b"a,label\n" + b"1,y\n" * 2_000_000 + b"2,"
            ),
        }
        yield from (("a.csv", what, make) for what, make in lines.items())


def _long_line(path: Path, cell: bytes, times: int, head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        for _ in range(10):
            file.write(cell * (times // 10))
        file.write(b"1\n")


def hostile_parquet(rng: random.Random, large: bool) -> Named:
    whole = WHOLE["table.parquet"]
    tables: dict[str, dict] = {
        "lists": {"a": [[1.0, 2.0]] * 60, "b": TABLE[:, 0]},
        "structs": {"a": [{"x": 1}] * 60, "b": TABLE[:, 0]},
        "bytes": {"a": [b"\xff\x00"] * 60, "b": TABLE[:, 0]},
        "dates": {"a": pa.array([0] * 60, pa.timestamp("ns")), "b": TABLE[:, 0]},
        "decimals of 76 digits": {"a": pa.array([1] * 60, pa.decimal256(76, 0)), "b": TABLE[:, 0]},
        "nothing but missing": {"a": pa.nulls(60), "b": pa.nulls(60)},
        "no rows": {"a": pa.array([], pa.float64())},
        "labels that are long texts": {"a": TABLE[:, 0], "label": ["x" * 100_000] * 60},
        "names with line breaks and brackets": {
            "a\nvaekit: done": TABLE[:, 0],
            "[bold]": ["x"] * 60,
            "\x1b[2J": ["y"] * 60,
        },
        "a column without a name": {"": TABLE[:, 0], " ": TABLE[:, 1]},
        "3,000 columns of text": {f"{'c' * 40}{i}": ["x"] for i in range(3000)},
    }
    for what, columns in tables.items():
        yield "a.parquet", what, write(parquet(columns))
    yield "a.parquet", "two columns alike", write(parquet(pa.table([TABLE[:, 0], TABLE[:, 1]], names=["a", "a"])))
    yield "a.parquet", "no columns", write(parquet(pa.table({})))
    if large:
        bombs = {
            "200 million rows in a small file": partial(_parquet_bomb, rows=200_000_000),
            "150 million rows in one row group of few bytes": partial(_parquet_bomb, rows=150_000_000, groups=1),
            "texts that a dictionary repeats to 10 GB": _parquet_of_texts,
            "labels that a dictionary repeats to 10 GB": partial(_parquet_of_texts, name="label"),
        }
        yield from (("a.parquet", what, make) for what, make in bombs.items())
    yield "a.parquet", "a footer said to have 4 GB", write(whole[:-8] + b"\xff\xff\xff\xff" + whole[-4:])
    yield "a.parquet", "a footer said to have 2 GB", write(whole[:-8] + b"\xff\xff\xff\x7f" + whole[-4:])
    yield "a.parquet", "a footer of no bytes", write(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    yield "a.parquet", "an encrypted footer", write(whole[:-4] + b"PARE")
    footer = len(whole) - 8 - struct.unpack("<I", whole[-8:-4])[0]
    for place in sorted(rng.sample(range(footer, len(whole) - 8), 40)):
        yield (
            "a.parquet",
            f"byte {place - footer} of the footer changed",
            write(whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1 :]),
        )


def _parquet_bomb(path: Path, rows: int, groups: int = 20) -> None:
    """Rows of one value, which their encoding repeats."""
    part = pa.table({"a": pa.array(np.zeros(rows // groups))})
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(part, row_group_size=rows // groups)


def _parquet_of_texts(path: Path, name: str = "text") -> None:
    index, texts = pa.array(np.zeros(1000, np.int32)), pa.array(["x" * 10_000_000])
    pq.write_table(pa.table({"a": np.arange(1000.0), name: pa.DictionaryArray.from_arrays(index, texts)}), path)


def lying_idx() -> Named:
    for end, pack in {"": lambda data: data, ".gz": partial(gzip.compress, mtime=0)}.items():
        name = f"a-ubyte{end}"
        for what, shape in {
            "one row more": (31, 8, 8),
            "one row less": (29, 8, 8),
            "2^128 bytes": (2**32 - 1,) * 4,
            "no rows": (0, 8, 8),
            "8 sizes": (30, 8, 8, 1, 1, 1, 1, 1),
        }.items():
            yield name, f"a header of {what}", write(pack(idx(PICTURES, shape)))
        yield name, "9 sizes", write(pack(bytes([0, 0, 8, 9]) + bytes(100)))
        yield name, "no sizes", write(pack(bytes([0, 0, 8, 0]) + bytes(100)))
        yield name, "an unknown type", write(pack(bytes([0, 0, 7, 3]) + idx(PICTURES)[4:]))
        yield name, "a header only", write(pack(idx(PICTURES)[:7]))
    yield "a-ubyte.gz", "a bomb of 2 GB", _gzip_bomb
    yield "a-ubyte.gz", "a bomb of 0.9 GB", partial(_gzip_bomb, rows=900_000)
    yield "a-ubyte.gz", "a header zipped, then 2 GB of zeros", partial(_gzip_bomb, rows=2_000_000, said=60)
    yield "a-ubyte.gz", "twice zipped", write(gzip.compress(gzip.compress(idx(PICTURES))))
    yield "a-ubyte.gz", "a wrong checksum", write(WHOLE["images-idx3-ubyte.gz"][:-8] + b"\0" * 8)
    yield "a-ubyte.gz", "10,000 members", write(gzip.compress(idx(PICTURES)[:16]) + gzip.compress(b"\0") * 10_000)
    yield "a-ubyte.gz", "a name that never ends", write(b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 1_000_000)
    yield "a-ubyte", "60 GB, sparse", partial(sparse, head=idx(PICTURES[:0], (60_000, 1000, 1000)), size=16 + 60 * GB)
    yield "a-ubyte.gz", "60 GB, sparse", partial(sparse, head=WHOLE["images-idx3-ubyte.gz"], size=60 * GB)


def _gzip_bomb(path: Path, rows: int = 2_000_000, said: int | None = None) -> None:
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", said or rows, 1000, 1)
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + _deflated(head) + _zeros(1000 * rows) + _END + b"\0" * 8)


def idx_neighbours() -> Iterator[tuple[str, Maker]]:
    """An image file that is whole, with something hostile where its labels are looked for."""
    labels = {
        **not_files(),
        "labels of 60 GB, sparse": partial(
            sparse, head=b"\0\0\x08\1" + struct.pack(">I", 4_000_000_000), size=8 + 4_000_000_000
        ),
    }
    labels["labels that are a bomb"] = _gzip_bomb

    def make(folder: Path, beside: Maker) -> None:
        (folder / "train-images-idx3-ubyte").write_bytes(idx(PICTURES))
        beside(folder / "train-labels-idx1-ubyte")

    for what, beside in labels.items():
        yield what, partial(make, beside=beside)


FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "webp": "WEBP"}


def hostile_pictures() -> Named:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, depth: int, colour: int, data: bytes, extra: bytes = b"") -> bytes:
        head = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")

    yield "b.png", "a bomb of 400 megapixels", write(png(20_000, 20_000, 1, 0, bytes(20_000 * 2501)))
    yield "b.png", "a picture of 2^31 pixels a side", write(png(2**31 - 1, 2**31 - 1, 8, 2, b""))
    yield "b.png", "49 megapixels of another size", write(png(7000, 7000, 1, 0, bytes(7000 * 876)))
    yield "b.png", "no pixels", write(png(0, 0, 8, 2, b""))
    yield (
        "b.png",
        "a comment that unpacks to 200 MB",
        write(png(8, 8, 8, 0, bytes(72), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9)))),
    )
    yield (
        "b.png",
        "a profile that unpacks to 200 MB",
        write(png(8, 8, 8, 0, bytes(72), chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200_000_000), 9)))),
    )
    yield "b.png", "more pixels than its size", write(png(8, 8, 8, 0, bytes(50_000_000)))
    yield "b.png", "fewer pixels than its size", write(png(8, 8, 8, 0, bytes(8)))
    yield "b.png", "a palette that is missing", write(png(8, 8, 8, 3, bytes(72)))
    yield "b.png", "a depth that is none", write(png(8, 8, 7, 0, bytes(72)))
    yield "b.png", "100,000 chunks", write(png(8, 8, 8, 0, bytes(72), chunk(b"teSt", b"") * 100_000))
    yield "b.png", "SVG", write(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>")
    yield (
        "b.png",
        "PostScript",
        write(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(../outside/canary) (w) file\n"),
    )
    yield "b.png", "a JPEG by another name", write(picture("JPEG"))
    yield "b.gif", "20,000 frames", write(_long_gif())
    yield (
        "b.gif",
        "65,535 pixels a side",
        write(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"),
    )
    yield "b.bmp", "a size of 2^31", write(picture("BMP")[:18] + b"\xff\xff\xff\x7f" * 2 + picture("BMP")[26:])
    yield "b.bmp", "a height below zero", write(picture("BMP")[:22] + b"\xf8\xff\xff\xff" + picture("BMP")[26:])
    yield "b.tif", "a directory that is its own next", write(_looping_tiff())
    yield "b.tif", "a tag of 4 GB", write(b"II*\0\x08\0\0\0\x01\0\x00\x01\x04\0\xff\xff\xff\xff\0\0\0\0" + b"\0" * 4)
    yield (
        "b.jpg",
        "a size of 65,500 a side",
        write(picture("JPEG").replace(b"\xff\xc0\x00\x11\x08\0\x08\0\x08", b"\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc")),
    )
    yield "b.jpg", "an orientation that is none", write(picture("JPEG", exif=_exif(99)))
    yield "b.jpg", "four inks", write(picture("JPEG", mode="CMYK"))
    yield "b.png", "16 bits", write(picture("PNG", mode="I;16") if False else _short_png())
    yield "b.webp", "a length of 4 GB", write(picture("WEBP")[:4] + b"\xff\xff\xff\xff" + picture("WEBP")[8:])
    yield "b\nvaekit: done.png", "a name with a line break", write(b"")
    yield "[bold]b.png", "a name with brackets", write(b"")
    yield os.fsdecode(b"b\xff\xfe.png"), "a name in no encoding", write(b"")
    yield "b" * 251 + ".png", "a name of 255 bytes", write(b"")
    yield "b.txt", "a text", write(b"hello")
    yield "b.png", "10 GB, sparse", sparse
    yield "b.png", "10 GB, sparse, with a head", partial(sparse, head=picture())
    yield "b.jpg", "10 GB, sparse, with a head", partial(sparse, head=picture("JPEG")[:200])


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _short_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_RNG.integers(0, 65_536, (8, 8), dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def _long_gif() -> bytes:
    frame = b",\0\0\0\0\x08\0\x08\0\0\x02\x05\x84\x8f\xa9\xcb\x0f\0"
    return b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 20_000 + b";"


def _looping_tiff() -> bytes:
    tag = struct.pack("<HHII", 256, 3, 1, 8) + struct.pack("<HHII", 257, 3, 1, 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + tag + struct.pack("<I", 8)


def around(name: str, make: Maker) -> Callable[[Path], None]:
    """A folder `pictures` of two whole pictures and what `make` puts beside them."""

    def build(folder: Path) -> None:
        (folder / "pictures").mkdir()
        for place in range(4):
            (folder / "pictures" / f"a{place}.png").write_bytes(picture())
        make(folder / "pictures" / name)

    return build


def picture_folders() -> Iterator[tuple[str, Maker]]:
    def classes(folder: Path, inside: Callable[[Path], object]) -> None:
        for name in ("one", "two"):
            (folder / "pictures" / name).mkdir(parents=True)
            (folder / "pictures" / name / "a.png").write_bytes(picture())
        inside(folder / "pictures")

    def many(pictures: Path) -> None:
        for place in range(3000):
            (pictures / "one" / f"{place}.png").write_bytes(b"")

    def deep(pictures: Path) -> None:
        (pictures / "one" / "/".join(["d"] * 500)).mkdir(parents=True)

    insides: dict[str, Callable[[Path], object]] = {
        "a class that is empty": lambda pictures: (pictures / "three").mkdir(),
        "a class that is a link to its folder": lambda pictures: (pictures / "three").symlink_to("."),
        "a class that is a link to everything": lambda pictures: (pictures / "three").symlink_to("/"),
        "a class that is a link to /dev": lambda pictures: (pictures / "three").symlink_to("/dev"),
        "a class that is a link to /proc/self/fd": lambda pictures: (pictures / "three").symlink_to("/proc/self/fd"),
        "a file beside the classes": lambda pictures: (pictures / "x.png").write_bytes(picture()),
        "a class called with a line break": lambda pictures: (pictures / "three\nvaekit: done").mkdir(),
        "3,000 empty files": many,
        "folders 500 deep": deep,
    }
    for what, inside in insides.items():
        yield what, partial(classes, inside=inside)


def parquet_folders() -> Iterator[tuple[str, Maker]]:
    parts: dict[str, Maker] = {
        **not_files(),
        "empty": write(b""),
        "text": write(b"hello"),
        "other columns": write(parquet({"z": [1.0]})),
        "other types": write(parquet({"a": ["x"], "b": ["y"], "c": ["z"]})),
        "more rows than memory": partial(_parquet_bomb, rows=60_000_000),
    }
    parts.pop("missing")

    def make(folder: Path, part: Maker) -> None:
        (folder / "parts").mkdir()
        (folder / "parts" / "0.parquet").write_bytes(WHOLE["table.parquet"])
        part(folder / "parts" / "1.parquet")

    for what, part in parts.items():
        yield what, partial(make, part=part)


def files(rng: random.Random, times: int, large: bool) -> Iterator[tuple[str, str, str, Maker]]:
    """Group, file name, what is hostile, how it is made."""
    for name, whole in WHOLE.items():
        group = f"{name.split('.', 1)[1] if '.' in name else 'IDX'} damaged"
        for what, content in damaged(whole, rng, times):
            yield group, name, what, write(content)
        for other, content in WHOLE.items():
            if other != name and not ("idx3" in other and "idx3" in name):  # IDX may be gzipped or not
                yield RENAMED, name, f"what {other} holds", write(content)
    for group, hostile in {
        ".npy made to harm": lying_npy(),
        ".npz made to harm": lying_npz(),
        ".csv made to harm": hostile_csv(large),
        "Parquet made to harm": hostile_parquet(rng, large),
        "IDX made to harm": lying_idx(),
    }.items():
        for name, what, make in hostile:
            yield group, name, what, make
    for name in ("a.npy", "a.npz", "a.csv", "a.parquet", "a-ubyte", "a-ubyte.gz", "a"):
        for what, make in not_files().items():
            yield NOT_FILES, name, what, make
        yield NOT_FILES, name, "10 GB of zeros", sparse


def data_cases(rng: random.Random, times: int = 12, large: bool = True, verbs: int = 2) -> Iterator[Case]:
    """Every hostile file, read as data: by `vaekit data`, and some of them, by chance, in other ways too.

    times: of each damage that has a choice. large: whether files of 100 MB are among them. verbs: how many of ten
    files are read in each of the other ways.
    """
    for group, name, what, make in files(rng, times, large):
        codes = DATA if group in (RENAMED, NOT_FILES) else GOOD_OR_DATA  # damage may leave a file that is legal
        at = partial(_at, name=name, make=make)
        yield Case(group, f"{name}, {what}", ["data", f"./{name}"], at, codes)
        for setting in ("data.stream=never", "data.stream=always", "limit.data_gb=0.001"):
            if rng.randrange(10) < verbs:
                yield Case(group, f"{name}, {what}", ["data", f"./{name}", setting], at, GOOD_OR_DATA | {2})
    for what, make in idx_neighbours():
        yield Case("IDX made to harm", f"beside: {what}", ["data", "./train-images-idx3-ubyte"], make, GOOD_OR_DATA)
    for what, make in parquet_folders():
        yield Case("Parquet folder, a part of it hostile", what, ["data", "./parts"], make, GOOD_OR_DATA)
    for end, kind in FORMATS.items():
        for what, content in damaged(picture(kind), rng, times):
            made = around(f"b.{end}", write(content))
            for setting in ("refuse", "skip"):
                words = ["data", "./pictures", f"data.bad_files={setting}"]
                codes = frozenset({0}) if setting == "skip" else GOOD_OR_DATA
                # a bit that is flipped in a size makes a whole picture of another size
                yield Case(f"{kind} damaged", f"{what}, {setting}", words, made, codes | {3})
    for name, what, make in hostile_pictures():
        for setting in ("refuse", "skip"):
            words = ["data", "./pictures", f"data.bad_files={setting}", "data.image_size=[8, 8]"]
            yield Case("pictures made to harm", f"{what}, {setting}", words, around(name, make), GOOD_OR_DATA)
    for what, make in not_files().items():
        for setting in ("refuse", "skip"):
            words = ["data", "./pictures", f"data.bad_files={setting}"]
            codes = GOOD_OR_DATA if what in ("missing", "a folder") else DATA if setting == "refuse" else GOOD_OR_DATA
            yield Case("pictures made to harm", f"{what}, {setting}", words, around("b.png", make), codes)
    for what, make in picture_folders():
        yield Case("pictures made to harm", what, ["data", "./pictures"], make, GOOD_OR_DATA)
    yield from _special_paths()
    yield from _unreadable()


def _at(folder: Path, name: str, make: Maker) -> None:
    make(folder / name)


def _special_paths() -> Iterator[Case]:
    group = NOT_FILES
    for path in (
        "/dev/zero", "/dev/null", "/dev/tty", "/dev/stdin", "/dev/fd", "/dev", "/proc", "/proc/self/mem", "/proc/kmsg",
        "/proc/self/pagemap", "/", ".", "..", "/proc/self/fd", "/sys/kernel", "x" * 5000, "a/" * 3000, "~nobody-here/x",
        "a\nvaekit: done", "[bold]a.csv", "\x1b[2J", os.fsdecode(b"\xff.csv"), "-", "--", "http://localhost/x.npy",
    ):  # fmt: skip
        codes = GOOD_OR_DATA | {2} if path in ("-", "--") else DATA | {2}  # a name that is none is refused as a setting
        yield Case(group, f"the path {path[:40]!r}", ["data", path], lambda folder: None, codes)


def _unreadable() -> Iterator[Case]:
    group = NOT_FILES
    for name, whole in WHOLE.items():

        def make(folder: Path, name: str = name, whole: bytes = whole) -> None:
            (folder / name).write_bytes(whole)
            (folder / name).chmod(0)

        yield Case(group, f"{name}, of another user", ["data", f"./{name}"], make, DATA, user=_other_user())

    def locked(folder: Path, mode: int) -> None:
        around("b.png", write(picture()))(folder)
        (folder / "pictures").chmod(mode)

    for mode in (0, 0o444, 0o111):
        yield Case(
            group,
            f"a folder of mode {mode:o}",
            ["data", "./pictures"],
            partial(locked, mode=mode),
            DATA,
            user=_other_user(),
        )

    def one(folder: Path) -> None:
        around("b.png", write(picture()))(folder)
        (folder / "pictures" / "b.png").chmod(0)

    yield Case(group, "a picture of another user", ["data", "./pictures"], one, DATA, user=_other_user())
    skip = ["data", "./pictures", "data.bad_files=skip"]
    yield Case(group, "a picture of another user, skip", skip, one, GOOD_OR_DATA, user=_other_user())


def _other_user() -> int | None:
    return NOBODY if os.getuid() == 0 else None
