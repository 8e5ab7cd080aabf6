import numpy as np
import pytest

from vaekit.data import Dataset, DataSpec, Limit, prepare


@pytest.fixture
def make(tmp_path):
    """Prepares an array (a .npy file), or several by name (.npz)."""

    def make(array, limit: Limit | None = None, discrete: bool = True, **settings) -> Dataset:
        if not isinstance(array, dict) and array.ndim == 3:
            settings = {"layout": "image", **settings}
        path = tmp_path / ("a.npz" if isinstance(array, dict) else "a.npy")
        with path.open("wb") as file:
            np.savez(file, **array) if isinstance(array, dict) else np.save(file, array)
        return prepare(DataSpec(source=str(path), **settings), limit or Limit(), discrete=discrete)

    return make
