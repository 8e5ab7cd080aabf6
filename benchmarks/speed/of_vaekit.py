"""vaekit, by its own training loop."""

import itertools
import time

import torch

from common import ROWS, noise, images, weights
from vaekit.runs import Job, make_run, override, preset

_jobs = {}


def start(batch: int, settings: tuple[str, ...] = ()) -> Job:
    """The tutorial's model on the 60,000 training images."""
    more = [
        f"train.batch_size={batch}",
        f"limit.train={ROWS}",
        "train.epochs=100000",
        "train.patience=null",
        "objective.kl=auto",
    ]
    job = Job.start(make_run(override(preset("tutorial"), [*more, *settings])))
    layers = [m for m in job.model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for layer, (w, b) in zip(layers, weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    return job


def loss(batch: int) -> dict[str, float]:
    found = {}
    for name in ("closed", "sampled"):
        job = start(batch, (f"objective.kl={name}",))
        x = torch.from_numpy(images(batch).copy()).reshape(-1, 1, 28, 28).float() / 255
        draw = job.model.draw(x, noise=[torch.from_numpy(noise(batch))[None]])
        found[name] = -job.run.objective(draw).value.mean().item()
    return found


def train(batch: int, steps: int, settings: tuple[str, ...] = ()) -> float:
    """Seconds for so many steps, validation left out."""
    key = (batch, tuple(settings))
    if key not in _jobs:
        _jobs[key] = start(batch, tuple(settings)).events()
        next(e for e in _jobs[key] if e.kind == "step")
    total = 0.0
    began = time.perf_counter()
    for event in _jobs[key]:
        if event.kind == "step":
            steps -= 1
            if steps == 0:
                return total + time.perf_counter() - began
        elif event.kind == "epoch":
            began_again = time.perf_counter()
    raise RuntimeError("training ended")
