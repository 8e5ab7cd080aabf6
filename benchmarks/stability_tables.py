"""Tables of many kinds, each a function of its name alone: what `stability.py` trains on besides the presets."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn import datasets

Made = tuple[np.ndarray, tuple[str, ...]]  # values (rows, columns), settings that it is trained with
COUNTS = ("data.support=count",)


def tables() -> dict[str, Callable[[], Made]]:
    """30 tables by name; those of $VAEKIT_DATA only where that is set."""
    made: dict[str, Callable[[np.random.Generator], np.ndarray | Made]] = {
        "normal": lambda r: r.normal(size=(500, 6)),
        "uniform": lambda r: r.uniform(size=(500, 5)),
        "log-normal": lambda r: r.lognormal(0, 1, (500, 4)),
        "log-normal to 1e6": lambda r: r.lognormal(0, 4, (500, 4)),
        "Student t, 2 degrees": lambda r: r.standard_t(2, (500, 5)),
        "Cauchy": lambda r: r.standard_cauchy((500, 5)),
        "one far outlier": lambda r: _with(r.normal(size=(500, 4)), (250, 1), 1e8),
        "outliers in every column": lambda r: (
            r.normal(size=(500, 4)) * np.where(r.uniform(size=(500, 4)) < 0.01, 1e4, 1)
        ),
        "a constant column": lambda r: np.c_[r.normal(size=(300, 3)), np.full(300, 7.5)],
        "a near-constant column": lambda r: np.c_[r.normal(size=(300, 3)), 0.3 + 1e-15 * r.choice([-1, 0, 1], 300)],
        "almost always zero": lambda r: np.where(r.uniform(size=(500, 6)) < 0.97, 0, r.normal(size=(500, 6))),
        "scales of 1e-12": lambda r: 1e-12 * r.normal(size=(400, 4)),
        "scales of 1e12": lambda r: 1e12 * r.normal(size=(400, 4)),
        "scales of 1e-6 to 1e6": lambda r: r.normal(size=(400, 7)) * 10.0 ** np.arange(-6, 7, 2),
        "not scaled, to 1e5": lambda r: (r.normal(size=(400, 3)) * [1, 100, 1e5], ("data.scale=none",)),
        "counts, small": lambda r: (r.poisson(3, (500, 8)).astype(float), COUNTS),
        "counts, means 1 to 1e5": lambda r: (r.poisson(10.0 ** np.arange(6), (500, 6)).astype(float), COUNTS),
        "counts, Poisson, wide": lambda r: (_wide(r), (*COUNTS, "model.likelihood=poisson")),
        "binary": lambda r: (r.uniform(size=(400, 20)) < r.uniform(size=20)).astype(float),
        "mixture of 5": lambda r: 6 * r.normal(size=(5, 4))[r.integers(5, size=600)] + 0.3 * r.normal(size=(600, 4)),
        "lines, noise .05": lambda r: _lines(r, 1000, 0.05),
        "lines, noise 1e-4": lambda r: _lines(r, 1000, 1e-4),
        "30 rows, 200 columns": lambda r: r.normal(size=(30, 200)),
        "2 rows": lambda r: (r.normal(size=(4, 3)), ("limit.train=2", "limit.valid=1")),
        "5 rows": lambda r: r.normal(size=(5, 3)),
        "20 rows": lambda r: r.normal(size=(20, 3)),
        "iris": lambda r: datasets.load_iris().data,
        "wine": lambda r: datasets.load_wine().data,
        "breast cancer": lambda r: datasets.load_breast_cancer().data,
        "diabetes": lambda r: datasets.load_diabetes().data,
    }
    folder = Path(os.environ.get("VAEKIT_DATA", "")) / "anomaly"
    for path in sorted(folder.glob("*.npz")) if os.environ.get("VAEKIT_DATA") else []:
        made[path.stem] = lambda r, path=path: np.load(path)["X"][:2000].astype(float)
    return {name: lambda name=name, make=make: _whole(make(_generator(name))) for name, make in made.items()}


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _whole(made: np.ndarray | Made) -> Made:
    return made if isinstance(made, tuple) else (made, ())


def _with(values: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    values[place] = value
    return values


def _wide(r: np.random.Generator) -> np.ndarray:
    return r.poisson(r.lognormal(5, 3, (500, 4))).astype(float)


def _lines(r: np.random.Generator, rows: int, noise: float) -> np.ndarray:
    t, u = r.normal(size=(2, rows))
    return np.c_[t, 2 * t, -t, u, u + t, 3 * u] + noise * r.normal(size=(rows, 6))
