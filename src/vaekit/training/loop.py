"""Training as a generator of events: the caller loops, may stop, and needs no callbacks."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import nn

from vaekit.errors import Diverged
from vaekit.evaluation import bound_rows
from vaekit.evaluation.results import label_of
from vaekit.findings import Finding
from vaekit.models.vae import Model
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator
from vaekit.training.baseline import validation_baseline
from vaekit.training.diagnosis import TrainingFacts, findings
from vaekit.training.patience import Patience
from vaekit.training.run_files import MOST_EPOCHS
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.training.updater import ADVICE, Rows, TrainingNotFinite, Updater, largest_weight
from vaekit.words import counted

VALIDATION_BLOCK = 500  # rows
GOOD_EVERY = 1000  # steps between states to go back to, besides those after each validation
SETTLING_STEPS, TIMED_STEPS = 5, 20  # before a time budget is turned into steps
WAITED_MOST, TIMED_MOST = 0.2, 0.4  # of the budget, by when timing begins and ends in any case


Kind = Literal["start", "step", "epoch", "notice", "finding", "end"]


@dataclass(frozen=True)
class Event:
    """What happened in training.

    The metrics of an `epoch` are means over rows, in nats; those of the `end` tell the best epoch; a `step` has none.
    A `notice` carries a message about something out of the ordinary that training went on from; a `finding`, one thing
    that is wrong with the run, each once: as soon as it is certain, or just before the end.
    """

    kind: Kind
    step: int
    steps: int
    epoch: int
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    finding: Finding | None = None


def train_model(
    state: State,
    train: Rows,
    valid: Rows,
    settings: Train,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Event]:
    """Train the model of `state` in place, yielding an event at the start, after each step, each epoch, and at the end.

    All randomness is a function of (seed, purpose, step) and of a row's place in the batch: the order of the rows,
    binarisation, the noise of z. The model is validated after each epoch on the ELBO with beta = 1, or, where training
    ends with an importance-weighted bound, on that, at the same noise each time. `state` is kept up to date for the
    caller to capture between events, and training goes on from where it stands. Once `state.stop_requested` is set, it
    ends after a step, without an `end`.

    Args:
        state: Of the training, at its start or restored from a checkpoint.
        train: Rows to train on.
        valid: Rows to validate on.
        settings: Of training.
        seed: Of all randomness.
        clock: The time in seconds, by which a budget is kept and speeds are measured.

    Raises:
        Diverged: The loss, the validation ELBO or a weight is not finite, again and again.
    """
    batches = math.ceil(len(train) / settings.batch_size)
    pace = _Pace(settings.of_rows(len(train)), batches, state.at.step, clock)
    patience = Patience(settings, state.step.objective, state.step.model, batches)
    watch = _Stopwatch(clock)
    known: set[str] = set()
    update = Updater(state, train, settings, seed, pace.steps(state))

    def event(kind: Kind, message: str = "", metrics: Mapping[str, float] | None = None) -> Event:
        steps = pace.steps(state)
        return Event(kind, state.at.step, steps, state.at.epoch, math.ceil(steps / batches), metrics or {}, message)

    def new_findings(over: bool, early: bool = False) -> Iterator[Event]:
        about = TrainingFacts(settings, update.values, patience.rising(pace.steps(state)), over, early, len(valid))
        for found in findings(state.history, about):
            if found.id not in known:
                known.add(found.id)
                yield replace(event("finding", found.text), finding=found)

    if state.at.baseline is None:
        state.advance(baseline=validation_baseline(state.whole_model(), train, valid, seed))
    yield event("start")
    if not state.good.tensors:
        state.mark_good()
        _check_start(state)
    while not _waited_enough(state, patience, pace.steps(state)) and (
        state.at.step < pace.steps(state) or state.at.rows
    ):
        order = train.order(new_generator(seed, Purpose.ORDER, state.at.epoch))
        first = state.at.epoch * batches
        watch.start()
        try:
            objective = state.step.phase(first, pace.steps(state))
            state.step.train()
            while state.at.step < min(first + batches, pace.steps(state)):
                start = (state.at.step - first) * settings.batch_size
                index = order[start : start + settings.batch_size]
                notice = update(index, objective, pace.steps(state))
                watch.note(state)
                if state.at.step % GOOD_EVERY == 0:
                    state.mark_good()
                if notice:
                    yield event("notice", notice)
                yield event("step")
                if state.status == "stopping" or (state.stop_requested and state.step.world.size == 1):
                    return
                pace.decide(state, valid, seed, update.engine.decided)
            metrics = _close_epoch(state, valid, seed, pace.steps(state), settings, watch)
        except TrainingNotFinite as bad:
            yield event("notice", state.roll_back(str(bad), settings.rollbacks))
            continue
        yield event("epoch", "", metrics)
        yield from new_findings(over=False)
    judge = "valid_elbo" if state.step.validated_samples == 1 else "valid_bound"
    early = state.at.step < pace.steps(state)
    yield from new_findings(over=True, early=early)
    waited = counted(settings.patience or 0, "epoch")
    message = f"stopped early: the {label_of(judge)} has not risen for {waited}" if early else ""
    best = {} if state.at.best_elbo is None else {f"best_{judge}": state.at.best_elbo}
    yield event("end", message, {"best_epoch": state.at.best_epoch, **best})


def validate(model: nn.Module, rows: Rows, seed: int, world: World | None = None, samples: int = 1) -> dict[str, float]:
    """The ELBO (beta = 1), distortion and rate on `rows`, each a mean in nats, from samples of z for each row.

    Of several samples, their importance-weighted bound, too.

    The result does not depend on how many processes divide the rows.
    """
    world = world or World()
    device = next(model.parameters()).device
    starts = range(0, len(rows), VALIDATION_BLOCK)
    sums, weights = (torch.zeros(len(starts), *shape, dtype=torch.float64) for shape in ((3,), ()))
    for number in range(len(starts))[world.share(len(starts))]:
        index = slice(starts[number], min(starts[number] + VALIDATION_BLOCK, len(rows)))
        x = rows.batch(index)
        generator = new_generator(seed, Purpose.VALIDATE, number, device=device)
        mask, weight = rows.mask_of(index), rows.weight_of(index)
        parts = bound_rows(cast(Model, model), x, rows.context_of(index), generator, samples, mask)
        weighed = parts if weight is None else [part * weight for part in parts]
        sums[number] = torch.stack([part.double().sum() for part in weighed]).cpu()
        weights[number] = len(x) if weight is None else float(weight.double().sum())
    total = world.sum(weights.to(device)).sum() if weights.sum() != len(rows) or world.size > 1 else len(rows)
    distortion, rate, bound = (world.sum(sums.to(device)).sum(0) / total).tolist()
    several = {"valid_bound": bound} if samples > 1 else {}
    return {"valid_elbo": -distortion - rate, "valid_distortion": distortion, "valid_rate": rate, **several}


def _waited_enough(state: State, patience: Patience, steps: int) -> bool:
    """Whether an epoch has just ended, and so many have gone by without a better one; decided by the first process."""
    enough = state.at.rows == 0 and patience.is_over(state.at.epoch, state.at.best_epoch, steps)
    return bool(state.step.world.agree(enough))


class _Pace:
    """How many steps there are to be: so many epochs, or as many as a time budget leaves room for."""

    def __init__(self, settings: Train, batches: int, step: int, clock: Callable[[], float]):
        self.budget, self.batches, self.clock = settings.seconds(), batches, clock
        assert settings.epochs is not None
        self.by_epochs = settings.epochs * batches
        self.began: float | None = None
        self.from_step = step

    def steps(self, state: State) -> int:
        if self.budget is None:
            return self.by_epochs
        return max(self.by_epochs, state.at.step + 1) if state.at.steps is None else state.at.steps

    def decide(self, state: State, valid: Rows, seed: int, settled: bool) -> None:
        """Turn the time budget into steps, once the speed has been measured.

        settled: whether steps are as fast as they are going to be.
        """
        if self.budget is None or state.at.steps is not None:
            return
        done, spent = state.at.step - self.from_step, state.at.total_seconds / self.budget
        if self.began is None:
            if (done >= SETTLING_STEPS and settled) or spent > WAITED_MOST:
                self.began, self.from_step = self.clock(), state.at.step
            return
        if done < TIMED_STEPS and (spent < TIMED_MOST or not done):
            return
        each = (self.clock() - self.began) / done
        began = self.clock()
        validate(state.model, valid, seed, state.step.world, state.step.validated_samples)
        each += (self.clock() - began) / self.batches
        left = self.budget - state.at.total_seconds
        steps = min(state.at.step + max(0, math.floor(left / each)), MOST_EPOCHS * self.batches)
        state.advance(steps=state.step.world.agree(steps))


class _Stopwatch:
    """Notes in the state how long training has taken, without what the caller does between events."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.began = clock, clock()

    def start(self) -> None:
        self.began = self.clock()

    def note(self, state: State) -> None:
        """Add the time since the start, or since it was last noted."""
        now = self.clock()
        spent, self.began = now - self.began, now
        state.advance(seconds=state.at.seconds + spent, total_seconds=state.at.total_seconds + spent)


