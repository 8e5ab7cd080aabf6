"""Training as a generator of events: the caller loops, may stop, and needs no callbacks."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vaekit.errors import Diverged
from vaekit.evaluation import elbo_rows
from vaekit.models.noise import Purpose, new_generator
from vaekit.models.vae import Model
from vaekit.objectives import Objective
from vaekit.training.optimisers import build_optimiser
from vaekit.training.spec import Train
from vaekit.training.step import NoiseSource, Step

VALIDATION_BLOCK = 500  # rows


@runtime_checkable
class Rows(Protocol):
    """One split of a data set, on the device it is used on."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Event:
    """What happened in training.

    The metrics of an `epoch` are means over rows, in nats; those of the `end` tell the best epoch; a `step` has none.
    """

    kind: Literal["start", "step", "epoch", "end"]
    step: int
    steps: int
    epoch: int
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


@dataclass
class State:
    """Where training stands."""

    step: int = 0
    epoch: int = 0
    best_elbo: float = -math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def train_model(
    model: nn.Module, objective: Objective, train: Rows, valid: Rows, settings: Train, seed: int, state: State
) -> Iterator[Event]:
    """Train `model` in place, yielding an event at the start, after each step, each epoch, and at the end.

    All randomness is a function of (seed, purpose, step): the order of the rows, binarisation, the noise of z. The
    model is validated after each epoch on the ELBO with beta = 1, at the same noise each time. `state` is kept up to
    date for the caller to read, whenever it stops.

    Raises:
        Diverged: the loss, the validation ELBO or a weight is not finite.
    """
    device = next(model.parameters()).device
    batches = math.ceil(len(train) / settings.batch_size)
    steps = settings.epochs * batches
    step = Step(model, objective, steps, len(train)).to(device)
    optimiser = build_optimiser(settings, model.parameters())
    noise = NoiseSource(model, train.batch(slice(0, 1), new_generator(seed, device=device)), objective.samples)
    yield Event("start", 0, steps, 0, settings.epochs)
    lr, message = settings.lr, ""
    while state.epoch < settings.epochs:
        started = time.perf_counter()
        model.train()
        order = torch.randperm(len(train), generator=new_generator(seed, Purpose.ORDER, state.epoch)).to(device)
        sums: dict[str, Tensor] = {}
        for index in order.split(settings.batch_size):
            lr = settings.lr * settings.schedule.at(state.step, steps)
            for group in optimiser.param_groups:
                group["lr"] = lr
            x = train.batch(index, new_generator(seed, Purpose.BINARISE, state.step, device=device))
            step.generator = new_generator(seed, Purpose.POSTERIOR, state.step, device=device)
            eps = noise(len(x), step.generator)
            out = step(x, None, None, eps, state.step)
            parts = {name: value.detach() for name, value in out.items()}
            sums = {name: sums.get(name, 0) + part * len(x) for name, part in parts.items()}
            if not math.isfinite(float(parts["loss"])):
                _explain_divergence(step, parts, x, eps, index, state)
            optimiser.zero_grad(set_to_none=True)
            out["loss"].backward()
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimiser.step()
            state.step += 1
            yield Event("step", state.step, steps, state.epoch + 1, settings.epochs)
        state.epoch += 1
        seconds = time.perf_counter() - started
        metrics = {f"train_{name}": float(total) / len(train) for name, total in sums.items()}
        metrics |= validate(model, valid, seed)
        _check_epoch(model, metrics, state)
        metrics |= {"lr": lr, "seconds": seconds, "rows_per_second": len(train) / seconds}
        if metrics["valid_elbo"] > state.best_elbo:
            state.best_elbo, state.best_epoch = metrics["valid_elbo"], state.epoch
            state.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        yield Event("epoch", state.step, steps, state.epoch, settings.epochs, metrics)
        if settings.patience is not None and state.epoch - state.best_epoch >= settings.patience:
            message = f"stopped early: the validation ELBO has not risen for {settings.patience} epochs"
            break
    best = {"best_epoch": state.best_epoch, "best_valid_elbo": state.best_elbo}
    yield Event("end", state.step, steps, state.epoch, settings.epochs, best, message)


def validate(model: nn.Module, rows: Rows, seed: int) -> dict[str, float]:
    """The ELBO (beta = 1), distortion and rate on `rows`, each a mean in nats, from one sample of z for each row."""
    distortion, rate = 0.0, 0.0
    device = next(model.parameters()).device
    for number, start in enumerate(range(0, len(rows), VALIDATION_BLOCK)):
        x = rows.batch(slice(start, min(start + VALIDATION_BLOCK, len(rows))))
        parts = elbo_rows(cast(Model, model), x, new_generator(seed, Purpose.VALIDATE, number, device=device))
        distortion += float(parts[0].sum())
        rate += float(parts[1].sum())
    distortion, rate = distortion / len(rows), rate / len(rows)
    return {"valid_elbo": -distortion - rate, "valid_distortion": distortion, "valid_rate": rate}


_ADVICE = "Try a smaller train.lr, train.clip=1, or look at the data with `vaekit data`"


def _check_epoch(model: nn.Module, metrics: Mapping[str, float], state: State) -> None:
    """A step can ruin the weights and be an epoch's last, so that no further loss would show it."""
    where = f"after step {state.step} (epoch {state.epoch})"
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise Diverged(f"the weights are not finite {where}, first {name}. {_ADVICE}")
    for name in ("valid_rate", "valid_distortion"):
        if not math.isfinite(metrics[name]):
            largest, size = _largest_weight(model)
            raise Diverged(
                f"the validation ELBO is not finite {where}: term '{name}' is {metrics[name]}; the largest weight is "
                f"{largest} with {size:.3g}. {_ADVICE}"
            )


def _largest_weight(model: nn.Module) -> tuple[str, float]:
    sizes = {name: float(p.detach().abs().max().nan_to_num(math.inf)) for name, p in model.named_parameters()}
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]


def _explain_divergence(
    step: Step, out: Mapping[str, Tensor], x: Tensor, noise: list[Tensor | None], index: Tensor, state: State
) -> None:
    """Name the term, the row and the largest weight, from a second pass over the same batch."""
    term = next((name for name, value in out.items() if name != "loss" and not value.isfinite()), "loss")
    largest_name, largest = _largest_weight(step.model)
    with torch.no_grad():
        draw = cast(Model, step.model).draw(x, step.objective.samples, noise=noise, generator=step.generator)
        worst = int((-draw.log_w.mean(0)).nan_to_num(math.inf).argmax())
    raise Diverged(
        f"the loss is {float(out['loss'])} at step {state.step} (epoch {state.epoch + 1}): term '{term}' is "
        f"{float(out[term])}, worst in training row {int(index[worst])}; the largest weight is {largest_name} with "
        f"{largest:.3g}. The best weights so far are kept. {_ADVICE}"
    )
