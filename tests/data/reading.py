"""Small files of every kind; reading a path as a data set, and being refused it in one sentence."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vaekit.data import DataSpec, Limit, prepare
from vaekit.data.open import open_table
from vaekit.data.roles import assign_roles
from vaekit.data.table import Table
from vaekit.errors import DataError, VaekitError

TABLE = np.random.default_rng(0).normal(size=(20, 3))
IMAGES = np.random.default_rng(1).integers(0, 256, (20, 6, 5), dtype=np.uint8)
CSV = "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(10))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load(path: Path, **settings) -> Table:
    spec = DataSpec(source=str(path), **settings)
    return assign_roles(open_table(spec, Limit()), spec).table


def attempted(path: Path) -> Table | str:
    """A table, or what is said in its place."""
    try:
        return load(path)
    except DataError as error:
        return str(error)


def refused(
    path: Path,
    *parts: str,
    error: type[VaekitError] = DataError,
    check: Callable[[VaekitError], bool] | None = None,
    **settings,
) -> str:
    with pytest.raises(error, check=check) as caught:
        prepare(DataSpec(source=str(path), **settings), Limit(), by_column="never")
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert message.count("\n") == 0
    assert message.endswith(".")
    return message
