"""The state of a training: all that it changes, as saved by checkpoints and restored after a bad step."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vaekit.errors import Diverged, ModelFileError, SpecError
from vaekit.objectives import Penalised
from vaekit.training.checkpoints.tensors import check_alike, most_bytes
from vaekit.training.distributed import placed_like, shard, whole
from vaekit.training.optimisers import Adam
from vaekit.training.run_files import Above0, Finite, Whole
from vaekit.training.spec import Train
from vaekit.training.step import Step
from vaekit.training.update_rules import MOST_KEPT, AdamUpdates, Updates, build_updates, own_rules
from vaekit.words import counted

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """The numbers of a training so far, those decided by measuring among them.

    Attributes:
        step: Steps done.
        epoch: Epochs done.
        steps: Of the whole training; None until a time budget has been turned into them.
        micro_batch: Rows through the model at once, at each process.
        lr_factor: On the learning rate, halved by every rollback.
        precision: Of the networks, once decided.
        compiled: Whether steps are compiled, once decided.
        kernels: That of each matrix product by its name, once decided.
        rollbacks: How often training went back to its last good state.
        skipped: Steps skipped for their gradients.
        in_a_row: How many of them just now.
        best_epoch: The epoch of the best validation, 0 before the first.
        best_elbo: Its ELBO or bound, in nats.
        sums: Of the loss and its parts over the rows of this epoch.
        rows: That this epoch has seen.
        seconds: Spent in this epoch.
        total_seconds: Spent in all.
        baseline: Mean ln p of the validation rows by the best model without z, in nats.
    """

    step: Whole = 0
    epoch: Whole = 0
    steps: Above0 | None = None
    micro_batch: Above0 | None = None
    lr_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    precision: Literal["fp32", "bf16"] | None = None
    compiled: bool | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    rollbacks: Whole = 0
    skipped: Whole = 0
    in_a_row: Whole = 0
    best_epoch: Whole = 0
    best_elbo: Finite | None = None
    sums: Mapping[str, float] = field(default_factory=dict)
    rows: Whole = 0
    seconds: Annotated[Finite, Field(ge=0)] = 0.0
    total_seconds: Annotated[Finite, Field(ge=0)] = 0.0
    baseline: Finite | None = None

    def is_possible(self, rows: int, batch_size: int) -> bool:
        """Whether training on so many rows in batches can stand here; the steps of an epoch are done in order."""
        done = self.step - self.epoch * math.ceil(rows / batch_size)
        ends = self.steps is not None and self.step == self.steps  # a time budget may end within an epoch
        stands = (done == 0 or ends) if self.rows == 0 else done > 0 and self.rows == min(done * batch_size, rows)
        return stands and (self.best_elbo is None) == (self.best_epoch == 0) and self.best_epoch <= self.epoch


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state between two steps: its numbers, and its tensors by name."""

    progress: Progress
    tensors: Tensors


@dataclass(frozen=True)
class _Learner:
    """The model or the discriminator, with its optimiser.

    Attributes:
        prefix: Of the names of its optimiser's tensors in a snapshot.
        module: Whose parameters are updated.
        updates: Its optimiser.
        lr: Its own learning rate before the schedule; None for the model, which has the training's.
    """

    prefix: str
    module: nn.Module
    updates: Updates
    lr: float | None = None


Status = Literal["ready", "updating", "stopping", "finished"]


