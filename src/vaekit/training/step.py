"""One training step's computation: the part that is compiled, wrapped for parallel training, or captured."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vaekit.models.noise import new_generator, noise_map, noise_shape
from vaekit.models.vae import Draw, Model
from vaekit.objectives import Objective, StepContext
from vaekit.objectives.gradients import RunningMean


class Step(nn.Module):
    """Model and objective as one module: tensors in, tensors out; distributions never cross its boundary.

    Args:
        model: a VAE.
        objective: what to maximise.
        steps: of the whole training.
        rows: of the training data.
    """

    def __init__(self, model: nn.Module, objective: Objective, steps: int, rows: int):
        super().__init__()
        self.model = model
        self.objective = objective
        self.steps, self.rows = steps, rows
        self.signal_mean = RunningMean()
        self.generator: torch.Generator | None = None  # for distributions that take no base noise

    def forward(
        self, x: Tensor, mask: Tensor | None, context: Tensor | None, noise: Sequence[Tensor | None], step: int
    ) -> dict[str, Tensor]:
        """The loss, and the mean over the batch of each part of the objective; all scalars, in nats for each row."""
        gradient = self.objective.gradient
        draw: Draw = cast(Model, self.model).draw(
            x,
            self.objective.samples,
            context=context,
            noise=noise,
            generator=self.generator,
            path=gradient.path,
            score=gradient.score,
        )
        terms = self.objective(draw, self._context(step))
        return {"loss": -terms.value.mean(), **{name: part.mean() for name, part in terms.parts.items()}}

    def _context(self, step: int) -> StepContext:
        return StepContext(step, self.steps, self.rows, self.model, self.generator, self.signal_mean)


class NoiseSource:
    """Draws the base noise that a model's latents need, by what one trial pass shows of their shapes."""

    def __init__(self, model: nn.Module, x: Tensor, samples: int):
        with torch.no_grad():
            draw = cast(Model, model).draw(x[:1], generator=new_generator(0, device=x.device))
        self.samples = samples
        self.groups = []
        for latent in draw.latents:
            found = None if latent.q is None else noise_map(latent.q)
            shape = None if latent.q is None else noise_shape(latent.q)
            self.groups += [None if found is None or shape is None else (found.base, shape[1:])]
        self.dtype = draw.log_px.dtype

    def __call__(self, rows: int, generator: torch.Generator) -> list[Tensor | None]:
        """Base noise (samples, rows, *event) of each group; None for one that samples by its own code."""
        return [
            None
            if group is None
            else group[0](
                (self.samples, rows, *group[1]), generator=generator, device=generator.device, dtype=self.dtype
            )
            for group in self.groups
        ]
