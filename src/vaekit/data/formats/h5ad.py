"""AnnData's .h5ad: counts of genes in cells, which stay sparse, and what is known of each cell."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.bounds import MOST_TEXT_BYTES, check_whole, refuse_bomb, size_of
from vaekit.data.columns import LABEL_NAMES, encode_labels, find_name, listing, nearest
from vaekit.data.formats.sparse import check_sizes, compressed_rows
from vaekit.data.in_memory import sparse_table
from vaekit.data.roles import size_column
from vaekit.data.schema import Count, Real
from vaekit.data.spec import NO_LABEL, DataSpec
from vaekit.data.table import Column, Sizes, Table
from vaekit.errors import ConfigError, DataError
from vaekit.words import counted, plural

_LABEL_NAMES = (*LABEL_NAMES, "cell_type", "celltype", "cell type")
_TEXTS_AT_ONCE = 512
SECONDS, _BYTES_PER_SECOND = 10, 10_000_000  # of the processor, that a file may take to be looked at
_WAITED = 20  # times that, of the clock: on a machine with much else to do
_PROBE_BYTES = 1 << 30  # of memory, in that
_LARGEST_CHUNK = 1 << 28  # bytes of a part of an array that is unpacked as one
_BLOCK = 4_000_000  # bytes of a matrix that are read at once
# HDF5 hangs or crashes on some damaged files, in the attributes and texts: a process of its own reads these first.
_PROBE = f"""
import sys
import h5py
import resource
resource.setrlimit(resource.RLIMIT_DATA, ({_PROBE_BYTES}, {_PROBE_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2]) + 1))
def look(name, part):
    dict(part.attrs)
    if isinstance(part, h5py.Dataset) and part.dtype.hasobject and part.ndim == 1:
        for start in range(0, len(part), {_TEXTS_AT_ONCE}):
            part[start : start + {_TEXTS_AT_ONCE}]
with h5py.File(sys.argv[1], "r") as file:
    look("", file)
    file.visititems(look)
