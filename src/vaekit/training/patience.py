"""Early stopping: which epochs count as waiting for a better one."""

import math
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from vaekit.objectives import Bound, InPhases, Objective
from vaekit.schedules import Cyclical
from vaekit.training.spec import Train

LEAST_STEPS = 500  # in which a weight can move by half at Adam's usual rate; before, the best epoch is an accident


@runtime_checkable
class Rising(Protocol):
    """A schedule that changes over a share of all steps, and then stays or falls."""

    @property
    def rising(self) -> float:
        """The share of all steps over which it changes."""
        ...


class Patience:
    """Counts the epochs without a better one since the loss is what it is going to be.

    While the weight of the KL, its capacity, a temperature or the learning rate rises, and before a switch of
    objectives, the bound falls or stands still for reasons of its own: such epochs do not count, nor do those within
    the first 500 steps. Where a schedule is cyclical, training stops only at the end of a cycle that brought no better
    epoch.

    Args:
        settings: Of training.
        objective, model: what may hold schedules.
        batches: Steps of an epoch.
    """

    def __init__(self, settings: Train, objective: Objective | Bound, model: nn.Module, batches: int):
        self.most, self.batches = settings.patience, batches
        own = [getattr(part, "schedule", None) for part in model.modules()]
        schedules = [one for part in (objective, settings.schedule, *own) for one in _schedules(part)]
        shares = [one.rising for one in schedules if isinstance(one, Rising)]
        self.share = max([0.0, *shares, objective.at if isinstance(objective, InPhases) else 0.0])
        self.cycles = max((one.cycles for one in schedules if isinstance(one, Cyclical)), default=0)

    def rising(self, steps: int) -> float:
        """The step, of so many, from which on no schedule rises for the first time."""
        return max(self.share, 1.0 if self.cycles else 0.0) * steps

    def is_over(self, epoch: int, best_epoch: int, steps: int) -> bool:
        """Whether to stop after `epoch` epochs, the best of which was `best_epoch`, of a training of so many steps."""
        if self.most is None:
            return False
        step = epoch * self.batches
        if self.cycles:
            length = steps / self.cycles
            whole = math.floor(step / length)
            is_end = whole > math.floor((step - self.batches) / length)
            if not is_end or best_epoch * self.batches > (whole - 1) * length:
                return False
        counted_from = max(best_epoch, math.ceil(max(self.share * steps, LEAST_STEPS) / self.batches))
        return epoch - counted_from >= self.most


def _schedules(part: Any) -> list[Rising | Cyclical]:
    """The schedules among the fields of a spec, at any depth."""
    if isinstance(part, Rising | Cyclical):
        return [part]
    if isinstance(part, tuple | list):
        return [one for item in part for one in _schedules(item)]
    if is_dataclass(part):
        return [one for field in fields(part) for one in _schedules(getattr(part, field.name))]
    return []
