"""Small data in files, and so little memory that they are streamed."""

from pathlib import Path

import numpy as np
import torch

from vaekit.data import Limit

N = 700
SMALL = Limit(data_gb=1e-4)  # a quarter of which is 25 kB: a window of 12.5 kB, chunks of 781 bytes


def npy(folder: Path, array: np.ndarray) -> str:
    np.save(folder / "a.npy", array)
    return str(folder / "a.npy")


def epoch(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
