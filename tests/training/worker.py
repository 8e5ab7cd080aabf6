"""What one of several processes does in a test: python worker.py FOLDER TASKS, which are a mapping in YAML."""

import os
import signal
import sys
from pathlib import Path

import torch
import yaml
from runs_to_cut import make

from vaekit.processes import World
from vaekit.runs import TrainingRun
from vaekit.runs.factory import build_discriminator, build_model, initialise_from_data
from vaekit.training import State, Step, train_model
from vaekit.training.distributed import whole
from vaekit.training.updater import Updater


class Double:
    """Rows in double precision."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def order(self, generator):
        return self.rows.order(generator)

    def some(self, n):
        return self.rows.some(n)

    def noise(self, n, generator):
        return self.rows.noise(n, generator)

    def batch(self, index, generator=None, noise=None):
        return self.rows.batch(index, generator, noise).double()

    def context_of(self, index):
        context = self.rows.context_of(index)
        return None if context is None else context.double()

    def mask_of(self, index):
        return self.rows.mask_of(index)

    def weight_of(self, index):
        return self.rows.weight_of(index)


def train(training: TrainingRun, settings: dict) -> dict:
    """Train in double precision; a process may be made to die or to request a stop at a step."""
    run, data, world = training.run, training.data, World.join()
    model = build_model(run, data.schema)
    initialise_from_data(model, data, run)
    discriminator = build_discriminator(run, data.schema)
    state = State(Step(model, run.objective, len(data.train), world, discriminator).double(), run.train)
    metrics = []
    for event in train_model(state, Double(data.train), Double(data.valid), run.train, run.seed):
        if event.kind in ("epoch", "end"):
            metrics += [dict(event.metrics)]
        if event.step == settings.get("stop_at") and world.rank == world.size - 1:
            state.stop_requested = True
        if event.step == settings.get("die_at") and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"metrics": metrics, "weights": state.weights(), "step": state.at.step}


def gradient(training: TrainingRun, settings: dict) -> dict:
    """The gradient of the first step, in single precision."""
    training.state.advance(precision="fp32")
    update = Updater(training.state, training.data.train, training.run.train, training.run.seed, steps=1)
    update.add_gradients(torch.arange(training.run.train.batch_size), training.run.objective, 1)
    return {name: whole(p.grad).clone() for name, p in training.state.step.model.named_parameters()}


def work(place: Path, task: dict) -> dict:
    settings = dict(task)
    do, kind = settings.pop("do", "train"), settings.pop("kind", "mlp")
    own = {name: settings.pop(name) for name in ("stop_at", "die_at") if name in settings}
    run = make(kind, place, **settings).model_copy(update={"run_dir": None})
    return {"train": train, "gradient": gradient}[do](TrainingRun.start(run), own)


def main() -> None:
    place, tasks = Path(sys.argv[1]), yaml.safe_load(sys.argv[2])
    found = {name: work(place, task) for name, task in tasks.items()}
    if World.join().leads:
        torch.save(found, place / "found.pt")


main()
