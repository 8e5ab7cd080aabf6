"""Files that are large, or small and unpack to far more, of every format that is read."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
from harness import LARGE_SECONDS, Case
from hostile_bytes import Maker
from PIL import Image

GOOD_OR_DATA = frozenset({0, 3})
ROWS = 1_000_000  # of a block that is written again and again


def size_cases(size: int) -> Iterator[Case]:
    """Every file, read by `vaekit data`; size: bytes of those that are not small ones."""
    for group, hostile in {
        "sizes: CSV": csv_files(size),
        "sizes: JSON lines": json_files(size),
        "sizes: Parquet": parquet_files(size),
        "sizes: Feather": feather_files(size),
        "sizes: NumPy and IDX": array_files(size),
        "sizes: h5ad": h5ad_files(size),
    }.items():
        for name, what, make in hostile:
            yield Case(
                group,
                f"{name}, {what}",
                ["data", f"./{name}"],
                partial(_at, name=name, make=make),
                GOOD_OR_DATA,
                seconds=LARGE_SECONDS,
            )
    for what, make in picture_files():
        words = ["data", "./pictures", "data.image_size=[8, 8]"]
        yield Case("sizes: pictures", what, words, partial(_in_folder, folder="pictures", make=make), GOOD_OR_DATA)
    for what, make in sound_files(size):
        yield Case(
            "sizes: sounds", what, ["data", "./sounds"], partial(_in_folder, folder="sounds", make=make), GOOD_OR_DATA
        )


def _at(here: Path, name: str, make: Maker) -> None:
    make(here / name)


def _in_folder(here: Path, folder: str, make: Maker) -> None:
    (here / folder).mkdir()
    make(here / folder)


def _lines(path: Path, head: bytes, line: Callable[[int], bytes], size: int, end: bytes = b"") -> None:
    """A file of lines; a block of the first is written again and again until it has so many bytes, then the end."""
    lines, room = [], min(size, 4_000_000)
    while room > 0:
        lines.append(line(len(lines)))
        room -= len(lines[-1])
    block = b"".join(lines)
    with path.open("wb") as file:
        written = file.write(head)
        while written < size:
            written += file.write(block)
        file.write(end)


def _each_another(path: Path, head: bytes, line: Callable[[int], bytes], size: int) -> None:
    """A file of lines, each another, that has so many bytes."""
    with path.open("wb") as file:
        written, n = file.write(head), 0
        while written < size:
            written, n = written + file.write(line(n)), n + 1


def _header(columns: int) -> bytes:
    return b",".join(b"c%d" % place for place in range(columns)) + b"\n"


def csv_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    digits = [b",".join(b"%d" % ((i * k) % 10) for i in range(10)) + b"\n" for k in (3, 7, 9)]
    rng = np.random.default_rng(0)
    numbers = [b",".join(b"%.9f" % value for value in row) + b"\n" for row in rng.normal(size=(100, 10))]
    words = [b"alpha", b"beta", b"gamma", b"delta", b"?", b"epsilon"]

    def wide(columns: int, cell: bytes) -> Callable[[int], bytes]:
        line = b",".join([cell] * columns) + b"\n"
        return lambda n: line

    of_lines: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
        "digits": (_header(10), lambda n: digits[n % 3]),
        "numbers of ten digits": (_header(10), lambda n: numbers[n % 100]),
        "one column of digits": (b"a\n", lambda n: b"%d\n" % (n % 10)),
        "short texts": (_header(6), lambda n: b",".join(words[(n + i) % 6] for i in range(6)) + b"\n"),
        "texts, each another": (_header(10), lambda n: b",".join(b"t%x" % (10 * n + i) for i in range(10)) + b"\n"),
        "labels of 1,000 characters": (b"a,label\n", lambda n: b"%d,%s\n" % (n, (b"%d" % (n % 50)) * 500)),
        "long labels, each another": (b"a,label\n", lambda n: b"%d,%s\n" % (n, (b"%d" % n) * 200)),
        "texts of 100,000 characters": (b"a,b\n", lambda n: b"%d,%s\n" % (n, b"x" * 100_000)),
        "dates and truth values": (_header(3), lambda n: b"2020-01-%02d,true,10:%02d\n" % (n % 28 + 1, n % 60)),
        "empty cells": (_header(20), lambda n: b"," * 19 + b"\n"),
        "quoted cells": (_header(4), lambda n: b'"1","x""y","3.5","a\nb"\n'),
        "cells with blanks around them": (_header(3), lambda n: b" 1 , 2.5 , x \n"),
        "numbers with marks between thousands": (_header(2), lambda n: b'"1,234.5","%d,000"\n' % (n % 900 + 100)),
        "10,000 columns of text": (_header(10_000), wide(10_000, b"word")),
        "10,000 columns of digits": (_header(10_000), wide(10_000, b"1")),
        "40,000 columns of text": (_header(40_000), wide(40_000, b"x")),
        "40,000 columns of numbers": (_header(40_000), wide(40_000, b"1.5")),
        "an open quote": (b'a,b\n1,"', lambda n: b"1,2\n"),
        "blank lines": (b"a,b\n", lambda n: b"\n"),
        "JSON objects under the wrong name": (b"", lambda n: b'{"a": 1}\n'),
    }
    for what, (head, line) in of_lines.items():
        write = _each_another if "each another" in what else _lines
        yield "a.csv", f"{size / 1e6:g} MB of {what}", partial(write, head=head, line=line, size=size)
    ends = {
        "a text": b"x" + digits[0][1:],
        "an open quote": b'"' + digits[0] * (size // 100),
        "a longer row": digits[0].replace(b"\n", b",1\n"),
        "no UTF-8": b"\xff" + digits[0][1:],
    }
    for what, end in ends.items():
        made = partial(_lines, head=_header(10), line=lambda n: digits[n % 3], size=size, end=end)
        yield "a.csv", f"{size / 1e6:g} MB of digits, then {what}", made
    yield (
        "a.csv.gz",
        "digits that unpack to 30 times as much",
        partial(_gzipped, block=b"".join(numbers), times=30 * size),
    )
    yield "a.csv.gz", "10 GB of one line", partial(_gzip_bomb, head=b"a,b\n", block=b"1,2\n", size=100 * size)
    yield "a.csv", f"{size / 1e6:g} MB in UTF-16", partial(_utf16, size=size)


def _utf16(path: Path, size: int) -> None:
    with path.open("w", encoding="utf-16") as file:
        for _ in range(size // 2_000_000):
            file.write("1,word,3.25\n" * (1_000_000 // 12))


def _gzipped(path: Path, block: bytes, times: int) -> None:
    """The same members one after another, as gzip allows."""
    member = gzip.compress(block * 20, 6, mtime=0)
    head = gzip.compress(_header(10), mtime=0)
    with path.open("wb") as file:
        file.write(head)
        for _ in range(times // (20 * len(block)) + 1):
            file.write(member)


def _gzip_bomb(path: Path, head: bytes, block: bytes, size: int) -> None:
    many = block * (10_000_000 // len(block))
    member = gzip.compress(many, 9, mtime=0)
    with path.open("wb") as file:
        file.write(gzip.compress(head, mtime=0))
        for _ in range(size // len(many)):
            file.write(member)


def json_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    of_lines: dict[str, Callable[[int], bytes]] = {
        "numbers": lambda n: b'{"a": %d, "b": 2.5}\n' % n,
        "texts, each another": lambda n: b'{"a": "t%x", "b": "u%x"}\n' % (n, n),
        "lists": lambda n: b'{"a": 1, "b": [%s1]}\n' % (b"1," * 1000),
        "objects in objects": lambda n: b'{"a": 1, "b": {"c": {"d": [{}, {}, {"e": [[], []]}]}}}\n',
        "null": lambda n: b'{"a": null}\n',
        "keys, each another": lambda n: b'{"k%d": 1}\n' % n,
        "90,000 keys": lambda n: b"{" + b",".join(b'"k%d":1' % place for place in range(90_000)) + b"}\n",
    }
    for what, line in of_lines.items():
        write = _each_another if "each another" in what else _lines
        yield "a.jsonl", f"{size / 1e6:g} MB of {what}", partial(write, head=b"", line=line, size=size)
    yield "a.jsonl", f"one line of {size / 1e6:g} MB", partial(_one_line, begin=b'{"a": [', cell=b"1,", size=size)
    for depth in (900, 100_000):
        nested = b'{"a": ' + b"[" * depth + b"]" * depth + b"}\n"
        yield "a.jsonl", f"{depth:,} lists in one another", partial(_written, content=nested * 3)
        nested = b'{"a":' * depth + b"1" + b"}" * depth + b"\n"
        yield "a.jsonl", f"{depth:,} objects in one another", partial(_written, content=nested * 3)


def _one_line(path: Path, begin: bytes, cell: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n' + begin)
        for _ in range(10):
            file.write(cell * (size // 10 // len(cell)))
        file.write(b"1]}\n")


def _written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def parquet_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    rows = size  # a hundred million at full size

    def texts(length: int) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(["x" * length]))

    def lists() -> pa.Array:
        return pa.ListArray.from_arrays(pa.array([0, ROWS], pa.int32()), pa.array(np.zeros(ROWS)))

    def beside(column: pa.Array) -> pa.Table:
        return pa.table({"a": pa.chunked_array([column] * 10), "b": np.arange(10.0)})

    def named(name: str, length: int) -> pa.Table:
        return pa.table({name: texts(length), "b": np.zeros(ROWS)})

    def different() -> pa.Table:
        return pa.table({f"c{place}": [f"{place}-{n}" for n in range(size // 5000)] for place in range(100)})

    def repeated() -> pa.Table:
        return pa.table({"a": np.zeros(ROWS), "b": np.ones(ROWS, np.int64)})

    nothing = 10 * ROWS // 100
    tables: dict[str, tuple[Callable[[], pa.Table], int, int]] = {
        "one number, many rows in one group": (repeated, rows, rows),
        "one number, many rows": (repeated, rows, ROWS),
        "one text, many rows in one group": (lambda: pa.table({"a": texts(1)}), rows, rows),
        "a long text, many rows": (lambda: named("a", size // 10), 4 * ROWS, ROWS),
        "a long text for a label": (lambda: named("label", size // 10), ROWS, ROWS),
        "lists of many numbers": (lambda: beside(lists()), rows // ROWS, rows),
        "objects of lists of many numbers": (
            lambda: beside(pa.StructArray.from_arrays([lists(), lists()], ["p", "q"])),
            rows // ROWS,
            rows,
        ),
        "100 columns of nothing": (
            lambda: pa.table({f"c{place}": pa.nulls(nothing, pa.float64()) for place in range(100)}),
            100 * nothing,
            nothing,
        ),
        "100 columns of texts, each another": (different, 1, rows),
    }
    for what, (build, count, at_once) in tables.items():
        yield "a.parquet", what, partial(_groups, build=build, rows=count, at_once=at_once)
    for codec in ("gzip", "zstd", "brotli", "snappy", "lz4"):
        options = {"use_dictionary": False, "compression": codec, "data_page_size": 1 << 30}
        made = partial(_groups, build=lambda: pa.table({"a": np.zeros(ROWS)}), rows=rows, at_once=rows, **options)
        yield "a.parquet", f"one page of zeros by {codec}", made


def _groups(path: Path, build: Callable[[], pa.Table], rows: int, at_once: int, **options: Any) -> None:
    """A table again and again, in row groups of at most so many rows."""
    table = build()
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        written = 0
        while written < rows:
            times = max(1, min(at_once, rows - written) // len(table))
            writer.write_table(pa.concat_tables([table] * times), row_group_size=at_once)
            written += times * len(table)


def feather_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    few = np.zeros(ROWS, np.int8)
    tables: dict[str, Callable[[], pa.Table]] = {
        "zeros": lambda: pa.table({"a": np.zeros(ROWS), "b": np.ones(ROWS)}),
        "one text": lambda: pa.table({"a": pa.DictionaryArray.from_arrays(pa.array(few), pa.array(["x"]))}),
        "nothing": lambda: pa.table({"a": pa.nulls(ROWS), "b": pa.nulls(ROWS)}),
        "runs": lambda: pa.table({"a": pa.RunEndEncodedArray.from_arrays([ROWS], [1.0])}),
        "texts": lambda: pa.table({"a": pa.array(["x" * 100] * ROWS)}),
        "views of one text": lambda: pa.table({"a": pa.array(["x" * 1000] * ROWS, pa.string_view())}),
    }
    for what, build in tables.items():
        for times in (10, 3 * size // ROWS):
            name = f"{times} million rows of {what}"
            yield "a.feather", name, partial(_batches, build=build, times=times)
    yield "a.feather", "40,000 columns", _wide


def _wide(path: Path) -> None:
    pa_feather.write_feather(pa.table({f"c{place}": [1.0] for place in range(40_000)}), path)


def _batches(path: Path, build: Callable[[], pa.Table], times: int) -> None:
    table = build()
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(times):
            writer.write_table(table)


def array_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    for kind in ("f8", "f4", "f2", "u1", "i8", "?"):
        rows = 9 * size // np.dtype(kind).itemsize // 10
        yield "a.npy", f"{9 * size / 1e9:g} GB of {kind}", partial(_npy, shape=(rows, 10), kind=kind)
        yield "a.npz", f"{9 * size / 1e9:g} GB of {kind}", partial(_npz, shape=(rows, 10), kind=kind)
    yield (
        "a.npy",
        "pictures of 20 million pixels",
        partial(_npy, shape=(max(3, size // 5_000_000), 3, 4000, 5000), kind="u1"),
    )
    yield "a.npz", "one row that is large", partial(_npz, shape=(1, size // 8), kind="f8")
    yield "a.npz", "a million columns", partial(_npz, shape=(20, 1_000_000), kind="f4")
    for shape in ((10**15, 3), (3, 10**15), (10**8, 10**6), (10**7, 10**7), (2**62, 2**62)):
        yield "a.npz", f"a sparse matrix of shape {shape}", partial(_sparse_npz, shape=shape)
    yield "a-ubyte", f"{9 * size / 1e9:g} GB of floats", partial(_idx, kind=0x0E, of=9 * size // 8, made=gzip.open)
    yield "train-images-idx3-ubyte", "labels of many GB beside it", _idx_labels
    yield "a-ubyte.gz", "a header of 60 GB", partial(_idx, kind=0x08, of=60_000_000_000, there=size, made=gzip.open)


def _npy(path: Path, shape: tuple[int, ...], kind: str) -> None:
    """An array of numbers that repeat."""
    with path.open("wb") as file:
        _write_array(file, shape, kind)


def _write_array(file: io.IOBase, shape: tuple[int, ...], kind: str) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    block = (np.random.default_rng(0).random(1 << 17) * 50).astype(kind).tobytes()
    left = int(np.prod(shape)) * np.dtype(kind).itemsize
    while left > 0:
        file.write(block[:left])
        left -= len(block)


def _npz(path: Path, shape: tuple[int, ...], kind: str) -> None:
    import zipfile

    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("X.npy", "w", force_zip64=True) as file,
    ):
        _write_array(file, shape, kind)  # pyright: ignore[reportArgumentType]


def _sparse_npz(path: Path, shape: tuple[int, int]) -> None:
    np.savez(
        path,
        format=np.array("coo"),
        shape=np.array(shape),
        data=np.ones(5),
        row=np.arange(5),
        col=np.arange(5),
    )


def _idx(path: Path, kind: int, of: int, made: Callable, there: int | None = None) -> None:
    columns = 10 if of // 10 < 1 << 32 else 1000  # sizes have 32 bits
    sizes = (of // columns, columns)
    with made(path, "wb") as file:
        file.write(bytes([0, 0, kind, 2]) + struct.pack(">2I", *sizes))
        left = there or of * (8 if kind == 0x0E else 1)
        while left > 0:
            file.write(bytes(min(left, 1 << 22)))
            left -= 1 << 22


def _idx_labels(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 4, 4) + bytes(range(20)) * 16)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    labels = path.with_name("train-labels-idx1-ubyte")
    with labels.open("wb") as file:
        file.write(packer.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 3_000_000_000)))
        noise = np.random.default_rng(0).integers(0, 4, 20_000, dtype=np.uint8).tobytes() + bytes(980_000)
        for _ in range(3000):
            file.write(packer.compress(noise))
        file.write(packer.flush())


def h5ad_files(size: int) -> Iterator[tuple[str, str, Maker]]:
    yield "a.h5ad", "one chunk of many GB", partial(_h5ad, shape=(size // 100, 1000), chunks=(size // 100, 1000))
    yield "a.h5ad", "zeros that are not there", partial(_h5ad, shape=(10**7, 10**5), chunks=(1000, 1000), empty=True)
    yield "a.h5ad", "chunks across all rows", partial(_h5ad, shape=(size // 10_000, 1000), chunks=(size // 10_000, 1))
    yield "a.h5ad", "a sparse matrix of zeros", partial(_sparse_h5ad, stored=5 * size)
    yield "a.h5ad", "names that are one chunk", partial(_names_h5ad, size=size)


def _h5ad(path: Path, shape: tuple[int, int], chunks: tuple[int, int], empty: bool = False) -> None:
    import h5py  # pyright: ignore[reportMissingImports]

    with h5py.File(path, "w") as file:
        x = file.create_dataset("X", shape, "f8", chunks=chunks, compression="gzip")
        if not empty:
            x[:, :1] = 1.0
        _var(file, shape[1])


def _var(file: Any, width: int) -> None:
    var = file.create_group("var")
    var.attrs["_index"] = "_index"
    var.create_dataset("_index", data=np.array([f"g{place}" for place in range(width)], "S8"))


def _sparse_h5ad(path: Path, stored: int) -> None:
    import h5py  # pyright: ignore[reportMissingImports]

    with h5py.File(path, "w") as file:
        x = file.create_group("X")
        x.attrs["encoding-type"], x.attrs["shape"] = "csr_matrix", np.array([100, stored // 100 + 1])
        for name, kind in (("data", "f8"), ("indices", "i8")):
            x.create_dataset(name, (stored,), kind, chunks=(min(stored, 10_000_000),), compression="gzip", fillvalue=1)
        x.create_dataset("indptr", data=np.linspace(0, stored, 101).astype(np.int64))
        _var(file, 10)


def _names_h5ad(path: Path, size: int) -> None:
    import h5py  # pyright: ignore[reportMissingImports]

    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.ones((20, 10)))
        var = file.create_group("var")
        var.attrs["_index"] = "_index"
        var.create_dataset("_index", (10,), f"S{size}", chunks=(1,), compression="gzip")


def picture_files() -> Iterator[tuple[str, Maker]]:
    yield "PNG of 50 million pixels", partial(_pictures, kind="png", mode="RGB", side=7070)
    yield "PNG of 50 million pixels, transparent", partial(_pictures, kind="png", mode="RGBA", side=7070)
    yield "PNG of 50 million pixels, of 16 bits", partial(_pictures, kind="png", mode="I;16", side=7070)
    yield "PNG of 400 million pixels", partial(_pictures, kind="png", mode="1", side=20_000)
    yield "JPEG of 50 million pixels", partial(_pictures, kind="jpg", mode="RGB", side=7070)
    yield "TIFF of 50 million pixels", partial(_pictures, kind="tif", mode="RGB", side=7070, compression="tiff_deflate")
    yield "TIFF of 50 million floats", partial(_pictures, kind="tif", mode="F", side=7070, compression="tiff_deflate")
    yield "WebP of 50 million pixels", partial(_pictures, kind="webp", mode="RGB", side=7070)
    yield "GIF of 50 million pixels", partial(_pictures, kind="gif", mode="P", side=7070)
    yield "an icon that holds a PNG of 400 million pixels", _icon
    yield "PNG whose text unpacks to much", partial(_png_text, size=1_000_000_000)


def _pictures(folder: Path, kind: str, mode: str, side: int, **options: Any) -> None:
    side = min(side, 20_000)
    image = Image.new(mode, (side, side))
    image.save(folder / f"0.{kind}", **options)
    for place in range(1, 4):
        (folder / f"{place}.{kind}").write_bytes((folder / f"0.{kind}").read_bytes())


def _icon(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    content = buffer.getvalue()
    head = struct.pack("<3H4B2H2I", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(content), 22)
    for place in range(4):
        (folder / f"{place}.ico").write_bytes(head + content)


def _png_text(folder: Path, size: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    whole = buffer.getvalue()
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(10_000_000)) for _ in range(size // 10_000_000)) + packer.flush()
    for kind, head in {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}.items():
        body = kind + head + packed
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        (folder / f"{kind.decode()}.png").write_bytes(whole[:33] + chunk + whole[33:])


def sound_files(size: int) -> Iterator[tuple[str, Maker]]:
    for kind, subtype in (("flac", None), ("ogg", None), ("wav", "PCM_16"), ("wav", "FLOAT")):
        yield f"{kind} {subtype or ''} of silence", partial(_sounds, kind=kind, subtype=subtype, samples=size // 2)
        yield f"{kind} {subtype or ''} of more silence", partial(_sounds, kind=kind, subtype=subtype, samples=2 * size)
    yield "wav of 20 channels", partial(_sounds, kind="wav", subtype="PCM_16", samples=size // 40, channels=20)
    yield "odd rates", _odd_rates


def _sounds(folder: Path, kind: str, subtype: str | None, samples: int, channels: int = 1) -> None:
    import soundfile  # pyright: ignore[reportMissingImports]

    path = folder / f"0.{kind}"
    with soundfile.SoundFile(path, "w", 48_000, channels, subtype) as file:
        block = np.zeros((1 << 18, channels), np.float32)
        while samples > 0:
            file.write(block[:samples])
            samples -= len(block)
    for place in range(1, 4):
        (folder / f"{place}.{kind}").write_bytes(path.read_bytes())


def _odd_rates(folder: Path) -> None:
    import soundfile  # pyright: ignore[reportMissingImports]

    for place, rate in enumerate((767_999, 1_009, 767_989, 1_013)):
        soundfile.write(folder / f"{place}.wav", np.zeros(20 * rate, np.float32), rate, subtype="PCM_16")
