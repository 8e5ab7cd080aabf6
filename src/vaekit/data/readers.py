"""From a path to arrays. A file is known by its content; a name that says otherwise is an error."""

import gzip
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from vaekit.data.arrays import DAMAGED, read_npy, read_npz
from vaekit.data.bounds import size_of
from vaekit.data.idx import is_idx, read_idx
from vaekit.data.raw import Raw
from vaekit.errors import DataError

NPY = "NumPy array (.npy)"
NPZ = "NumPy archive (.npz)"
CSV = "CSV file (.csv)"
PARQUET = "Parquet file (.parquet)"
IDX = "IDX file (-ubyte or -ubyte.gz)"
PARTS = "folder of Parquet files"
PICTURES = "folder of pictures"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")  # of pictures
READABLE = (NPY, NPZ, CSV, PARQUET, IDX, PARTS, PICTURES)

_BY_SUFFIX = {".npy": NPY, ".npz": NPZ, ".csv": CSV, ".tsv": CSV, ".parquet": PARQUET, ".gz": IDX, ".idx": IDX}
_SIGNATURES = {
    b"\x93NUMPY": NPY,
    b"PAR1": PARQUET,
    b"ARROW1": "Arrow file",
    b"\x89HDF": "HDF5 file",
    b"\x89PNG": "PNG picture",
    b"\xff\xd8\xff": "JPEG picture",
    b"GIF8": "GIF picture",
    b"RIFF": "WAV sound or WebP picture",
    b"%PDF": "PDF document",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"\x80\x02": "Python pickle",
    b"\x80\x03": "Python pickle",
    b"\x80\x04": "Python pickle",
    b"\x80\x05": "Python pickle",
}


def read(path: Path, label: str | None = None, drop: Sequence[str] = ()) -> Raw:
    """The arrays of a .npy, .npz, .csv or IDX file.

    Args:
        path: of the file.
        label: as in `DataSpec`.
        drop: as in `DataSpec`.

    Raises:
        DataError: the file is not there, of another type than its name says, of a type that is not read, empty,
            truncated, or damaged.
    """
    try:
        kind = kind_of(path)
        if kind == NPY:
            return read_npy(path)
        if kind == NPZ:
            return read_npz(path, label)
        if kind == CSV:
            from vaekit.data.table import read_csv  # pyarrow takes a while to import

            return read_csv(path, label, drop)
        return _read_idx_with_labels(path)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None


def kind_of(path: Path) -> str:
    """Which of READABLE is at `path`, by its content; DataError where that is none, or is not what its name says."""
    if path.is_dir():
        return _kind_of_folder(path)
    size = size_of(path)
    named = IDX if path.name.endswith("-ubyte") else _BY_SUFFIX.get(path.suffix.lower())
    if size == 0:
        raise DataError(f"{path} is empty (0 bytes); expected {_article(named or _readable())}.")
    found = _kind_of_content(path)
    if named is not None and found != named:
        fix = "rename it" if found in READABLE else f"give a file of a type that is read: {_readable()}"
        raise DataError(f"{path} is not {_article(named)} but {_article(found)}: {fix}.")
    if found not in READABLE:
        raise DataError(f"{path} is {_article(found)}, which this version does not read: give {_readable()}.")
    return found


def _kind_of_folder(path: Path) -> str:
    files = [file for file in path.iterdir() if not file.name.startswith(".")]
    if any(file.suffix.lower() == ".parquet" for file in files):
        return PARTS
    inner = (part for folder in files if folder.is_dir() for part in folder.iterdir())
    if any(file.suffix.lower() in SUFFIXES for file in (*files, *inner)):
        return PICTURES
    raise DataError(
        f"{path} is a folder without .parquet files or pictures ({', '.join(SUFFIXES)}), in it or in its subfolders: "
        f"give one that holds some, or a file."
    )


def _kind_of_content(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature) or signature.startswith(head):
            return kind
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.startswith(b"\x1f\x8b"):
        return _kind_of_gzip(path)
    if is_idx(head):
        return IDX
    if any(byte < 9 or 13 < byte < 27 for byte in head):
        return f"file of unknown type (it begins with the bytes {head[:8].hex(' ')})"
    return CSV


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return NPZ if any(name.endswith(".npy") for name in archive.namelist()) else "zip archive"
    except DAMAGED:
        return NPZ  # the reader says what is wrong with it


def _kind_of_gzip(path: Path) -> str:
    try:
        with gzip.open(path) as file:
            return IDX if is_idx(file.read(4)) else "gzip file of something else"
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return IDX  # the reader says what is wrong with it


def _read_idx_with_labels(path: Path) -> Raw:
    """Images, and the labels in the file that MNIST's naming puts beside them."""
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = read_idx(beside) if beside != path and os.path.lexists(beside) else None
    return Raw(read_idx(path), labels)


def _article(kind: str) -> str:
    if kind.startswith("text"):
        return kind
    return f"an {kind}" if kind.startswith(("IDX", "Arrow", "HDF5")) else f"a {kind}"


def _readable() -> str:
    return ", ".join(READABLE[:-1]) + f" or {READABLE[-1]}"
