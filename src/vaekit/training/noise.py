"""Base noise of training: drawn apart from the model, so that it does not depend on how a batch is divided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.distributions.noise import noise_map, noise_shape
from vaekit.models.vae import Model
from vaekit.randomness import Purpose, new_generator, noise_of_rows

DRAWN_AHEAD = 32  # steps whose noise is drawn at once, where it is small: of a small step, a generator is a tenth
SMALL = 1 << 18  # numbers


@dataclass(frozen=True)
class Noise:
    """The base noise of a step, for some rows.

    Attributes:
        latents: Of each latent group, (samples, batch, *event); None for a group that takes none.
        objective: Standard normal, (batch, *z), where the objective needs some.
        hiding: Uniform on [0, 1), (batch, *shape), where numbers are hidden from the encoder.
    """

    latents: Sequence[Tensor | None] = ()
    objective: Tensor | None = None
    hiding: Tensor | None = None


@dataclass(frozen=True)
class _Shape:
    """What is drawn for one row: by which function, of which shape, and how often."""

    base: Callable[..., Tensor]
    event: torch.Size
    samples: int


class NoiseSource:
    """Draws the base noise that a model's latents need; one trial pass shows their shapes.

    The noise of a step is a function of the seed, the step, and a row's place in the batch. The noise of several small
    steps is drawn at once.

    Args:
        model: What the noise is for.
        x: At least one row, (batch, *data).
        context: Of that row, or None.
        samples: K, samples of z for each row.
        seed: Of the run.
        for_objective: Draw standard normal numbers too, of the shape of the first group's z, one sample for each row.
        first: Whether training begins with this number of samples; else an objective switches to it.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        context: Tensor | None,
        samples: int,
        seed: int,
        for_objective: bool = False,
        first: bool = True,
    ):
        with torch.no_grad():
            trial = new_generator(0, Purpose.TRIAL, device=x.device)
            draw = cast(Model, model).draw(x[:1], context=context, generator=trial, check=False)
        self.seed, self.device, self.for_objective, self.first = seed, x.device, for_objective, first
        self.shapes = [_noise_of(latent.q, samples) for latent in draw.latents]
        if for_objective:
            self.shapes += [_Shape(torch.randn, draw.latents[0].z.shape[2:], 1)]
        self.dtype = draw.log_px.dtype
        self.drawn: dict[int, tuple[tuple[int, int], Tensor]] = {}  # by group: (block of steps, batch), and the noise

    def __call__(self, rows: slice, batch: int, step: int) -> Noise:
        """The base noise of the places `rows` of a batch of so many rows, at a step."""
        found = [
            None if shape is None else self._draw(number, shape, rows, batch, step)
            for number, shape in enumerate(self.shapes)
        ]
        if not self.for_objective:
            return Noise(found)
        *latents, objective = found
        return Noise(latents, None if objective is None else objective[0])

    def _draw(self, number: int, shape: _Shape, rows: slice, batch: int, step: int) -> Tensor:
        """(samples, rows, *event)."""
        steps = min(DRAWN_AHEAD, SMALL // (shape.samples * batch * max(shape.event.numel(), 1)))
        if steps < 2:
            return self._noise(shape, 1, rows, batch, (step, number))[0]
        block = step // steps
        if number not in self.drawn or self.drawn[number][0] != (block, batch):
            key = (block, number, batch) if self.first else (block, number, batch, shape.samples)
            ahead = self._noise(shape, steps, slice(0, batch), batch, key)
            self.drawn[number] = (block, batch), ahead
        return self.drawn[number][1][step % steps, :, rows]

    def _noise(self, shape: _Shape, steps: int, rows: slice, batch: int, key: tuple[int, ...]) -> Tensor:
        """(steps, samples, rows, *event)."""

        def draw(n: int, generator: torch.Generator) -> Tensor:
            size = (steps, shape.samples, n, *shape.event)
            return shape.base(size, generator=generator, device=self.device, dtype=self.dtype)

        return noise_of_rows(draw, rows, batch, self.seed, Purpose.POSTERIOR, *key, device=self.device, dim=2)


def _noise_of(q: Distribution | None, samples: int) -> _Shape | None:
    """The noise that samples of q are a function of; None where they are not."""
    if q is None or (found := noise_map(q)) is None or (shape := noise_shape(q)) is None:
        return None
    return _Shape(found.base, shape[len(q.batch_shape) :], samples)  # lower groups of a hierarchy have (samples, rows)
