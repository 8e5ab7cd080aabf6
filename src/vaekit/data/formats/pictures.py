"""A folder of pictures: its subfolders, if it has any, are classes."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vaekit.data.columns import encode_labels
from vaekit.data.formats.folder import files_of, refused, skipped
from vaekit.data.framing import SUFFIXES, BadPicture, Facts, Frame, frame_of, is_mask, look, pixels
from vaekit.data.schema import Levels
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table, even_starts
from vaekit.errors import DataError
from vaekit.words import counted, plural


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The pictures of a folder in the order of their names, subfolder by subfolder; a chunk is a block of files.

    Each is (channels, height, width), grey if all are grey, else in colour, unless DataSpec.image_mode says; of 8 bits,
    or as many as the deepest grey one has. With DataSpec.bad_files=skip, every file is decoded once to know which to
    leave out; else a file with a good header that proves damaged later is an error when it is read.

    Raises:
        DataError: A file is no picture, has more than 50 million pixels, or another size than the first and
            DataSpec.image_size is not set, or folders are empty or nested.
    """
    if spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names a column, and the labels of {path} are its subfolders: leave it out.",
            field="DataSpec.label",
            value=spec.label,
        )
    files, folders = files_of(path, "picture")
    seen: list[tuple[Path, Facts]] = []
    bad: list[Path] = []
    for file in files:
        try:
            seen.append((file, _look(file, spec.bad_files == "skip")))
        except BadPicture as error:
            if spec.bad_files == "refuse":
                raise refused(file, error, "picture") from None
            bad.append(file)
    if not seen:
        raise DataError(f"{path}: of its {counted(len(files), 'file')}, none is a whole picture; some are needed.")
    size = spec.image_size or seen[0][1].size
    for file, facts in seen:
        if spec.image_size is None and facts.size != size:
            height, width = facts.size
            raise DataError(
                f"{file} is {height}x{width} (height x width), and {seen[0][0].name} is {size[0]}x{size[1]}; all "
                f"must have one size: resize them with DataSpec.image_size=[{size[0]}, {size[1]}]."
            )
    kept = [file for file, _ in seen]
    frame = _frame(seen, size, spec)
    starts = even_starts(len(kept), int(np.prod(frame.shape)) * frame.dtype.itemsize, sizes.chunk)
    labels, classes = None, None
    if folders and spec.label != NO_LABEL:
        labels, classes = encode_labels(np.array([file.parent.name for file in kept]), f"{path}: the label")
    notes = []
    if bad:
        notes.append(skipped(bad, files, "picture"))
    if resized := sum(facts.size != size for _, facts in seen):
        notes.append(f"{resized} of {len(kept)} pictures {frame.words}")
    deep = sum(facts.depth == 16 for _, facts in seen)
    if frame.depth == 16 and deep < len(kept):
        notes.append(
            f"{deep} of {len(kept)} pictures {plural(deep, 'has', 'have')} 16 bits, over whose 65,536 levels the "
            "others are spread"
        )
    if spec.image_mode != "auto":
        notes.append(f"pictures read {'as grey levels' if frame.grey else 'in colour'}")
    return Table(
        path.name,
        starts,
        frame.shape,
        frame.dtype,
        partial(_read, kept, starts, frame),
        labels=labels,
        classes=classes,
        stored=Levels(1 << 16) if frame.depth == 16 else None,
        note="; ".join(notes),
    )


def _frame(seen: list[tuple[Path, Facts]], size: tuple[int, int], spec: DataSpec) -> Frame:
    """The shape and type of all pictures; of masks that are declared to be binary, black is 0 and white 1."""
    try:
        frame = frame_of((facts for _, facts in seen), size, spec.image_fit, spec.image_mode)
    except BadPicture as error:
        raise DataError(f"{seen[0][0].parent} {error}.") from None
    if spec.support != "binary" or not frame.grey:
        return frame
    try:
        grey = next((file for file, _ in seen if not is_mask(file)), None)
    except BadPicture as error:
        raise DataError(f"{seen[0][0].parent} holds a file that {error}.") from None
    if grey is not None:
        raise DataError(
            f"{grey} is not black and white, as DataSpec.support=binary says: leave that out, or cut grey levels with "
            "DataSpec.binarise=threshold.",
            field="DataSpec.support",
            value=spec.support,
        )
    return replace(frame, depth=1)


def _look(file: Path, decode: bool) -> Facts:
    if file.suffix.lower() not in SUFFIXES:
        raise BadPicture(f"is not called a picture ({', '.join(SUFFIXES)})")
    facts = look(file)
    if decode:
        pixels(file, Frame(facts.size, facts.grey, facts.depth if facts.grey else 8))
    return facts


def _read(files: list[Path], starts: np.ndarray, frame: Frame, k: int) -> np.ndarray:
    part = files[starts[k] : starts[k + 1]]
    values = np.empty((len(part), *frame.shape), frame.dtype)
    for row, file in enumerate(part):
        try:
            values[row] = pixels(file, frame)
        except BadPicture as error:
            raise refused(file, error, "picture") from None
    return values
