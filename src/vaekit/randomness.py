"""The one door for randomness.

A sample of any posterior is base noise (standard normal or uniform) pushed through a map that the distribution
determines. The noise comes from an explicit generator, or is handed in as tensors, so a result depends on nothing
that ran before. A distribution without a map here (a mixture, counts, heavy tails, somebody else's flow) samples by its
own code, with torch's global generator seeded from ours for that moment and put back after.
"""

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """What noise is for: part of the key of its stream. The numbers are fixed, or old runs would not replay."""

    WEIGHTS = 0
    ORDER = 1
    BINARISE = 2
    POSTERIOR = 3
    VALIDATE = 4
    EVALUATE = 5
    GENERATE = 6
    SAMPLER = 30
    FEATURES = 31


def new_generator(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of (seed, *key) alone, for instance (seed, purpose, step)."""
    # as a spawn key, not as entropy: there (1,) and (1, 0) would be one stream
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)


BLOCK = 256  # rows of a batch whose noise is drawn at once


def noise_of_rows(
    draw: Callable[[int, torch.Generator], Tensor],
    rows: slice,
    batch: int,
    key: tuple[int, ...],
    device: torch.device | str = "cpu",
    dim: int = 0,
) -> Tensor:
    """Noise for the rows `rows` of a batch, a function of the key and of their places in the batch alone.

    So a batch that is divided, among processes or to save memory, gets the noise that it would get whole.

    draw: makes noise for a number of rows, with those in dimension `dim`.
    batch: rows of the whole batch.
    key: seed, purpose and step.
    """
    parts = []
    for block in range(rows.start // BLOCK, max(rows.start // BLOCK + 1, -(-rows.stop // BLOCK))):
        first = block * BLOCK
        noise = draw(min(BLOCK, batch - first), new_generator(*key, block, device=device))
        start = max(rows.start, first) - first
        parts += [noise.narrow(dim, start, min(rows.stop - first, noise.shape[dim]) - start)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
