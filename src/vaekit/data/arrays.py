"""NumPy's own files. Sizes in a header are checked against the file before anything is allocated; no pickles."""

import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vaekit.data.bounds import check_shape, refuse_bomb, size_of
from vaekit.data.raw import LABEL_NAMES, Raw, are_classes, find_name, listing, nearest
from vaekit.data.spec import NO_LABEL
from vaekit.errors import DataError

# What zipfile and its decompressors raise over a damaged, encrypted or oddly packed archive.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)
VALUE_NAMES = ("X", "x", "data", "images", "X_train", "x_train")


def read_npy(path: Path) -> Raw:
    """The one array of a .npy file; raises DataError where it is damaged, or holds objects."""
    size = size_of(path)
    with path.open("rb") as file:
        return Raw(_read_array(file, size, f"{path}"))


def read_npz(path: Path, label: str | None) -> Raw:
    """The values of a .npz file, its labels and its test set, found by their names.

    Values are called X, x, data, images or X_train, or are the only array that is not labels; `_test` marks the test
    set.

    Args:
        path: of the file.
        label: the array that holds the labels; by default the one that is called so.

    Raises:
        DataError: the file is damaged or ambiguous.
    """
    with _open_archive(path) as archive:
        return _choose(archive, path, label)


def npz_bytes(path: Path) -> int:
    """What the arrays of a .npz file take in memory, as its directory says; raises DataError where it cannot be."""
    with _open_archive(path) as archive:
        return sum(_unpacked_bytes(path, member) for member in archive.infolist())


def npz_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays of a .npz file; raises DataError where it is damaged."""
    with _open_archive(path) as archive:
        return tuple(_members(archive, path))


def read_named(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those arrays of a .npz file that have one of these names; raises DataError where it is damaged."""
    with _open_archive(path) as archive:
        members = _members(archive, path)
        return {name: _read_member(archive, path, name, members[name]) for name in names if name in members}


def _read_member(archive: zipfile.ZipFile, path: Path, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    size = _unpacked_bytes(path, member)
    with archive.open(member) as file:
        return _read_array(file, size, f"{path}: the array {name!r}")


def _unpacked_bytes(path: Path, member: zipfile.ZipInfo) -> int:
    refuse_bomb(path, min(member.compress_size, size_of(path)), member.file_size)
    return member.file_size


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    size_of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGED as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}); expected a whole NumPy archive (.npz): save it anew."
        ) from None


def _choose(archive: zipfile.ZipFile, path: Path, label: str | None) -> Raw:
    members = _members(archive, path)

    def read(name: str) -> np.ndarray:
        return _read_member(archive, path, name, members[name])

    if label not in (None, NO_LABEL, *members):
        raise DataError(
            f"DataSpec.label names the array {label!r}, which {path} does not have{nearest(label, members)}; "
            f"its arrays are {listing(list(members))}.",
            field="DataSpec.label",
            value=label,
        )
    label_names = LABEL_NAMES + tuple(f"{name}_train" for name in LABEL_NAMES)
    labels_in = label if label not in (None, NO_LABEL) else find_name(members, label_names)
    values_in = next((name for name in VALUE_NAMES if name in members and name != labels_in), None)
    if values_in is None:
        others = [name for name in members if name != labels_in and not name.endswith("_test")]
        if len(others) != 1:
            raise DataError(
                f"{path} holds the arrays {listing(list(members)) or '(none)'}, and which one is the data is not "
                "clear: name it X, its labels y, and a test set X_test and y_test."
            )
        values_in = others[0]
    test_in = f"{values_in.removesuffix('_train')}_test"
    values, test_values = read(values_in), read(test_in) if test_in in members else None
    if labels_in is None or label == NO_LABEL:
        return Raw(values, test_values=test_values)
    labels = _flat(read(labels_in))
    if label is None and not are_classes(labels):
        return Raw(values, test_values=test_values)
    test_in = f"{labels_in.removesuffix('_train')}_test"
    return Raw(values, labels, test_values, _flat(read(test_in)) if test_in in members else None)


def _flat(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if not name or name == member.filename or "/" in name or "\\" in name or name in members:
            raise DataError(
                f"{path}: its member {member.filename!r} is not an array, or there twice; "
                "a NumPy archive as numpy.savez writes it is needed."
            )
        members[name] = member
    return members


@runtime_checkable
class _File(Protocol):
    """What a plain file and a member of an archive have in common."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


def _read_array(file: _File, size: int, what: str) -> np.ndarray:
    """The array in `file`, which is `size` bytes long."""
    read_header(file, size, what)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_header(file: _File, size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape of the array in a .npy file, whether it is in Fortran order, and dtype.

    Args:
        file: which is left where the values begin.
        size: bytes of the file.
        what: how the array is called in errors.

    Raises:
        DataError: the header is damaged, or does not fit the file.
    """
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header[version](file)
    # The header is a Python literal out of an unknown file: what a broken one raises cannot be listed.
    except Exception as error:
        raise DataError(
            f"{what} has a header that cannot be read ({type(error).__name__}); expected what numpy.save writes."
        ) from None
    if dtype.hasobject:
        raise DataError(
            f"{what} holds Python objects, which can run code when they are read, so they are not; "
            "convert with .astype(numpy.float32) before saving."
        )
    check_shape(what, shape, dtype.itemsize)
    claimed = math.prod(shape) * dtype.itemsize
    there = size - file.tell()
    if claimed != there:
        raise DataError(
            f"{what}: its header says shape {shape} of {dtype}, which is {claimed} bytes, but {there} are there: "
            "it is truncated, or its header is wrong; save it anew."
        )
    return shape, fortran, dtype
