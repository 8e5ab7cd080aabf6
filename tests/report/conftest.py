"""Small runs, trained once for all tests of reports."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vaekit.runs import TrainingRun, fit, make_run, override, preset, run

SMALL = [
    "train.epochs=2",
    "train.batch_size=100",
    "train.device=cpu",
    "limit.train=200",
    "limit.valid=30",
    "model.encoder.widths=[16]",
    "model.decoder.widths=[16]",
]


@pytest.fixture(scope="session")
def train_small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a small run on digits, with settings of one's own; returns its folder."""

    def trained(name: str, *settings: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        tree = override(preset("digits"), [f"name={name}", *SMALL, *settings])
        for _ in TrainingRun.start(make_run({**tree, "run_dir": str(folder)})).events():
            pass
        return folder

    return trained


@pytest.fixture(scope="session")
def train_convolved() -> Callable[..., Path]:
    """Train tiny convolutions for one epoch on a file or a folder; returns the run's folder beside it."""

    def trained(source: Path, *settings: str) -> Path:
        network = "{kind: conv, channels: [4], hidden: 8}"
        words = [str(source), "epochs=1", f"encoder={network}", f"decoder={network}", *settings]
        fit(run(*words, run_dir=source.parent / "run"), progress=False)
        return source.parent / "run"

    return trained


@pytest.fixture(scope="session")
def digits(train_small: Callable[..., Path]) -> Path:
    return train_small("digits")


@pytest.fixture(scope="session")
def plane(train_small: Callable[..., Path]) -> Path:
    """A run whose latent space is a plane."""
    return train_small("plane", "model.latent=2", "about='On a plane.'")


@pytest.fixture(scope="session")
def soft(train_small: Callable[..., Path]) -> Path:
    """A run that has no likelihood."""
    return train_small("soft", "model.likelihood=soft_bernoulli")


@pytest.fixture(scope="session")
def soft_detached(train_small: Callable[..., Path]) -> Path:
    return train_small("soft-detached", "model.likelihood=soft_bernoulli", "objective.gradient=detached")


@pytest.fixture(scope="session")
def evil() -> str:
    """A name that is markup."""
    return "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def table_file(evil: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose labels have names that are HTML, formulas, or in want of glyphs."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 300)
    x = rng.normal(size=(300, 3)) + kind[:, None]
    path = tmp_path_factory.mktemp("data") / "table.npz"
    np.savez(path, x=x.astype(np.float32), label=np.array([evil, r"$\frac", "_hidden", "数字"])[kind])
    return path


@pytest.fixture(scope="session")
def table(train_small: Callable[..., Path], table_file: Path, evil: str) -> Path:
    return train_small("table", f"data.source={table_file}", "model.latent=3", f"about='{evil} & more'")
