"""Inputs and results of an objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.errors import SpecError
from vaekit.models.vae import Draw
from vaekit.objectives.gradients import Gradient, RunningMean

PerRow = Float[Tensor, "batch"]


@dataclass(frozen=True)
class Terms:
    """What an objective returns.

    Attributes:
        value: To maximise, for each row, (batch,), in nats.
        parts: Named parts of the value, (batch,) each, for reading only.
        discriminator: What the discriminator maximises, (batch,), where there is one. Neither value has gradients for
            the other's weights.
    """

    value: PerRow
    parts: Mapping[str, PerRow]
    discriminator: PerRow | None = None


@dataclass(frozen=True)
class StepContext:
    """What an objective may know of the training around it; the defaults serve a single call.

    In a loop of your own with `Score` at one sample, keep one context and call `signal_mean.settle()` after each step.

    Attributes:
        step: Steps done so far, a number or a tensor ().
        steps: Of the whole training, likewise.
        rows: Number of training rows.
        model: In training.
        generator: Source of noise that is not given.
        signal_mean: Baseline of the estimator `Score`.
        batch_mean: From values of rows (rows,) to their mean over the whole batch.
        gather: From rows (rows, ...) to those of the whole batch, at all processes, and the slice of them that are this
            process's own; gradients reach these alone.
        discriminator: The network of the objective's discriminator, where there is one.
        noise: Standard normal, (batch, *z), for the objective to use.
    """

    step: int | Tensor = 0
    steps: int | Tensor = 1
    rows: int | None = None
    model: nn.Module | None = None
    generator: torch.Generator | None = None
    signal_mean: RunningMean = field(default_factory=RunningMean)
    batch_mean: Callable[[Tensor], Tensor] = torch.mean
    gather: Callable[[Tensor], tuple[Tensor, slice]] = lambda rows: (rows, slice(0, len(rows)))
    discriminator: nn.Module | None = None
    noise: Tensor | None = None

    def over_batch(self, rows: Tensor, measure: Callable[[Tensor], Tensor]) -> PerRow:
        """A number, measured on all rows of the batch together, as the value of each of these rows.

        Its gradient is right however the batch is divided among processes: each of them has that of its own rows. Of
        a batch in pieces (`Train.micro_batch`), what is measured is the piece.
        """
        every, _ = self.gather(rows)
        found = measure(every)
        known, share = found.detach(), len(every) / len(rows)
        return (known + share * (found - known)).expand(len(rows))

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape of `like`, (batch, *z)."""
        if self.noise is not None:
            return self.noise
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=self.generator)


@runtime_checkable
class Bound(Protocol):
    """What every objective of a single model has: how many z it needs, how they are to be drawn, and the call."""

    @property
    def samples(self) -> int:
        """Number of samples of z for each row."""
        ...

    @property
    def gradient(self) -> Gradient:
        """The gradient estimator."""
        ...

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms: ...


@runtime_checkable
class InPhases(Protocol):
    """An objective that is one bound first and another for the rest of training, as `Switch` is."""

    @property
    def phases(self) -> tuple[Bound, ...]:
        """What is maximised, one after the other."""
        ...

    @property
    def at(self) -> float:
        """The share of all steps after which the last begins."""
        ...

    def now(self, step: int, steps: int) -> Bound:
        """The objective of an epoch that begins at a step of so many."""
        ...


def phases_of(objective: Bound | InPhases) -> tuple[Bound, ...]:
    """What an objective maximises, one after the other: mostly itself, all along."""
    return objective.phases if isinstance(objective, InPhases) else (objective,)


def _arguments(reparametrised: bool, score: bool, enumerate: bool) -> str:
    return f"reparametrised={reparametrised}, score={score}, enumerate={enumerate}"


def check_how_drawn(draw: Draw, gradient: Gradient) -> None:
    """Refuse a draw whose z lets other gradients through than the estimator needs: they would be wrong in silence."""
    needed = (gradient.reparametrised, gradient.score, gradient.enumerate)
    drawn = (draw.reparametrised, draw.score, draw.weights is not None)
    if not torch.is_grad_enabled():
        return
    if drawn != needed:
        raise SpecError(
            f"the gradient estimator {gradient.kind} needs z drawn with {_arguments(*needed)}, and it was drawn with "
            f"{_arguments(*drawn)}: its gradients would be wrong. Draw with model.draw(x, {_arguments(*needed)})",
            field="draw",
        )
    stuck = [latent.q for latent in draw.latents if latent.q is not None and not latent.q.has_rsample]
    if draw.reparametrised and stuck:
        raise SpecError(
            f"the gradient estimator {gradient.kind} goes through z, and no gradient passes through samples of "
            f"{type(stuck[0]).__name__}: use the gradient score, or, in training mode, a temperature that relaxes z. "
            "To read a value alone, call under torch.no_grad()",
            field="draw",
        )


def check_has_gradient(draw: Draw, gradient: Gradient) -> None:
    """Refuse an estimator that leaves the encoder of a deterministic posterior without a gradient."""
    if not (draw.has_bound or gradient.reparametrised):
        raise SpecError(
            f"the gradient estimator {gradient.kind} works through ln q(z|x), which a deterministic posterior lacks: "
            "use gradient pathwise, or another posterior",
            field="gradient",
            value=gradient,
        )
