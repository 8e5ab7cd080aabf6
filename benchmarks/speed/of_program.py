"""The tutorial's program as it stands; as a script its whole run: 500 images, 100 for validation, so many epochs.

python -m speed.of_program EPOCHS
"""

import sys
import time
from functools import cache

import torch
from torch import Tensor

import tutorial_program
from speed.common import noise, unit
from speed.nets import fill


def loss(net: str, batch: int) -> dict[str, float]:
    model = tutorial_program.Vae()
    fill(net, (model.encoder, model.decoder), model.decoder.fc3.bias)
    return {"sampled": -model.elbo(torch.from_numpy(unit(batch)), torch.from_numpy(noise(batch))).mean().item()}


@cache
def _pixels() -> Tensor:
    return torch.from_numpy(unit())


def train(net: str, batch: int, steps: int) -> float:
    """Seconds for one epoch of so many steps, and the validation of an image."""
    x = _pixels()
    began = time.perf_counter()
    _, history = tutorial_program.run(x[: steps * batch], x[:1], 0, epochs=1, batch_size=batch)
    if history.failure:
        raise RuntimeError(f"the tutorial's program failed at {history.failure}")
    return time.perf_counter() - began


if __name__ == "__main__":
    train_images, valid_images = torch.from_numpy(unit(500)), torch.from_numpy(unit(100, "t10k"))
    tutorial_program.run(train_images, valid_images, 0, epochs=int(sys.argv[1]))
