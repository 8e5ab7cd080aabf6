"""From a name or a path to a `Source`."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from vaekit.data.named import NAMED
from vaekit.data.raw import Raw, encode_labels, name_columns, nearest, to_rows
from vaekit.data.readers import PARQUET, PARTS, PICTURES, kind_of, read
from vaekit.data.source import Source
from vaekit.data.spec import NO_LABEL, DataSpec, Limit
from vaekit.data.stores import Sizes
from vaekit.errors import ConfigError, DataError


def load_source(spec: DataSpec) -> Source:
    """The data set that `spec.source` names, read whole.

    Raises:
        ConfigError: no source, or a setting that is not for it, is given.
        DataError: the data cannot be found or read.
    """
    if not spec.source:
        raise ConfigError(
            f"DataSpec.source is not set; it is the name of a data set ({', '.join(NAMED)}) or the path of a file.",
            field="DataSpec.source",
            value=spec.source,
        )
    if spec.source in NAMED:
        check_picture_settings(spec, spec.source, "")
        for setting, value in {"label": spec.label, "drop": list(spec.drop)}.items():
            if value and value != NO_LABEL:
                raise ConfigError(
                    f"DataSpec.{setting}={value} is for files; {spec.source} comes with its labels and no columns: "
                    f"leave DataSpec.{setting} out.",
                    field=f"DataSpec.{setting}",
                    value=value,
                )
        source = NAMED[spec.source].load()
        return replace(source, labels=None, classes=None) if spec.label == NO_LABEL else source
    place = os.path.expanduser(spec.source)
    if os.path.normpath(place) == "-":
        raise DataError("DATA is -, and this reads its data more than once: write the table to a file, and name that")
    if not os.path.exists(place):
        raise DataError(
            f"no data is named {spec.source[:200]!r}{nearest(spec.source.lower(), NAMED)}, and no file is there; "
            f"names are {', '.join(NAMED)}, and a path must exist."
        )
    return _from_file(Path(place), spec)


def check_picture_settings(spec: DataSpec, name: str, kind: str) -> None:
    """Raise ConfigError where a setting for folders of pictures is given for data of another kind."""
    for setting, value in {"image_size": spec.image_size, "bad_files": spec.bad_files}.items():
        if kind != PICTURES and value not in (None, "refuse"):
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(
                f"DataSpec.{setting}={shown} is for folders of pictures, and {name} is none: "
                f"leave DataSpec.{setting} out.",
                field=f"DataSpec.{setting}",
                value=value,
            )


def _from_file(path: Path, spec: DataSpec) -> Source:
    try:
        kind = kind_of(path)
        check_picture_settings(spec, path.name, kind)
        if kind == PICTURES:
            from vaekit.data.picture_folder import picture_store  # and with it Pillow

            return picture_store(path, spec, Sizes.of(Limit())).whole()
        if kind in (PARQUET, PARTS):
            from vaekit.data.parquet import parquet_store  # pyarrow takes a while to import

            return parquet_store(path, spec).whole()
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None
    raw = read(path, spec.label, spec.drop)
    if spec.label == NO_LABEL:
        raw = replace(raw, labels=None, test_labels=None)
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
        kept, columns = name_columns(values.shape[1], spec.drop, str(path))
        values = values if len(kept) == values.shape[1] else np.ascontiguousarray(values[:, kept])
    if columns is None and spec.drop:
        raise ConfigError(
            f"DataSpec.drop={list(spec.drop)} is for tables, and {path} holds images: leave it out.",
            field="DataSpec.drop",
            value=spec.drop,
        )
    labels, classes = _labels(raw, path, spec)
    return Source(path.name, values, labels, test_rows, columns, classes)


def _labels(raw: Raw, path: Path, spec: DataSpec) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    if raw.labels is None:
        if spec.label not in (None, NO_LABEL):
            raise DataError(
                f"DataSpec.label={spec.label} names labels, and {path} holds only one array: leave DataSpec.label out, "
                "or save data and labels together with numpy.savez(file, X=..., y=...).",
                field="DataSpec.label",
                value=spec.label,
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
