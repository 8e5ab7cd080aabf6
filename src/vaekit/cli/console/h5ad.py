"""Numbers of cells as AnnData's .h5ad, written a block of cells at a time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.cli.console.writing import Columns, outgoing, room_for
from vaekit.errors import ConfigError

H5AD = ".h5ad"
ABOUT = ("row", "name", "label")  # what is written of a row besides its numbers
_FRAME = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
_TEXTS = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_MAPPING = {"encoding-type": "dict", "encoding-version": "0.1.0"}


def write_h5ad(out: Path, blocks: Iterable[Columns], rows: int, columns: Sequence[str], x: str) -> None:
    """Write X and layers; obs has the names of the cells, or their numbers without any, and the label if there is one.

    Args:
        out: The file.
        blocks: Of cells: numbers (cells, columns) by name, and what `ABOUT` lists.
        rows: Of all blocks together.
        columns: What var is called, such as genes.
        x: Which of the numbers is X; the others are layers.

    Raises:
        ConfigError: h5py is not installed, or there is no room.
        VaekitError: It cannot be written; the old file is as it was.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(f"{out} is written by h5py, which is not installed: pip install 'vaekit[cells]'") from None
    with outgoing(out) as temporary, h5py.File(temporary.name, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            file.create_group(name).attrs.update(_MAPPING)
        numbers: dict[str, Any] = {}
        texts: dict[str, list[np.ndarray]] = {}
        start = 0
        for block in blocks:
            values = {name: some for name, some in block.items() if name not in ABOUT}
            if start == 0:
                room_for(out, rows, 4 * len(values) * len(columns))
                for name in values:
                    place = "X" if name == x else f"layers/{name}"
                    numbers[name] = file.create_dataset(place, (rows, len(columns)), np.float32)
                    numbers[name].attrs.update(_ARRAY)
            for name, some in values.items():
                numbers[name][start : start + len(some)] = some
            for name in ABOUT:
                texts.setdefault(name, []).extend([block[name]] if name in block else [])
            start += len(block[x])
        of_cells = {name: np.concatenate(parts).astype(str).tolist() for name, parts in texts.items() if parts}
        _frame(file, "var", list(columns))
        obs = _frame(file, "obs", of_cells.get("name", of_cells["row"]))
        if "label" in of_cells:
            _categorical(obs, "label", of_cells["label"])


def _frame(file: Any, name: str, index: list[str]) -> Any:
    frame = file.create_group(name)
    frame.attrs.update(_FRAME)
    frame.attrs.create("column-order", [], dtype=_strings())
    frame.create_dataset("_index", data=index, dtype=_strings()).attrs.update(_TEXTS)
    return frame


def _categorical(frame: Any, name: str, texts: list[str]) -> None:
    categories, codes = np.unique(texts, return_inverse=True)
    column = frame.create_group(name)
    column.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    column.create_dataset("codes", data=codes.astype(np.int32)).attrs.update(_ARRAY)
    column.create_dataset("categories", data=categories.tolist(), dtype=_strings()).attrs.update(_TEXTS)
    frame.attrs.create("column-order", [name], dtype=_strings())


def _strings() -> Any:
    import h5py  # pyright: ignore[reportMissingImports]

    return h5py.string_dtype()
