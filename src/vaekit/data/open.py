"""Whether data is read whole or streamed: decided by its size in memory, before any of it is read."""

import math
import os
from pathlib import Path

import numpy as np

from vaekit.data.arrays import npz_bytes, read_header
from vaekit.data.bounds import check_streamed, size_of
from vaekit.data.idx import idx_bytes
from vaekit.data.named import NAMED
from vaekit.data.readers import CSV, IDX, NPY, NPZ, PARQUET, PARTS, PICTURES, kind_of
from vaekit.data.source import Source
from vaekit.data.sources import check_picture_settings, load_source
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.stores import Sizes, Store, npy_store
from vaekit.errors import ConfigError, DataError

_SAMPLE = 1 << 20


def open_source(spec: DataSpec, limit: Limit) -> Source | Store:
    """The data that `spec.source` names: a source where it is read whole, a store where it is to be streamed.

    Raises:
        ConfigError: settings contradict each other or the data.
        DataError: data of a kind that cannot be streamed is larger than Limit.data_gb, or it cannot be read.
    """
    path = Path(os.path.expanduser(spec.source or ""))
    if not spec.source or spec.source in NAMED or not os.path.exists(path):
        if spec.stream == "always" and spec.source in NAMED:
            raise ConfigError(
                f"DataSpec.stream=always is for files, and {spec.source} is small: leave it out.",
                field="DataSpec.stream",
                value=spec.stream,
            )
        return load_source(spec)
    if spec.stream == "never":
        return load_source(spec)
    try:
        return _open(path, spec, limit)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None


def _open(path: Path, spec: DataSpec, limit: Limit) -> Source | Store:
    kind, sizes, most = kind_of(path), Sizes.of(limit), limit.data_gb * 1e9
    check_picture_settings(spec, path.name, kind)
    always = spec.stream == "always"
    if kind == PICTURES:
        from vaekit.data.picture_folder import picture_store  # and with it Pillow

        store = picture_store(path, spec, sizes)
        return _streamable(store, sizes) if always or len(store) * store.row_bytes > most else store.whole()
    size = _BYTES[kind](path)
    if not always and size <= most:
        return load_source(spec)
    if kind == NPY:
        return npy_store(path, spec, sizes)
    if kind in (PARQUET, PARTS):
        from vaekit.data.parquet import parquet_store  # pyarrow takes a while to import

        return _streamable(parquet_store(path, spec, sizes), sizes)
    if always:
        raise ConfigError(
            f"DataSpec.stream=always is for .npy, Parquet and folders of pictures, and {path} is none: convert it, or "
            "leave the setting out.",
            field="DataSpec.stream",
            value=spec.stream,
        )
    raise DataError(
        f"{path} would take about {size / 1e9:.3g} GB in memory, which is more than Limit.data_gb={limit.data_gb:g}, "
        "and such a file cannot be streamed: convert it to .npy or Parquet, or raise Limit.data_gb."
    )


def _streamable(store: Store, sizes: Sizes) -> Store:
    check_streamed(store.name, len(store), math.prod(store.shape), sizes.cache)
    return store


def _npy_bytes(path: Path) -> int:
    size = size_of(path)
    with path.open("rb") as file:
        shape, _, dtype = read_header(file, size, f"{path}")
    return int(np.prod(shape, dtype=object)) * min(dtype.itemsize, 8)


def _csv_bytes(path: Path) -> int:
    """Eight bytes for each cell, of which there are as many to a byte as at the beginning of the file."""
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    cells = sum(head.count(mark) for mark in (b",", b";", b"\t", b"\n"))
    return round(8 * cells / len(head) * size_of(path))


def _parquet_bytes(path: Path) -> int:
    from vaekit.data.parquet import parquet_bytes

    return parquet_bytes(path)


_BYTES = {
    NPY: _npy_bytes,
    NPZ: npz_bytes,
    CSV: _csv_bytes,
    IDX: idx_bytes,
    PARQUET: _parquet_bytes,
    PARTS: _parquet_bytes,
}
