"""One training step's computation: from rows to the sums that are minimised and reported."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vaekit.models.parameters import Shape
from vaekit.models.settling import Settling
from vaekit.models.vae import Draw, Model
from vaekit.objectives import Bound, InPhases, Objective, Penalised, StepContext, phases_of
from vaekit.objectives.gradients import RunningMean
from vaekit.processes import World
from vaekit.training.noise import Noise


@runtime_checkable
class Annealing(Protocol):
    """A module with a setting that changes in training, called before each pass."""

    def anneal(self, step: int | Tensor, steps: int | Tensor) -> None:
        """Set the temperature for a step of so many."""
        ...


@runtime_checkable
class Hiding(Protocol):
    """A module that hides a part of its input at random in training: see `InputDropout`."""

    def shape_of_noise(self, x: Tensor) -> Shape:
        """The shape of the noise of one row, from rows x (n, *data)."""
        ...

    def hiding(self, noise: Tensor | None) -> AbstractContextManager[None]:
        """Within, hide by noise (batch, *shape), uniform on [0, 1); None hides nothing."""
        ...


@dataclass(frozen=True)
class StepInputs:
    """What a step computes from, besides the weights.

    Attributes:
        x: Rows of a batch, (batch, *data).
        context: Of these rows, (batch, ...), or None.
        mask: True where a cell of x is observed, (batch, *data); None where all are.
        weight: Of these rows, (batch,), whose mean over the training rows is 1; None where all count alike.
        noise: Base noise of z, of the objective, and of what is hidden from the encoder.
        generator: Source of noise for distributions that take no base noise.
        objective: What to maximise in this epoch.
        step: Steps done so far, a number or a tensor ().
        steps: Of the whole training, likewise.
        counts: False for a stand-in row, with which a process without rows keeps in step with the others: all sums
            and gradients are zero.
    """

    x: Tensor
    objective: Bound
    context: Tensor | None = None
    mask: Tensor | None = None
    weight: Tensor | None = None
    noise: Noise = field(default_factory=Noise)
    generator: torch.Generator | None = None
    step: int | Tensor = 0
    steps: int | Tensor = 1
    counts: bool = True


class Step(nn.Module):
    """Model and objective as one module: `StepInputs` in, named sums out; no distribution crosses its boundary.

    Args:
        model: A VAE.
        objective: What to maximise over the whole training.
        rows: Number of training rows.
        world: The processes that divide each batch.
        discriminator: That of the objective, where it has one; `discriminator_loss` is then among the sums.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | Bound,
        rows: int,
        world: World,
        discriminator: nn.Module | None = None,
    ):
        super().__init__()
        self.model = model
        self.objective = objective
        self.discriminator = discriminator
        self.rows, self.world = rows, world
        self.signal_mean = RunningMean()
        self.settling = [part for part in (*model.modules(), self.signal_mean) if isinstance(part, Settling)]
        self.annealing = [part for part in model.modules() if isinstance(part, Annealing)]
        self.hiding = next((part for part in model.modules() if isinstance(part, Hiding)), None)

    def forward(self, inputs: StepInputs) -> dict[str, Tensor]:
        """The sums over rows of the loss and of each part of the objective; all scalars, in nats.

        A row with a weight counts so many times.
        """
        objective, gradient = inputs.objective, inputs.objective.gradient
        for part in self.annealing:
            part.anneal(inputs.step, inputs.steps)
        with nullcontext() if self.hiding is None else self.hiding.hiding(inputs.noise.hiding):
            draw: Draw = cast(Model, self.model).draw(
                inputs.x,
                objective.samples,
                context=inputs.context,
                mask=inputs.mask,
                noise=inputs.noise.latents,
                generator=inputs.generator,
                reparametrised=gradient.reparametrised,
                score=gradient.score,
                enumerate=gradient.enumerate,
                check=False,
            )
        terms = objective(draw, self._context(inputs))

        def total(values: Tensor) -> Tensor:
            return values.sum() if inputs.weight is None else (inputs.weight * values).sum()

        sums = {"loss": -total(terms.value)}
        if terms.discriminator is not None:
            sums["discriminator_loss"] = -total(terms.discriminator)
        sums |= {name: total(part) for name, part in terms.parts.items()}
        if inputs.counts:
            return sums
        self.forget()
        return {name: 0 * value for name, value in sums.items()}

    def phase(self, step: int, steps: int) -> Bound:
        """The objective of an epoch that begins at a step of so many."""
        return self.objective.now(step, steps) if isinstance(self.objective, InPhases) else self.objective

    @property
    def needs_noise(self) -> bool:
        """Whether the objective draws numbers of its own."""
        return isinstance(self.objective, Penalised) and self.objective.needs_noise

    @property
    def first_samples(self) -> int:
        """How many z of each row training begins with."""
        return self.phase(0, 1).samples

    @property
    def validated_samples(self) -> int:
        """How many z of each row validation draws: as many as the importance-weighted bound that training ends with."""
        last = phases_of(self.objective)[-1]
        return last.samples if getattr(last, "importance_weighted", False) else 1

    def settle(self) -> None:
        """Have each part take in what it noted of the batch."""
        for part in self.settling:
            part.settle(self.world.sum, self.world.gather)

    def forget(self) -> None:
        """Have each part drop what it noted."""
        for part in self.settling:
            part.forget()

    def _context(self, inputs: StepInputs) -> StepContext:
        return StepContext(
            step=inputs.step,
            steps=inputs.steps,
            rows=self.rows,
            model=self.model,
            generator=inputs.generator,
            signal_mean=self.signal_mean,
            batch_mean=partial(self._mean_over_batch, inputs.counts),
            gather=partial(self._gather, inputs.counts),
            discriminator=self.discriminator,
            noise=inputs.noise.objective,
        )

    def _gather(self, counts: bool, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all processes, this one's with their gradients; a stand-in's are left out."""
        if self.world.size == 1:
            return rows, slice(0, len(rows))
        own = rows if counts else rows[:0]
        numbers = self.world.gather(torch.tensor([len(own)], device=rows.device)).tolist()
        gathered, first = self.world.gather(own.detach()), sum(numbers[: self.world.rank])
        if not counts:
            return gathered, slice(0, len(rows))
        with_gradients = torch.cat([gathered[:first], own, gathered[first + len(own) :]])
        return with_gradients, slice(first, first + len(own))

    def _mean_over_batch(self, counts: bool, values: Tensor) -> Tensor:
        """The mean over rows at all processes."""
        weight = float(counts)
        total, count = self.world.sum(torch.stack([values.sum() * weight, values.new_tensor(len(values) * weight)]))
        return total / count
