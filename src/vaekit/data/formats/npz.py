"""NumPy's .npz: values, their labels and their test set, found by the names of the arrays."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaekit.data.bounds import check_whole, refuse_bomb, size_of
from vaekit.data.columns import LABEL_NAMES, are_classes, encode_labels, find_name, listing, nearest
from vaekit.data.formats.damage import DAMAGED
from vaekit.data.formats.npy import read_array, table_of
from vaekit.data.layout import how_to_read
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError
from vaekit.words import counted, plural

VALUE_NAMES = ("X", "x", "data", "images", "X_train", "x_train")


@dataclass(frozen=True, eq=False)
class _Found:
    """The arrays of an archive that are data."""

    values: np.ndarray
    labels: np.ndarray | None = None
    test_values: np.ndarray | None = None
    test_labels: np.ndarray | None = None


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The values of a .npz file, its labels and its test set, found by their names.

    Values are called X, x, data, images or X_train, or are the only array that is not labels; `_test` marks the test
    set. All is read at once.

    Raises:
        DataError: The file is damaged or ambiguous, or too large to be read whole.
    """
    check_whole(path, npz_bytes(path), sizes.whole)
    with _open_archive(path) as archive:
        found = _choose(archive, path, spec.label)
    reading = how_to_read(found.values, spec.layout, f"{path}: the data")
    values, test_rows = reading.rows(found.values), 0
    if found.test_values is not None:
        test = how_to_read(found.test_values, spec.layout, f"{path}: the test set").rows(found.test_values)
        if test.shape[1:] != values.shape[1:]:
            raise DataError(
                f"{path}: a row of the test set has shape {test.shape[1:]}, one of the training set "
                f"{values.shape[1:]}; they must be the same."
            )
        values, test_rows = np.concatenate([values, test]), len(test)
    labels, classes = (None, None) if spec.label == NO_LABEL else _labels(found, path, spec)
    return table_of(path.name, values, reading, labels=labels, classes=classes, test_rows=test_rows)


def _labels(found: _Found, path: Path, spec: DataSpec) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    if found.labels is None:
        return None, None
    pairs = [(found.values, found.labels, "labels"), (found.test_values, found.test_labels, "labels of the test set")]
    pairs = [(values, labels, what) for values, labels, what in pairs if values is not None]
    for values, labels, what in pairs:
        if labels is None or labels.shape != values.shape[:1]:
            how = "are missing" if labels is None else f"have shape {labels.shape}"
            raise DataError(
                f"{path}: the {what} {how}, and there {plural(len(values), 'is', 'are')} "
                f"{counted(len(values), 'row')}; one label per row is needed (X and y, X_test and y_test)."
            )
    return encode_labels(np.concatenate([part for _, part, _ in pairs if part is not None]), f"{path}: the label")


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
        return read_array(file, size, f"{path}: the array {name!r}")


def _unpacked_bytes(path: Path, member: zipfile.ZipInfo) -> int:
    refuse_bomb(path, min(member.compress_size, size_of(path)), member.file_size)
    return member.file_size


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    size_of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}); expected a whole NumPy archive (.npz): save it anew."
        ) from None


def _choose(archive: zipfile.ZipFile, path: Path, label: str | None) -> _Found:
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
        return _Found(values, test_values=test_values)
    labels = _flat(read(labels_in))
    if label is None and not are_classes(labels):
        return _Found(values, test_values=test_values)
    test_in = f"{labels_in.removesuffix('_train')}_test"
    return _Found(values, labels, test_values, _flat(read(test_in)) if test_in in members else None)


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