"""


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """The cells of a .h5ad file: a column for each gene, and for each column of `obs` that `spec` names.

    The numbers are those of the layer called counts, where there is one; else X, or raw.X where X holds no counts and
    that does. Labels are the column of `obs` that `spec.label` names; by default one that is called as labels mostly
    are, or cell_type.

    Raises:
        ConfigError: h5py is not installed.
        DataError: The file is damaged, holds no matrix or no such column, or is too large to be kept in memory.
    """
    size = size_of(path)
    with _opened(path) as file:
        source = _Source(path, size, sizes.whole)
        matrix, genes, notices = _matrix(source, file)
        known = _columns(source, file)
        label = None if spec.label == NO_LABEL else spec.label or find_name(known, _LABEL_NAMES)
        if label is not None and label not in known:
            raise DataError(
                f"DataSpec.label names {label!r}, and obs of {path} has no such column{nearest(label, known)}; its "
                f"columns are {listing(list(known)) or '(none)'}.",
                field="DataSpec.label",
                value=label,
            )
        labels, classes = None, None
        if label is not None:
            cells, categories = _cells(source, known[label], label, matrix.shape[0])
            if categories is not None:
                cells = np.array([*categories, ""], str)[np.where(np.isnan(cells), len(categories), cells).astype(int)]
            labels, classes = encode_labels(cells, f"{path}: the label")
        wanted = dict.fromkeys(
            (*spec.context, *(name for name in (size_column(spec), spec.weight) if name is not None))
        )
        extra = [name for name in wanted if name in known and name not in genes and name != label]
        context = {name: _cells(source, known[name], name, matrix.shape[0]) for name in extra}
        row_names = _names_of_cells(source, file, matrix.shape[0])
    counts = bool((matrix.data >= 0).all() and (matrix.data == np.floor(matrix.data)).all())
    table = sparse_table(
        path.name,
        _beside(matrix, [cells for cells, _ in context.values()]),
        (*genes, *context),
        labels=labels,
        classes=classes,
        row_names=row_names,
        stored=Count() if counts else Real(),
        notices=notices,
    )
    of_genes = tuple(Column(name, matrix.dtype.name, stored=matrix.dtype) for name in genes)
    of_cells = tuple(
        Column(name, "float64" if categories is None else "category", categories, table.dtype)
        for name, (_, categories) in context.items()
    )
    return replace(table, columns=(*of_genes, *of_cells))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            f"{path} is read by the package h5py, which is not installed: pip install 'vaekit[cells]'"
        ) from None
    if why := _unreadable(path):
        raise _damaged(path, why)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    # HDF5 reports what is wrong with a file in whatever error it comes upon.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, (str(error).strip().splitlines() or [type(error).__name__])[0]) from None


def _unreadable(path: Path) -> str:
    """Why HDF5 cannot read a file; empty where it can."""
    limit = math.ceil(SECONDS + size_of(path) / _BYTES_PER_SECOND)
    endless = f"HDF5 does not come to its end within {limit} seconds of the processor"
    command = [sys.executable, "-P", "-c", _PROBE, str(path), str(limit)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WAITED * limit)
    except subprocess.TimeoutExpired:
        return endless
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGXCPU:
        return endless
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "HDF5 crashes over it" if done.returncode < 0 or not said else said[-1]


def _damaged(path: Path, why: str) -> DataError:
    why = why[:200].rstrip(".")
    return DataError(f"{path} is truncated or damaged ({why}); expected a whole AnnData file (.h5ad): write it anew.")


class _Source:
    """Reads the parts of a file, after their sizes are checked.

    Args:
        path: Of the file.
        size: Bytes that it has.
        most: Bytes that its parts may take in memory.
    """

    def __init__(self, path: Path, size: int, most: float) -> None:
        self.path, self._size, self.most = path, size, most

    def part(self, group: Any, *names: str) -> Any:
        """What is at a place; None where nothing is.

        Raises:
            DataError: It lies in another file.
        """
        import h5py  # pyright: ignore[reportMissingImports]

        for name in names:
            if not isinstance(group, h5py.Group) or name not in group:
                return None
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise self.refused(f"{name!r} lies in another file, which is not followed")
            group = group[name]
        if isinstance(group, h5py.Dataset) and (group.is_virtual or group.external):
            raise self.refused(f"{names[-1]!r} lies in another file, which is not followed")
        if isinstance(group, h5py.Dataset) and (size := _chunk_bytes(group)) > _LARGEST_CHUNK:
            raise self.refused(f"{names[-1]!r} lies in chunks of {size / 1e9:.3g} GB, which are unpacked whole")
        return group

    def array(self, group: Any, *names: str) -> np.ndarray:
        """An array of numbers, whole."""
        found = self._dataset(group, *names)
        self.check(found.size * found.dtype.itemsize)
        return np.asarray(found[()])

    def texts(self, found: Any) -> tuple[str, ...]:
        """An array of texts."""
        if not found.dtype.hasobject:
            if found.size * found.dtype.itemsize > MOST_TEXT_BYTES:
                raise self.refused(f"{found.name} holds more than {MOST_TEXT_BYTES // 1_000_000} MB of text")
            return tuple(str(name) for name in np.asarray(found[()]).astype(str))
        texts: list[str] = []
        total = 0
        strings = found.asstr(errors="replace")
        for start in range(0, len(found), _TEXTS_AT_ONCE):
            texts += strings[start : start + _TEXTS_AT_ONCE].tolist()
            total += sum(map(len, texts[start:]))
            if total > MOST_TEXT_BYTES:
                raise self.refused(f"{found.name} holds more than {MOST_TEXT_BYTES // 1_000_000} MB of text")
        return tuple(texts)

    def check(self, unpacked: int) -> None:
        """Raise DataError where something takes too much memory."""
        refuse_bomb(self.path, self._size, unpacked)
        check_whole(self.path, unpacked, self.most)

    def refused(self, why: str) -> DataError:
        """An error that says why the file is not read."""
        return DataError(f"{self.path}: {why}; a file as AnnData writes it is needed.")

    def _dataset(self, group: Any, *names: str) -> Any:
        import h5py  # pyright: ignore[reportMissingImports]

        found = self.part(group, *names)
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
            raise self.refused(f"{'/'.join(names)} of {group.name} is missing, or holds no numbers")
        return found


def _chunk_bytes(found: Any) -> int:
    """What a chunk of an array takes in memory; 0 of one that has none."""
    return math.prod(found.chunks or (0,)) * found.dtype.itemsize


def _matrix(source: _Source, file: Any) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """The counts in compressed rows, the names of the genes, and what is to be said of them."""
    if (layer := source.part(file, "layers", "counts")) is not None:
        matrix = _compressed(source, layer, "layers/counts")
        return matrix, *_genes(source, file, matrix.shape[1], ("the counts are those of the layer counts",))
    if (plain := source.part(file, "X")) is None:
        raise source.refused("it holds no matrix X")
    matrix = _compressed(source, plain, "X")
    fractions = not bool((matrix.data == np.floor(matrix.data)).all())
    if fractions and (raw := source.part(file, "raw", "X")) is not None:
        matrix = _compressed(source, raw, "raw/X")
        notice = "the counts are those of raw.X, since X holds none"
        return matrix, *_genes(source, source.part(file, "raw"), matrix.shape[1], (notice,))
    return matrix, *_genes(source, file, matrix.shape[1], ())


def _compressed(source: _Source, found: Any, name: str) -> Any:
    """A matrix of the file, sparse or not, in compressed rows."""
    import h5py  # pyright: ignore[reportMissingImports]
    from scipy import sparse

    if isinstance(found, h5py.Group):
        layout = found.attrs.get("encoding-type", found.attrs.get("h5sparse_format", ""))
        layout = str(layout).removesuffix("_matrix")
        shape = np.asarray(found.attrs.get("shape", found.attrs.get("h5sparse_shape", ())))
        if layout not in ("csr", "csc") or shape.shape != (2,) or shape.dtype.kind not in "iu":
            raise source.refused(f"{name} is no matrix in the format csr or csc")
        rows, width = (int(number) for number in shape)
        places = [source.part(found, part) for part in ("data", "indices", "indptr")]
        size = sum(part.size * part.dtype.itemsize for part in places if part is not None)
        source.check(size)
        check_sizes(source.path, rows, width, 2 * size, source.most)
        arrays = (source.array(found, part) for part in ("data", "indices", "indptr"))
        return compressed_rows(source.path, layout, (rows, width), *arrays)
    if found.ndim != 2 or found.dtype.kind not in "biuf":
        raise source.refused(f"{name} is {found.dtype} of shape {found.shape}, and no matrix of numbers")
    rows, width = found.shape
    check_sizes(source.path, rows, width, 0, source.most)
    refuse_bomb(source.path, size_of(source.path), rows * width * found.dtype.itemsize)
    row_bytes = width * found.dtype.itemsize
    parts, each = [], max(1, _BLOCK // row_bytes)
    if found.chunks is not None and found.chunks[0] * row_bytes <= _LARGEST_CHUNK:  # each is then unpacked once
        each = -(-each // found.chunks[0]) * found.chunks[0]
    stored = 0
    for start in range(0, rows, each):
        parts.append(sparse.csr_array(found[start : start + each]))
        stored += parts[-1].data.nbytes + parts[-1].indices.nbytes
        check_whole(source.path, 2 * stored, source.most)
    return sparse.vstack(parts, format="csr")


def _genes(
    source: _Source, group: Any, width: int, notices: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the genes, each another; and the notices, with one more where names had to be changed."""
    var = source.part(group, "var")
    index = None if var is None else source.part(var, str(var.attrs.get("_index", "_index")))
    if index is None or len(index) != width:
        raise source.refused(f"var has {'no' if index is None else len(index)} names, and the matrix is {width} wide")
    names, seen = source.texts(index), {}
    if len(set(names)) == len(names):
        return names, notices
    taken = set(names)
    unique: list[str] = []
    for name in names:
        number = seen[name] = seen.get(name, -1) + 1
        while number and f"{name}-{number}" in taken:
            number += 1
        unique.append(f"{name}-{number}" if number else name)
        taken.add(unique[-1])
    return tuple(unique), (*notices, "genes of one name are distinguished by numbers: NAME, NAME-1, ...")


