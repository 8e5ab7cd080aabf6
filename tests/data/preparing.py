"""A table and images to prepare, and being refused them."""

from collections.abc import Callable

import numpy as np
import pytest

from vaekit.errors import VaekitError

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(50, 3)) * [1, 10, 0.1] + [0, 5, -3]
GREY = RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8)


def refused(error: type[VaekitError], *parts: str, check: Callable[[VaekitError], bool] | None = None):
    return pytest.raises(error, match="".join(f"(?=.*{part})" for part in parts), check=check)
