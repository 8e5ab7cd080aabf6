import pytest

from vaekit import kernels
from vaekit.training.engine import compiling


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """Nothing measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for store in (kernels.measured, compiling.measured):
        monkeypatch.setattr(store, "facts", {})
        monkeypatch.setattr(store, "read", False)
    return tmp_path / "cache"