def _close_epoch(
    state: State, valid: Rows, seed: int, steps: int, settings: Train, watch: _Stopwatch
) -> dict[str, float]:
    """Validate, keep the best weights, and begin the next epoch; the metrics of this one."""
    world = state.step.world
    metrics = {f"train_{name}": total / state.at.rows for name, total in state.at.sums.items()}
    metrics |= validate(state.model, valid, seed, world, state.step.validated_samples)
    _check(state, metrics)
    watch.note(state)
    lr = settings.lr * float(settings.schedule.at(state.at.step - 1, steps)) * state.at.lr_factor
    speed = state.at.rows / state.at.seconds
    metrics |= {"lr": lr, "seconds": state.at.seconds, "rows_per_second": speed}
    if settings.skip_above is not None:
        metrics["skipped"] = float(state.at.skipped)
    if state.at.baseline is not None:
        metrics["valid_baseline"] = state.at.baseline
    state.status = "updating"
    state.advance(epoch=state.at.epoch + 1, sums={}, rows=0, seconds=0.0)
    state.keep_best(metrics.get("valid_bound", metrics["valid_elbo"]))
    line = {"epoch": state.at.epoch, "step": state.at.step, **metrics}
    state.history, state.unlogged = [*state.history, line], [*state.unlogged, line]
    state.mark_good()
    state.status = "ready"
    return metrics


def _check_start(state: State) -> None:
    """A start from data that a network cannot take, of 1e30 say, leaves nothing to go back to."""
    name = next((name for name, weight in state.whole_model().named_parameters() if not weight.isfinite().all()), None)
    if name is not None:
        raise Diverged(
            f"the weights are not finite before the first step, first {name}: the data's values are too large to "
            "initialise from. Scale them (DataSpec.scale=standard), or start without them (bias_start=false)"
        )


def _check(state: State, metrics: Mapping[str, float]) -> None:
    """A step can ruin the weights and be an epoch's last, so that no further loss would show it."""
    where = f"after step {state.at.step} (epoch {state.at.epoch + 1})"
    model = state.whole_model()
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise TrainingNotFinite(f"the weights are not finite {where}, first {name}. {ADVICE}.")
    for name in ("valid_rate", "valid_distortion"):
        if not math.isfinite(metrics[name]):
            largest, size = largest_weight(model)
            raise TrainingNotFinite(
                f"the validation ELBO is not finite {where}: term '{name}' is {metrics[name]}; the largest weight is "
                f"{largest} with {size:.3g}. {ADVICE}."
            )