class State:
    """Everything that training changes.

    Attributes:
        status: "ready" between two steps; "updating" within one, when it is not to be saved; "stopping" between two
            steps, once all processes have agreed to go no further; "finished" once the weights are those that the run
            keeps, and no longer those in training.
        stop_requested: Whether this process is to end training after the step that it is in; safe to set from a
            signal handler.
    """

    def __init__(self, step: Step, settings: Train):
        if settings.ema is not None and settings.parallel == "fsdp" and step.world.size > 1:
            raise SpecError(
                "Train.ema is not available with Train.parallel=fsdp: use ddp, or leave Train.ema out",
                field="Train.ema",
                value=settings.ema,
            )
        if isinstance(step.objective, Penalised) and settings.parallel == "fsdp" and step.world.size > 1:
            kind = getattr(step.objective, "kind", type(step.objective).__name__)
            raise SpecError(
                f"the objective {kind} is not available with Train.parallel=fsdp: use ddp",
                field="Train.parallel",
                value=settings.parallel,
            )
        self.step = step
        self.average = None
        if settings.ema is not None:
            self.average = AveragedModel(step.model, multi_avg_fn=_moving_average(settings.ema), use_buffers=True)
        self.twin = None
        if step.world.size > 1 and settings.parallel == "fsdp":
            self.twin = copy.deepcopy(step.model)
            shard(step, step.world)
        updates = build_updates(settings.optimiser, settings.lr, step.model.parameters(), own_rules(step.model))
        self.learners = [_Learner("optimiser.", step.model, updates)]
        critic = step.objective.critic if isinstance(step.objective, Penalised) else None
        if step.discriminator is not None and critic is not None:
            updates = AdamUpdates(Adam(critic.betas), step.discriminator.parameters())
            self.learners += [_Learner("discriminator_optimiser.", step.discriminator, updates, critic.lr)]
        self.at = Progress(micro_batch=settings.micro_batch, steps=None)
        self.best: Tensors = {}
        self.good = Snapshot(self.at, {})
        self.history: list[dict[str, float | None]] = []  # metrics of all epochs
        self.unlogged: list[dict[str, float | None]] = []  # those that no file holds yet
        self.status: Status = "ready"
        self.stop_requested = False

    def whole_model(self) -> nn.Module:
        """The model in training, all of it at this process, for calls outside of the step; called by all processes."""
        if self.twin is None:
            return self.step.model
        self.twin.load_state_dict({name: whole(value) for name, value in self.step.model.state_dict().items()})
        return self.twin

    @property
    def model(self) -> nn.Module:
        """The model to validate and to keep: that of the averaged weights, where there are any."""
        averaged = self.average is not None and int(self.average.n_averaged) > 0
        return self.average.module if self.average is not None and averaged else self.whole_model()

    def weights(self) -> Tensors:
        """A copy of the weights to keep."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def advance(self, **changes: object) -> None:
        """Change some of the numbers."""
        self.at = replace(self.at, **changes)  # pyright: ignore[reportArgumentType]

    def update(self, lr: float, share: float) -> None:
        """Update the weights of model and discriminator by their gradients.

        Args:
            lr: Learning rate of the model.
            share: Factor on the discriminator's own learning rate.
        """
        for learner in self.learners:
            learner.updates(lr if learner.lr is None else share * learner.lr)

    def clear_gradients(self) -> None:
        """Drop all gradients."""
        for learner in self.learners:
            learner.updates.clear_gradients()

    def clear_negligible(self) -> None:
        """Set to zero what optimisers keep of weights whose gradient has long been zero."""
        for learner in self.learners:
            learner.updates.clear_negligible()

    def capture(self) -> Snapshot:
        """A copy of the state, but for the best weights, which stay what they are when training goes back."""
        tensors = self._tensors()
        for learner in self.learners:
            for name, parameter in learner.module.named_parameters():
                for key, value in learner.updates.kept(parameter).items():
                    tensors[f"{learner.prefix}{name}.{key}"] = value
        return Snapshot(self.at, {name: whole(value.detach()).clone() for name, value in tensors.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where the snapshot was taken.

        Raises:
            ModelFileError: It is of another model or another optimiser; the state is then as it was.
        """
        self.check(snapshot.tensors)
        with torch.no_grad():
            for name, ours in self._tensors().items():
                ours.copy_(placed_like(snapshot.tensors[name], ours))
        for learner in self.learners:
            learner.updates.forget()
            kept = _by_parameter(learner, snapshot.tensors)
            for name, parameter in learner.module.named_parameters():
                if name in kept:
                    learner.updates.restore(parameter, kept[name])
        self.step.forget()
        self.clear_gradients()
        self.at = snapshot.progress
        self.status = "ready"

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse tensors that are not a state of these parts, as ModelFileError."""
        expected = self._tensors()
        for learner in self.learners:
            kept = _by_parameter(learner, tensors)  # nothing of a parameter that has never been updated
            for name, parameter in learner.module.named_parameters():
                if name in kept:
                    forms = learner.updates.expected(parameter, kept[name])
                    expected |= {f"{learner.prefix}{name}.{key}": form for key, form in forms.items()}
        if found := check_alike(tensors, expected):
            raise ModelFileError(
                f"the checkpoint is of another model: {found}; what an earlier version of vaekit trained otherwise "
                "can be used, or trained further by a run that is initialised from it"
            )

    def most_bytes(self) -> int:
        """How many bytes this state can have in a file, with the state to go back to."""
        return most_bytes(self._tensors(), 2 * (1 + MOST_KEPT))

    def _tensors(self) -> Tensors:
        """What training changes, where it lies, but for the optimisers' part."""
        modules = {"model.": self.step.model, "signal.": self.step.signal_mean}
        if self.step.discriminator is not None:
            modules["discriminator."] = self.step.discriminator
        if self.average is not None:
            modules["average."] = self.average
        return {prefix + name: value for prefix, part in modules.items() for name, value in part.state_dict().items()}

    def mark_good(self) -> None:
        """Keep this state to go back to, unless a weight is not finite."""
        discriminator = [] if self.step.discriminator is None else self.step.discriminator.parameters()
        if all(bool(p.isfinite().all()) for p in (*self.whole_model().parameters(), *discriminator)):
            self.good = self.capture()

    def keep_best(self, elbo: float) -> None:
        """The weights after this epoch, if its validation ELBO (or weighted bound) is the best so far."""
        if elbo > (-math.inf if self.at.best_elbo is None else self.at.best_elbo):
            self.advance(best_elbo=elbo, best_epoch=self.at.epoch)
            self.best = self.weights()

    def give_up(self) -> None:
        """Go back to the last good state, so that it is what is saved."""
        kept = _kept(self.at)
        self.restore(self.good)
        self.advance(**kept)

    def roll_back(self, why: str, allowed: int) -> str:
        """Go back to the last good state with half the learning rate; says so.

        Raises:
            Diverged: That has been done `allowed` times already.
        """
        self.give_up()
        if self.at.rollbacks >= allowed:
            times = counted(allowed, "time")
            tried = f" Going back {times} with half the learning rate each did not help." if allowed else ""
            raise Diverged(f"{why}{tried}")
        self.advance(lr_factor=self.at.lr_factor / 2, rollbacks=self.at.rollbacks + 1)
        return f"{why} Back at step {self.at.step} with half the learning rate ({self.at.rollbacks} of {allowed})."


def _by_parameter(learner: _Learner, tensors: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """What tensors of a snapshot an optimiser keeps, by parameter and then by name."""
    found: dict[str, Tensors] = {}
    for place, value in tensors.items():
        if place.startswith(learner.prefix):
            parameter, _, name = place.removeprefix(learner.prefix).rpartition(".")
            found.setdefault(parameter, {})[name] = value
    return found


def _moving_average(decay: float) -> Callable[..., None]:
    """An exponential moving average that soon forgets its start.

    Of n updates, the decay is at most (1 + n) / (10 + n), so that the average of a short training is one of trained
    weights. Integers, such as the numbers of columns, are no weights: they are copied.
    """

    @torch.no_grad()
    def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # all are of one type
            for ours, theirs in zip(averaged, current, strict=True):
                ours.copy_(theirs)
            return
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, updates)

    return average


def _kept(now: Progress) -> dict[str, object]:
    """What going back does not undo: decisions, and the clock."""
    decided = ("steps", "micro_batch", "precision", "compiled", "kernels", "lr_factor", "rollbacks", "skipped")
    return {name: getattr(now, name) for name in (*decided, "seconds", "total_seconds", "baseline")}
