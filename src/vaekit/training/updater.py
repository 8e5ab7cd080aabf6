"""One update of the weights: a batch divided among processes and by memory, its gradient, and what may go wrong."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vaekit.errors import Diverged, VaekitError
from vaekit.models.vae import Model
from vaekit.objectives import Bound
from vaekit.processes import is_out_of_memory
from vaekit.randomness import Purpose, new_generator, noise_of_rows
from vaekit.training.distributed import whole
from vaekit.training.engine import build_engine
from vaekit.training.noise import NoiseSource
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.training.step import StepInputs
from vaekit.words import counted

CLEARED_EVERY = 50  # steps, in which a moment decays to a hundredth with Adam's usual beta1
MOST_SKIPPED = 20  # in a row
ADVICE = "Try a smaller Train.lr, Train.clip=1, or look for outliers in the data"


@runtime_checkable
class Rows(Protocol):
    """One split of a data set; see `vaekit.data.Rows` and, from disk, `StreamedRows`."""

    def __len__(self) -> int: ...

    def order(self, generator: torch.Generator) -> Tensor:
        """A random order of the rows' numbers."""
        ...

    def some(self, n: int) -> Tensor:
        """The numbers of up to `n` rows, spread over all."""
        ...

    def noise(self, n: int, generator: torch.Generator | None) -> Tensor | None:
        """Noise for the rows with these numbers, as `batch` takes it."""
        ...

    def batch(
        self, index: Tensor | slice, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """x of the rows with these numbers."""
        ...

    def context_of(self, index: Tensor | slice) -> Tensor | None:
        """The context of the rows with these numbers; None where there is none."""
        ...

    def mask_of(self, index: Tensor | slice) -> Tensor | None:
        """Which cells of the rows with these numbers are observed; None where all are."""
        ...

    def weight_of(self, index: Tensor | slice) -> Tensor | None:
        """How much the rows with these numbers count; None where all count alike."""
        ...


class TrainingNotFinite(Exception):
    """A number that training needs is not finite; the message says which, and where."""


@dataclass(frozen=True)
class Piece:
    """Rows of a batch that go through the model together.

    Attributes:
        places: Of the rows in the batch.
        counts: False for a stand-in row, which only keeps the processes in step.
    """

    places: slice
    counts: bool


class Updater:
    """Updates the weights by one batch at a time."""

    def __init__(self, state: State, rows: Rows, settings: Train, seed: int, steps: int):
        self.state, self.rows, self.settings, self.seed = state, rows, settings, seed
        self.step, self.world = state.step, state.step.world
        self.device = next(self.step.parameters()).device
        first = rows.batch(slice(0, 1), new_generator(seed, Purpose.TRIAL, device=self.device))
        self.values = first.numel()
        context = rows.context_of(slice(0, 1))
        model, more = state.whole_model(), self.step.needs_noise
        begins_with = self.step.first_samples
        self.noise = cache(
            lambda samples: NoiseSource(model, first, context, samples, seed, more, samples == begins_with)
        )
        self.binarises = rows.noise(1, new_generator(seed, Purpose.TRIAL, device=self.device)) is not None
        self.hidden = None if self.step.hiding is None else self.step.hiding.shape_of_noise(first)
        self.engine = build_engine(state, settings, steps)
        self.stop_agreed = False

    def __call__(self, index: Tensor, objective: Bound, steps: int) -> str:
        """Update the weights by a batch.

        Args:
            index: The training rows of the batch, of all processes together.
            objective: What to maximise in this epoch.
            steps: Of the whole training.

        Returns:
            A notice for the user, mostly empty.

        Raises:
            TrainingNotFinite: The loss is not; the weights are then as they were.
            Diverged: Too many steps in a row had to be skipped.
        """
        state = self.state
        state.status = "updating"
        notice, sums = self.add_gradients(index, objective, steps)
        if not (math.isfinite(sums["loss"]) and math.isfinite(sums.get("discriminator_loss", 0.0))):
            raise TrainingNotFinite(self._explain(index, objective, steps, sums))
        lr = self.settings.lr * float(self.settings.schedule.at(state.at.step, steps)) * state.at.lr_factor
        norm = self._norm()
        if norm is None or norm <= (self.settings.skip_above or math.inf):
            state.update(lr, lr / self.settings.lr)
            if self.device.type == "cpu" and state.at.step % CLEARED_EVERY == 0:
                state.clear_negligible()
            self.step.settle()
            if state.average is not None:
                state.average.update_parameters(self.step.model)
            in_a_row = 0
        else:
            notice = self._skip(norm)
            in_a_row = state.at.in_a_row
        totals = {name: state.at.sums.get(name, 0.0) + value for name, value in sums.items()}
        state.advance(step=state.at.step + 1, sums=totals, rows=state.at.rows + len(index), in_a_row=in_a_row)
        state.status = "stopping" if self.stop_agreed else "ready"
        return "; ".join(text for text in (notice, self.engine.take_notice()) if text)

    def _norm(self) -> float | None:
        """The gradient's norm before clipping, where a setting needs it; clips the gradient."""
        if self.settings.clip is None and self.settings.skip_above is None:
            return None
        limit = math.inf if self.settings.clip is None else self.settings.clip
        norm = whole(nn.utils.clip_grad_norm_(self.state.learners[0].updates.parameters, limit))
        return None if self.settings.skip_above is None else float(norm)

    def _skip(self, norm: float) -> str:
        at = self.state.at
        self.step.forget()
        self.state.advance(skipped=at.skipped + 1, in_a_row=at.in_a_row + 1)
        why = f"step {at.step + 1} was skipped: its gradient norm is {norm:.3g}, above Train.skip_above"
        if self.state.at.in_a_row >= MOST_SKIPPED:
            self.state.give_up()
            raise Diverged(f"{why}, the {MOST_SKIPPED}th step in a row. {ADVICE}, or raise Train.skip_above")
        # the first alone: how many they are stands in each epoch's metrics, and among the findings
        return f"{why}; further ones are counted, not named" if at.skipped == 0 else ""

    def add_gradients(self, index: Tensor, objective: Bound, steps: int) -> tuple[str, dict[str, float]]:
        """Leave the mean gradient over a batch in the parameters; see `__call__` for the arguments.

        Returns:
            A notice, mostly empty, and the sums of the loss and its parts over all rows of the batch.
        """
        notice = ""
        while True:
            self.state.clear_gradients()
            self.step.forget()
            try:
                return notice, self._add_up(index, objective, steps)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            notice = self._use_less_memory(len(index))

    def _add_up(self, index: Tensor, objective: Bound, steps: int) -> dict[str, float]:
        pieces = self._pieces(len(index))
        totals: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces):
            inputs = self._inputs(index, piece, objective, steps)
            sums = self.engine(inputs, self.world.size / len(index), number == len(pieces) - 1)
            totals = {name: totals[name] + value for name, value in sums.items()} if totals else sums
        requested = torch.tensor(float(self.state.stop_requested), device=self.device)
        # one transfer for all numbers of the step
        *values, stop = self.world.sum(torch.stack([*totals.values(), requested.to(totals["loss"])])).tolist()
        self.stop_agreed = stop > 0
        return dict(zip(totals, values, strict=True))

    def _pieces(self, n: int) -> list[Piece]:
        """This process's rows of a batch of n, as many pieces as every other process has."""
        share, most = self.world.share(n), math.ceil(n / self.world.size)
        count = math.ceil(most / (self.state.at.micro_batch or most))
        edges = [share.start + (share.stop - share.start) * i // count for i in range(count + 1)]
        places = [slice(a, b) for a, b in itertools.pairwise(edges)]
        return [Piece(p, True) if p.stop > p.start else Piece(slice(0, 1), False) for p in places]

    def _inputs(self, index: Tensor, piece: Piece, objective: Bound, steps: int) -> StepInputs:
        """All that the step takes for a piece of a batch."""
        places, step = piece.places, self.state.at.step
        chosen = index[places]
        noise, generator = self.noise(objective.samples)(places, len(index), step), None
        if noise.objective is not None or any(part is None for part in noise.latents):
            own = (places.start, self.world.rank)
            generator = new_generator(self.seed, Purpose.STEP, step, *own, device=self.device)
        return StepInputs(
            x=self.rows.batch(chosen, noise=self._binarising(places, len(index), step)),
            objective=objective,
            context=self.rows.context_of(chosen),
            mask=self.rows.mask_of(chosen),
            weight=self.rows.weight_of(chosen),
            noise=replace(noise, hiding=self._hiding(places, len(index), step)),
            generator=generator,
            step=step,
            steps=steps,
            counts=piece.counts,
        )

    def _binarising(self, places: slice, batch: int, step: int) -> Tensor | None:
        if not self.binarises:
            return None

        def draw(n: int, generator: torch.Generator) -> Tensor:
            return cast(Tensor, self.rows.noise(n, generator))

        return noise_of_rows(draw, places, batch, self.seed, Purpose.BINARISE, step, device=self.device)

    def _hiding(self, places: slice, batch: int, step: int) -> Tensor | None:
        """Noise for what is hidden from the encoder, if anything is."""
        shape = self.hidden
        if shape is None:
            return None

        def draw(n: int, generator: torch.Generator) -> Tensor:
            return torch.rand((n, *shape), generator=generator, device=self.device)

        return noise_of_rows(draw, places, batch, self.seed, Purpose.HIDE, step, device=self.device)

    def _use_less_memory(self, batch: int) -> str:
        """Halve the micro-batch for good."""
        if self.world.size > 1:
            raise VaekitError(
                f"out of memory at step {self.state.at.step + 1} at process {self.world.rank}: set Train.micro_batch "
                "to fewer rows, or Train.batch_size"
            ) from None
        now = min(self.state.at.micro_batch or batch, batch)
        if now == 1:
            raise VaekitError(
                f"out of memory at step {self.state.at.step + 1} with a single row at a time: make the networks or the "
                "number of samples of z smaller"
            ) from None
        self.state.advance(micro_batch=math.ceil(now / 2))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        rows = math.ceil(now / 2)
        return f"out of memory: from here on {counted(rows, 'row')} at a time, the same batch in more pieces"

    @torch.no_grad()
    def _explain(self, index: Tensor, objective: Bound, steps: int, sums: Mapping[str, float]) -> str:
        """Name the term, the row and the largest weight, from a second pass over the same batch."""
        model, worst, row = self.state.whole_model(), -math.inf, -1
        for piece in self._pieces(len(index)):
            inputs = self._inputs(index, piece, objective, steps)
            draw = cast(Model, model).draw(
                inputs.x,
                objective.samples,
                context=inputs.context,
                mask=inputs.mask,
                noise=inputs.noise.latents,
                generator=inputs.generator,
            )
            losses = (-draw.log_w.mean(0)).nan_to_num(math.inf)
            if piece.counts and float(losses.max()) > worst:
                worst, row = float(losses.max()), int(index[piece.places][int(losses.argmax())])
        found = self.world.gather(torch.tensor([[worst, row]], dtype=torch.float64, device=self.device))
        row = int(found[found[:, 0].argmax(), 1])
        term = next((name for name, value in sums.items() if name != "loss" and not math.isfinite(value)), "loss")
        name, size = largest_weight(model)
        at = self.state.at
        return (
            f"the loss is {sums['loss']} at step {at.step} (epoch {at.epoch + 1}): term '{term}' is {sums[term]}, "
            f"worst in training row {row}; the largest weight is {name} with {size:.3g}. {ADVICE}."
        )


def largest_weight(model: nn.Module) -> tuple[str, float]:
    """The parameter with the largest absolute value, and that value."""
    sizes = {name: float(p.detach().abs().max().nan_to_num(math.inf)) for name, p in model.named_parameters()}
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]
