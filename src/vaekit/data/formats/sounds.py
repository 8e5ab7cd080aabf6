"""A folder of recordings as log-mel features: its subfolders, or parts of the files' names, are classes."""

import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vaekit.data.columns import LABEL_NAMES, encode_labels, find_name, listing, nearest
from vaekit.data.formats.folder import files_of, refused, skipped
from vaekit.data.schema import Real
from vaekit.data.sound import LARGEST_WINDOW, SUFFIXES, BadSound, LogMel, Sound, load, look, read
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Sizes, Table, even_starts
from vaekit.errors import DataError, SpecError
from vaekit.words import counted

_WINDOW = 0.064  # seconds of a frame, about
_FRAMES = 8  # of which their number is a multiple, so that convolutions can halve it
_LONGEST = 10.0  # seconds, unless more are set
_COVERED = 0.95  # share of recordings that are not cut, unless that is set


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The recordings of a folder in the order of their names, subfolder by subfolder; a chunk is a block of files.

    Each is an image of float32 (1, bands, frames), or with DataSpec.layout=sequence (bands, frames). With
    DataSpec.bad_files=skip, every file is decoded once to know which to leave out.

    Raises:
        DataError: A file is no recording, or its name has not the parts that DataSpec.name_fields says.
        SpecError: Settings do not go together.
        ConfigError: Soundfile is needed, and not installed.
    """
    if spec.layout not in ("auto", "image", "sequence"):
        raise SpecError(
            f"DataSpec.layout={spec.layout}, and {path} holds recordings, which are images or sequences.",
            field="DataSpec.layout",
            value=spec.layout,
        )
    files, folders = files_of(path, "recording")
    seen: list[tuple[Path, int, int]] = []
    bad: list[Path] = []
    for file in files:
        try:
            seen.append((file, *_look(file, spec.bad_files == "skip")))
        except BadSound as error:
            if spec.bad_files == "refuse":
                raise refused(file, error, "recording") from None
            bad.append(file)
    if not seen:
        raise DataError(f"{path}: of its {counted(len(files), 'file')}, none is a whole recording; some are needed.")
    sound = _sound(seen, spec)
    kept = [file for file, _, _ in seen]
    shape = (sound.features.bands, sound.features.frames(sound.length))
    shape = shape if spec.layout == "sequence" else (1, *shape)
    labels, classes = _labels(path, kept, bool(folders), spec)
    return Table(
        path.name,
        even_starts(len(kept), 4 * math.prod(shape), sizes.chunk),
        shape,
        np.dtype(np.float32),
        partial(_read, kept, even_starts(len(kept), 4 * math.prod(shape), sizes.chunk), sound, shape),
        labels=labels,
        classes=classes,
        stored=Real(),
        sound=sound,
        note="; ".join([sound.words, *([skipped(bad, files, "recording")] if bad else [])]),
    )


def _look(file: Path, decode: bool) -> tuple[int, int]:
    """Samples a second, and how many samples there are."""
    if file.suffix.lower() not in SUFFIXES:
        raise BadSound(f"is not called a recording ({', '.join(SUFFIXES)})")
    rate, _, length = look(file)
    if decode:
        read(file)
    return rate, length


def _sound(seen: list[tuple[Path, int, int]], spec: DataSpec) -> Sound:
    """What the settings say, and else what most recordings are."""
    rate = spec.sound_rate or Counter(rate for _, rate, _ in seen).most_common(1)[0][0]
    seconds = spec.sound_seconds
    if seconds is None:
        seconds = min(_LONGEST, float(np.quantile([length / of_file for _, of_file, length in seen], _COVERED)))
    window = min(2 ** round(math.log2(_WINDOW * rate)), LARGEST_WINDOW)
    hop = window // 4
    frames = _FRAMES * max(1, math.ceil((round(seconds * rate) / hop + 1) / _FRAMES))
    return Sound(LogMel(rate=rate, window=window, hop=hop, bands=spec.sound_bands), (frames - 1) * hop)


def _labels(
    path: Path, files: list[Path], by_folder: bool, spec: DataSpec
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """The labels by the subfolders, or by a part of the names."""
    fields = spec.name_fields
    if not fields and spec.label not in (None, NO_LABEL):
        raise DataError(
            f"DataSpec.label={spec.label} names a part of the files' names, and DataSpec.name_fields does not say what "
            "these are: set it, or leave the label out.",
            field="DataSpec.label",
            value=spec.label,
        )
    if spec.label == NO_LABEL or not (fields or by_folder):
        return None, None
    if not fields:
        return encode_labels(np.array([file.parent.name for file in files]), f"{path}: the label")
    parts = [file.stem.split("_") for file in files]
    for file, found in zip(files, parts, strict=True):
        if len(found) != len(fields):
            raise DataError(
                f"{file} has {counted(len(found), 'part')} in its name, divided by _, and DataSpec.name_fields has "
                f"{len(fields)} ({listing(fields)}): give both as many.",
                field="DataSpec.name_fields",
                value=list(fields),
            )
    label = spec.label or find_name(fields, LABEL_NAMES)
    if label is None:
        return None, None
    if label not in fields:
        raise DataError(
            f"DataSpec.label={label} is no part of the names, which are {listing(fields)}{nearest(label, fields)}.",
            field="DataSpec.label",
            value=label,
        )
    return encode_labels(np.array([found[fields.index(label)] for found in parts]), f"{path}: the label")


def _read(files: list[Path], starts: np.ndarray, sound: Sound, shape: tuple[int, ...], chunk: int) -> np.ndarray:
    part = files[starts[chunk] : starts[chunk + 1]]
    values = np.empty((len(part), *shape), np.float32)
    for row, file in enumerate(part):
        try:
            x = load(file, sound.features.rate, sound.length)
        except BadSound as error:
            raise refused(file, error, "recording") from None
        values[row] = sound.features(torch.from_numpy(x)).numpy().reshape(shape)
    return values
