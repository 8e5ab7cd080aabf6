"""One training step's computation: the part that is compiled, wrapped for parallel training, or captured."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vaekit.distributed import World
from vaekit.models.distributions.noise import noise_map, noise_shape
from vaekit.models.networks.precision import networks_in_bf16
from vaekit.models.settling import Settling
from vaekit.models.vae import Draw, Model
from vaekit.objectives import Iwae, Objective, Regularised, StepContext, Switch
from vaekit.objectives.gradients import RunningMean
from vaekit.randomness import Purpose, new_generator, noise_of_rows


@runtime_checkable
class Annealing(Protocol):
    """A module with a setting that changes in training, called before each pass."""

    def anneal(self, step: int | Tensor, steps: int | Tensor) -> None: ...


class Step(nn.Module):
    """Model and objective as one module: tensors in, tensors out; distributions never cross its boundary.

    Args:
        model: a VAE.
        objective: what to maximise.
        rows: of the training data.
        world: the processes that divide each batch.
        discriminator: that of the objective, where it has one; `discriminator_loss` is then among the sums.

    What changes from step to step without being a tensor is set from outside: `steps` of the whole training, the
    `objective` of the epoch (`enter`), the `generator` for distributions that take no base noise, whether networks
    compute in `bf16`, and `counts`, which is False for a stand-in row that a process without rows computes so that all
    processes do the same.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, rows: int, world: World, discriminator: nn.Module | None = None
    ):
        super().__init__()
        self.model = model
        self.planned = objective
        self.enter(0, 1)
        self.discriminator = discriminator
        self.needs_noise = isinstance(objective, Regularised) and objective.needs_noise
        self.rows, self.world = rows, world
        self.signal_mean = RunningMean()
        self.steps: Any = 1
        self.generator: torch.Generator | None = None
        self.bf16 = False
        self.counts = True
        self.settling = [part for part in (*model.modules(), self.signal_mean) if isinstance(part, Settling)]
        self.annealing = [part for part in model.modules() if isinstance(part, Annealing)]

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        context: Tensor | None,
        noise: Sequence[Tensor | None],
        step: int | Tensor,
    ) -> dict[str, Tensor]:
        """The sums over rows of the loss and of each part of the objective; all scalars, in nats.

        noise: of each group of latents, and last the objective's own, where it needs some.
        """
        gradient = self.objective.gradient
        for part in self.annealing:
            part.anneal(step, self.steps)
        of_latents, own = (noise[:-1], noise[-1]) if self.needs_noise else (noise, None)
        with networks_in_bf16(self.bf16):
            draw: Draw = cast(Model, self.model).draw(
                x,
                self.objective.samples,
                context=context,
                noise=of_latents,
                generator=self.generator,
                reparametrised=gradient.reparametrised,
                score=gradient.score,
                enumerate=gradient.enumerate,
                check=False,
            )
            terms = self.objective(draw, self._context(step, own))
        sums = {"loss": -terms.value.sum()}
        if terms.discriminator is not None:
            sums["discriminator_loss"] = -terms.discriminator.sum()
        sums |= {name: part.sum() for name, part in terms.parts.items()}
        if self.counts:
            return sums
        self.forget()
        return {name: 0 * value for name, value in sums.items()}

    def enter(self, step: int, steps: int) -> None:
        """Maximise what is planned for an epoch that begins at a step of so many."""
        planned = self.planned
        self.objective = planned.now(step, steps) if isinstance(planned, Switch) else planned

    @property
    def first_samples(self) -> int:
        """How many z of each row training begins with."""
        first = self.planned.first if isinstance(self.planned, Switch) else self.planned
        return first.samples

    @property
    def validated_samples(self) -> int:
        """How many z of each row validation draws: as many as the importance-weighted bound that training ends with."""
        last = self.planned.then if isinstance(self.planned, Switch) else self.planned
        return last.samples if isinstance(last, Iwae) else 1

    def settle(self) -> None:
        """Have each part take in what it noted of the batch."""
        for part in self.settling:
            part.settle(self.world.sum, self.world.gather)

    def forget(self) -> None:
        """Have each part drop what it noted."""
        for part in self.settling:
            part.forget()

    def _context(self, step: int | Tensor, noise: Tensor | None) -> StepContext:
        return StepContext(
            step,
            self.steps,
            self.rows,
            self.model,
            self.generator,
            self.signal_mean,
            self._mean_over_batch,
            self._gather,
            self.discriminator,
            noise,
        )

    def _gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all processes, this one's with their gradients; a stand-in's are left out."""
        if self.world.size == 1:
            return rows, slice(0, len(rows))
        own = rows if self.counts else rows[:0]
        counts = self.world.gather(torch.tensor([len(own)], device=rows.device)).tolist()
        every, first = self.world.gather(own.detach()), sum(counts[: self.world.rank])
        if not self.counts:
            return every, slice(0, len(rows))
        return torch.cat([every[:first], own, every[first + len(own) :]]), slice(first, first + len(own))

    def _mean_over_batch(self, values: Tensor) -> Tensor:
        """The mean over rows at all processes."""
        weight = float(self.counts)
        total, count = self.world.sum(torch.stack([values.sum() * weight, values.new_tensor(len(values) * weight)]))
        return total / count


DRAWN_AHEAD = 32  # steps whose noise is drawn at once, where it is small: of a small step, a generator is a tenth
SMALL = 1 << 18  # numbers


class NoiseSource:
    """Draws the base noise that a model's latents need, by what one trial pass shows of their shapes.

    The noise of a step is a function of the seed, the step, and a row's place in the batch; that of several steps is
    drawn at once.

    more: draw standard normal numbers besides, of the shape of the first group's z, for the objective; one sample.
    first: whether training begins with this number of samples; else an objective switches to it.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        context: Tensor | None,
        samples: int,
        seed: int,
        more: bool = False,
        first: bool = True,
    ):
        with torch.no_grad():
            draw = cast(Model, model).draw(
                x[:1], context=context, generator=new_generator(0, Purpose.TRIAL, device=x.device)
            )
        self.seed, self.device, self.first = seed, x.device, first
        self.groups: list[tuple[Callable[..., Tensor], torch.Size, int] | None] = []
        for latent in draw.latents:
            found = None if latent.q is None else noise_map(latent.q)
            shape = None if latent.q is None else noise_shape(latent.q)
            rows = (
                0 if latent.q is None else len(latent.q.batch_shape)
            )  # a hierarchical VAE's lower groups have samples of rows
            self.groups += [None if found is None or shape is None else (found.base, shape[rows:], samples)]
        self.more = len(self.groups) if more else None
        if more:
            self.groups += [(torch.randn, draw.latents[0].z.shape[2:], 1)]
        self.dtype = draw.log_px.dtype
        self.drawn: dict[int, tuple[tuple[int, int], Tensor]] = {}

    def __call__(self, rows: slice, batch: int, step: int) -> list[Tensor | None]:
        """Base noise (samples, rows, *event) of each group for a part of a batch; None where a group takes none.

        What is drawn besides comes last, (rows, *event).
        """
        found = [
            None if group is None else self._draw(number, group, rows, batch, step)
            for number, group in enumerate(self.groups)
        ]
        if self.more is not None and (besides := found[self.more]) is not None:
            found[self.more] = besides[0]
        return found

    def _draw(
        self, number: int, group: tuple[Callable[..., Tensor], torch.Size, int], rows: slice, batch: int, step: int
    ) -> Tensor:
        event, samples = group[1:]
        steps = min(DRAWN_AHEAD, SMALL // (samples * batch * max(event.numel(), 1)))
        if steps < 2:
            return self._noise(group, 1, rows, batch, (step, number))[0]
        block = step // steps
        if number not in self.drawn or self.drawn[number][0] != (block, batch):
            key = (block, number, batch) if self.first else (block, number, batch, samples)
            ahead = self._noise(group, steps, slice(0, batch), batch, key)
            self.drawn[number] = (block, batch), ahead
        return self.drawn[number][1][step % steps, :, rows]

    def _noise(
        self,
        group: tuple[Callable[..., Tensor], torch.Size, int],
        steps: int,
        rows: slice,
        batch: int,
        key: tuple[int, ...],
    ) -> Tensor:
        """(steps, samples, rows, *event)."""
        base, event, samples = group

        def draw(n: int, generator: torch.Generator) -> Tensor:
            return base((steps, samples, n, *event), generator=generator, device=self.device, dtype=self.dtype)

        return noise_of_rows(draw, rows, batch, self.seed, Purpose.POSTERIOR, *key, device=self.device, dim=2)
