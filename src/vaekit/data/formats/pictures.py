"""A folder of pictures: its subfolders, if it has any, are classes."""

from functools import partial
from pathlib import Path

import numpy as np

from vaekit.data.columns import encode_labels
from vaekit.data.formats.picture import BadPicture, look, pixels
from vaekit.data.open import PICTURE_ENDINGS
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table, even_starts
from vaekit.errors import DataError

_LITTER = ("thumbs.db", "desktop.ini")


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The pictures of a folder in the order of their names, subfolder by subfolder; a chunk is a block of files.

    Each is uint8 (channels, height, width), grey if all are grey, else in colour. With DataSpec.bad_files=skip,
    every file is decoded once to know which to leave out; else a file with a good header that proves damaged later
    is an error when it is read.

    Raises:
        DataError: a file is no picture, has more than 50 million pixels, or another size than the first and
            DataSpec.image_size is not set, or folders are empty or nested.
    """
    if spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names a column, and the labels of {path} are its subfolders: leave it out.",
            field="DataSpec.label",
            value=spec.label,
        )
    files, folders = _list(path)
    seen: list[tuple[Path, tuple[int, int], bool]] = []
    bad: list[Path] = []
    for file in files:
        try:
            seen.append((file, *_look(file, spec.bad_files == "skip")))
        except BadPicture as error:
            if spec.bad_files == "refuse":
                raise _refused(file, error) from None
            bad.append(file)
    if not seen:
        raise DataError(f"{path}: none of its {len(files)} files is a whole picture; some are needed.")
    size = spec.image_size or seen[0][1]
    for file, other, _ in seen:
        if spec.image_size is None and other != size:
            raise DataError(
                f"{file} is {other[0]}x{other[1]} (height x width), and {seen[0][0].name} is {size[0]}x{size[1]}; all "
                f"must have one size: resize them with DataSpec.image_size=[{size[0]}, {size[1]}]."
            )
    grey = all(is_grey for *_, is_grey in seen)
    kept = [file for file, *_ in seen]
    shape = (1 if grey else 3, *size)
    starts = even_starts(len(kept), int(np.prod(shape)), sizes.chunk)
    labels, classes = None, None
    if folders and spec.label != NO_LABEL:
        labels, classes = encode_labels(np.array([file.parent.name for file in kept]), f"{path}: the label")
    note = ""
    if bad:
        names = ", ".join(file.name for file in bad[:5]) + (", ..." if len(bad) > 5 else "")
        note = f"{len(bad)} of {len(files)} files skipped as not whole pictures ({names})"
    read = partial(_read, kept, starts, grey, size)
    return Table(path.name, starts, shape, np.dtype(np.uint8), read, labels=labels, classes=classes, note=note)


def _list(path: Path) -> tuple[list[Path], list[Path]]:
    """The files in their order, and the subfolders."""
    here = _entries(path)
    folders = [entry for entry in here if entry.is_dir()]
    if not folders:
        return here, []
    if len(folders) < len(here):
        odd = next(entry for entry in here if not entry.is_dir())
        raise DataError(
            f"{path} holds both subfolders, which are classes, and files, such as {odd.name!r}, which have no class: "
            "move the files into subfolders, or elsewhere."
        )
    files = []
    for folder in folders:
        inside = _entries(folder)
        deeper = next((entry for entry in inside if entry.is_dir()), None)
        if deeper is not None:
            raise DataError(f"{folder} holds the folder {deeper.name!r}; classes hold files only: move it elsewhere.")
        if not inside:
            raise DataError(f"{folder} is a class without a picture: remove it, or put some in.")
        files += inside
    return files, folders


def _entries(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.name[0] != "." and entry.name.lower() not in _LITTER)


def _look(file: Path, decode: bool) -> tuple[tuple[int, int], bool]:
    if file.suffix.lower() not in PICTURE_ENDINGS:
        raise BadPicture(f"is not called a picture ({', '.join(PICTURE_ENDINGS)})")
    size, grey = look(file)
    if decode:
        pixels(file, grey, size)
    return size, grey


def _read(files: list[Path], starts: np.ndarray, grey: bool, size: tuple[int, int], k: int) -> np.ndarray:
    part = files[starts[k] : starts[k + 1]]
    values = np.empty((len(part), 1 if grey else 3, *size), np.uint8)
    for row, file in enumerate(part):
        try:
            values[row] = pixels(file, grey, size)
        except BadPicture as error:
            raise _refused(file, error) from None
        except ValueError:
            raise DataError(f"{file} has changed while in use: put it back as it was.") from None
    return values


def _refused(file: Path, error: BadPicture) -> DataError:
    return DataError(
        f"{file} {error}: mend or remove it, or leave out every file that is no whole picture with "
        "DataSpec.bad_files=skip."
    )
