"""Expression of genes in cells as AnnData's .h5ad, written a block of cells at a time."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.cli.console.writing import outgoing, room_for
from vaekit.errors import ConfigError
from vaekit.uses import Expression

_FRAME = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
_TEXTS = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_MAPPING = {"encoding-type": "dict", "encoding-version": "0.1.0"}


def write_h5ad(out: Path, blocks: Iterable[tuple[Expression, Mapping[str, np.ndarray]]], rows: int) -> None:
    """Write X, the means, and the layers lower and upper; obs has the label, where cells have one.

    Args:
        out: The file.
        blocks: Of cells, and their `label`, where they have one.
        rows: Of all blocks together.

    Raises:
        ConfigError: h5py is not installed, or there is no room.
        VaekitError: It cannot be written; the old file is as it was.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(f"{out} is written by h5py, which is not installed: pip install 'vaekit[cells]'") from None
    labels: list[np.ndarray] = []
    genes: tuple[str, ...] = ()
    with outgoing(out) as temporary, h5py.File(temporary.name, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            file.create_group(name).attrs.update(_MAPPING)
        layers: dict[str, Any] = {}
        start = 0
        for part, about in blocks:
            values = {"X": part.mean, "layers/lower": part.lower, "layers/upper": part.upper}
            if start == 0:
                genes = part.genes
                room_for(out, rows, 3 * 4 * len(genes))
                for name in values:
                    layers[name] = file.create_dataset(name, (rows, len(genes)), np.float32)
                    layers[name].attrs.update(_ARRAY)
            for name, some in values.items():
                layers[name][start : start + len(some)] = some
            labels += [about["label"]] if "label" in about else []
            start += len(part.mean)
        _frame(file, "var", genes)
        obs = _frame(file, "obs", tuple(map(str, range(rows))))
        if labels:
            _categorical(obs, "label", np.concatenate(labels))


def _frame(file: Any, name: str, index: tuple[str, ...]) -> Any:
    frame = file.create_group(name)
    frame.attrs.update(_FRAME)
    frame.attrs.create("column-order", [], dtype=_strings())
    frame.create_dataset("_index", data=list(index), dtype=_strings()).attrs.update(_TEXTS)
    return frame


def _categorical(frame: Any, name: str, texts: np.ndarray) -> None:
    categories, codes = np.unique(texts, return_inverse=True)
    column = frame.create_group(name)
    column.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    column.create_dataset("codes", data=codes.astype(np.int32)).attrs.update(_ARRAY)
    column.create_dataset("categories", data=categories.tolist(), dtype=_strings()).attrs.update(_TEXTS)
    frame.attrs.create("column-order", [name], dtype=_strings())


def _strings() -> Any:
    import h5py  # pyright: ignore[reportMissingImports]

    return h5py.string_dtype()