def _names_of_cells(source: _Source, file: Any, rows: int) -> np.ndarray | None:
    """What the index of `obs` calls the cells, (rows,); None where it holds no text for each."""
    obs = source.part(file, "obs")
    if obs is None or not hasattr(obs, "keys"):
        return None
    index = source.part(obs, str(obs.attrs.get("_index", "_index")))
    if index is None or not hasattr(index, "dtype") or index.shape != (rows,) or index.dtype.kind not in "OS":
        return None
    try:
        names = source.texts(index)
    except DataError:  # larger than names are
        return None
    return np.array(names, str) if rows * max(map(len, names), default=0) <= MOST_TEXT_BYTES else None


def _columns(source: _Source, file: Any) -> dict[str, Any]:
    """The columns of `obs` by name."""
    obs = source.part(file, "obs")
    if obs is None or not hasattr(obs, "keys"):
        return {}
    index = str(obs.attrs.get("_index", "_index"))
    names = [name for name in obs if name not in (index, "__categories")]
    return {name: source.part(obs, name) for name in names}


def _cells(source: _Source, found: Any, name: str, rows: int) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A column of `obs` as numbers, (rows,), NaN where one is missing; and the texts that they stand for, if any."""
    if hasattr(found, "keys"):
        codes, texts = source.array(found, "codes"), source.part(found, "categories")
    elif "categories" in found.attrs:  # as AnnData wrote them before 0.8
        codes, texts = source.array(found.parent, name), source.part(found.parent, "__categories", name)
    else:
        codes, texts = None, found
    if codes is None and texts.dtype.kind in "biuf":
        cells, categories = source.array(texts.parent, name).astype(np.float64), None
    elif codes is None:
        names = source.texts(texts)
        categories, numbers = np.unique(names, return_inverse=True)
        cells, categories = numbers.astype(np.float64), tuple(str(one) for one in categories)
    else:
        if texts is None or not hasattr(texts, "dtype"):
            raise source.refused(f"the column {name!r} of obs has no categories")
        categories = (
            tuple(f"{value}" for value in source.array(texts)) if texts.dtype.kind in "biuf" else source.texts(texts)
        )
        cells = np.where(codes < 0, np.nan, codes.astype(np.float64))
        if len(codes) and int(codes.max()) >= len(categories):
            raise source.refused(f"the column {name!r} of obs has numbers beyond its categories")
    if cells.shape != (rows,):
        raise source.refused(
            f"the column {name!r} of obs has shape {cells.shape}, and there "
            f"{plural(rows, 'is', 'are')} {counted(rows, 'cell')}"
        )
    return cells, categories


def _beside(matrix: Any, columns: list[np.ndarray]) -> Any:
    """A matrix in compressed rows with more columns after its own."""
    from scipy import sparse

    return matrix if not columns else sparse.hstack([matrix, sparse.csr_array(np.stack(columns, 1))], format="csr")
