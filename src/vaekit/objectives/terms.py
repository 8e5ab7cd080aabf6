"""What an objective is given and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.models.vae import Draw
from vaekit.objectives.gradients import Gradient, RunningMean

PerRow = Float[Tensor, "batch"]


@dataclass(frozen=True)
class Terms:
    """What an objective returns: a value for each row to maximise, in nats, and its named parts (for reading only)."""

    value: PerRow
    parts: Mapping[str, PerRow]


@dataclass(frozen=True)
class StepContext:
    """What an objective may know of the training around it; the defaults serve a call on its own.

    step, steps: numbers, or tensors () where the step is traced into a program, in which numbers would be fixed.

    In a loop of your own with `Score` at one sample, keep one context and call `signal_mean.settle()` after each step.
    """

    step: int | Tensor = 0
    steps: int | Tensor = 1
    rows: int | None = None
    model: nn.Module | None = None
    generator: torch.Generator | None = None
    signal_mean: RunningMean = field(default_factory=RunningMean)
    batch_mean: Callable[[Tensor], Tensor] = torch.mean


@runtime_checkable
class Bound(Protocol):
    """What every objective of a single model has: how many z it needs, how they are to be drawn, and the call."""

    @property
    def samples(self) -> int: ...

    @property
    def gradient(self) -> Gradient: ...

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms: ...


def check_how_drawn(draw: Draw, gradient: Gradient) -> None:
    """Refuse a draw whose z lets other gradients through than the estimator needs: they would be wrong in silence."""
    asked = (gradient.path, gradient.score, gradient.every)
    how = (draw.path, draw.score, draw.weights is not None)
    if not torch.is_grad_enabled():
        return
    if how != asked:
        raise ValueError(
            f"the gradient estimator {gradient.kind} needs z drawn with path={asked[0]}, score={asked[1]}, "
            f"every={asked[2]}, and it was drawn with path={how[0]}, score={how[1]}, every={how[2]}: its gradients "
            "would be wrong. Draw with model.draw(x, objective.samples, path=objective.gradient.path, "
            "score=objective.gradient.score, every=objective.gradient.every)"
        )
    stuck = [latent.q for latent in draw.latents if latent.q is not None and not latent.q.has_rsample]
    if draw.path and stuck:
        raise ValueError(
            f"the gradient estimator {gradient.kind} goes through z, and no gradient passes through samples of "
            f"{type(stuck[0]).__name__}: use the gradient score, or, in training mode, a temperature that relaxes z. "
            "To read a value alone, call under torch.no_grad()"
        )
