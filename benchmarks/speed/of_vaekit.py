"""vaekit, by its own training loop and its own evaluation."""

import time
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor

from speed import common
from speed.common import LATENT, LEARNING_RATE, ROWS, SIDE, held_out, noise, unit
from speed.nets import fill
from vaekit.data import Rows
from vaekit.evaluation import evaluate, evaluating
from vaekit.models import VAE
from vaekit.runs import TrainingRun, make_run, override, preset
from vaekit.training import Event

MODELS = {
    "mlp": [],
    "conv": [f"model.{part}={{kind: conv, channels: [32, 64], hidden: 256}}" for part in ("encoder", "decoder")],
}
Settings = tuple[str, ...]


def start(net: str, batch: int, settings: Settings = (), epochs: int = 100_000) -> TrainingRun:
    """The tutorial's settings, with any of the networks, on all training images, from the common weights."""
    ours = [
        f"train.batch_size={batch}",
        f"train.epochs={epochs}",
        f"train.lr={LEARNING_RATE}",
        "train.patience=null",
        f"limit.train={ROWS}",
        f"model.latent={LATENT}",
        "objective.kl=auto",
    ]
    run = TrainingRun.start(make_run(override(preset("tutorial"), [*ours, *MODELS[net], *settings])))
    fill(net, (run.model.posterior, run.model.likelihood), run.model.likelihood.network.output_bias)
    return run


def pixels(array) -> Tensor:
    return torch.from_numpy(array).reshape(-1, 1, SIDE, SIDE)


def loss(net: str, batch: int, settings: list[str]) -> dict[str, float]:
    x, eps, found = pixels(unit(batch)), torch.from_numpy(noise(batch)), {}
    for kl in ("closed", "sampled"):
        run = start(net, batch, (f"objective.kl={kl}", *settings))
        found[kl] = -run.run.objective(run.model.draw(x, noise=[eps[None]])).value.mean().item()
    return found


class Training:
    """A run at work, its time without validation, and the notices on its way."""

    def __init__(self, events: Iterator[Event]):
        self.events, self.step, self.notices = events, 0, []

    def advance(self, steps: int) -> float:
        """Seconds for so many steps."""
        seconds, goal = 0.0, self.step + steps
        began = _now()
        for event in self.events:
            if event.kind != "epoch":
                seconds += time.perf_counter() - began
            began = time.perf_counter()
            if event.kind == "notice":
                self.notices += [event.message]
            self.step = event.step
            if event.kind == "step" and event.step >= goal:
                return seconds + _now() - began
        raise RuntimeError("the run ended")


def _now() -> float:
    """Now, once whatever was given to a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@cache
def _training(net: str, batch: int, settings: Settings) -> Training:
    return Training(start(net, batch, settings).events())


def train(net: str, batch: int, steps: int, settings: list[str]) -> float:
    """Seconds for so many steps."""
    return _training(net, batch, tuple(settings)).advance(steps)


def settle(net: str, batch: int, steps: int, seconds: float, settings: list[str]) -> list[str]:
    """Train until whatever the run decides by measuring is decided; its notices."""
    training, until = _training(net, batch, tuple(settings)), time.perf_counter() + seconds
    while training.step < steps and time.perf_counter() < until:
        training.advance(10)
    return training.notices


def reach(batch: int, elbo: float, most: int, settings: list[str]) -> int:
    run = start("mlp", batch, tuple(settings), epochs=1 + most * batch // ROWS)
    training, (x, eps) = Training(run.events()), held_out()
    x, eps = pixels(x), torch.from_numpy(eps)
    return common.reach(training.advance, lambda: bound(run.model, x, eps), elbo, most)


def bound(model: VAE, x: Tensor, eps: Tensor) -> float:
    with evaluating(model):
        draw = model.draw(x, noise=[eps[None]])
        return (draw.log_px[0] - draw.latents[0].closed_kl()).mean().item()


@cache
def _model() -> VAE:
    return start("mlp", 128).model.requires_grad_(False).eval()


def iwae(images: int, samples: int, settings: list[str]) -> float:
    """Seconds for the bounds of so many images."""
    model, x = _model(), pixels(unit(images))
    began = time.perf_counter()
    evaluate(model, x, samples)
    return time.perf_counter() - began


@cache
def _rows() -> Tensor:
    return pixels(unit())


def encode(images: int, settings: list[str]) -> float:
    """Seconds for means and scales of q(z|x), as `vaekit encode` computes them."""
    from vaekit.cli.encode import codes_of  # which imports the command line

    trained, rows = SimpleNamespace(model=_model()), Rows(_rows()[:images])
    began = time.perf_counter()
    list(codes_of(trained, rows, slice(0, images), lambda done: None))
    return time.perf_counter() - began


def sample(images: int, settings: list[str]) -> float:
    """Seconds for so many means of p(x|z), z from the prior."""
    model = _model()
    began = time.perf_counter()
    model.generate(images, mean=True)
    return time.perf_counter() - began
