"""From a name or a path to a `Source`."""

import os
from pathlib import Path

import numpy as np

from vaekit.data.named import NAMED
from vaekit.data.raw import Raw, check_drop, check_left, encode_labels, nearest, to_rows
from vaekit.data.readers import read
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.errors import ConfigError, DataError


def load_source(spec: DataSpec) -> Source:
    """The data set that `spec.source` names, read whole.

    Raises ConfigError where no source, or a setting that is not for it, is given, and DataError where the data
    cannot be found or read.
    """
    if not spec.source:
        raise ConfigError(
            f"data.source is not set; it is the name of a data set ({', '.join(NAMED)}) or the path of a file."
        )
    if spec.source in NAMED:
        for setting, value in {"label": spec.label, "drop": list(spec.drop)}.items():
            if value:
                raise ConfigError(
                    f"data.{setting}={value} is for files; {spec.source} comes with its labels and no columns: "
                    f"leave data.{setting} out."
                )
        return NAMED[spec.source].load()
    place = os.path.expanduser(spec.source)
    if not os.path.exists(place):
        raise DataError(
            f"no data is named {spec.source[:200]!r}{nearest(spec.source.lower(), NAMED)}, and no file is there; "
            f"names are {', '.join(NAMED)}, and a path must exist."
        )
    return _from_file(Path(place), spec)


def _from_file(path: Path, spec: DataSpec) -> Source:
    raw = read(path, spec.label, spec.drop)
    values = to_rows(raw.values, f"{path}: the data")
    test_rows = 0
    if raw.test_values is not None:
        test = to_rows(raw.test_values, f"{path}: the test set")
        if test.shape[1:] != values.shape[1:]:
            raise DataError(
                f"{path}: a row of the test set has shape {test.shape[1:]}, one of the training set "
                f"{values.shape[1:]}; they must be the same."
            )
        values, test_rows = np.concatenate([values, test]), len(test)
    columns = raw.columns
    if columns is None and values.ndim == 2:
        values, columns = _number_columns(values, path, spec)
    if columns is None and spec.drop:
        raise ConfigError(f"data.drop={list(spec.drop)} is for tables, and {path} holds images: leave it out.")
    labels, classes = _labels(raw, path, spec)
    return Source(path.name, values, labels, test_rows, columns, classes)


def _number_columns(values: np.ndarray, path: Path, spec: DataSpec) -> tuple[np.ndarray, tuple[str, ...]]:
    """Columns without names are named by their numbers, before any is dropped."""
    columns = [f"column {place}" for place in range(values.shape[1])]
    check_drop(spec.drop, columns, str(path))
    kept = [place for place, name in enumerate(columns) if name not in spec.drop]
    check_left(kept, str(path))
    if len(kept) < len(columns):
        values = np.ascontiguousarray(values[:, kept])
    return values, tuple(columns[place] for place in kept)


def _labels(raw: Raw, path: Path, spec: DataSpec) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    if raw.labels is None:
        if spec.label is not None:
            raise DataError(
                f"data.label={spec.label} names labels, and {path} holds only one array: leave data.label out, "
                "or save data and labels together with numpy.savez(file, X=..., y=...)."
            )
        return None, None
    pairs = [(raw.values, raw.labels, "labels"), (raw.test_values, raw.test_labels, "labels of the test set")]
    pairs = [(values, labels, what) for values, labels, what in pairs if values is not None]
    for values, labels, what in pairs:
        if labels is None or labels.shape != values.shape[:1]:
            found = "are missing" if labels is None else f"have shape {labels.shape}"
            raise DataError(
                f"{path}: the {what} {found}, and there are {len(values)} rows; one label per row is needed "
                "(X and y, X_test and y_test)."
            )
    every = np.concatenate([labels for _, labels, _ in pairs if labels is not None])
    return encode_labels(every, f"{path}: the label")
