"""The settings of training."""

import math
import re
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vaekit.schedules import Constant, Schedule
from vaekit.spec import spec, words_for
from vaekit.training.optimisers import Adam, Optimiser
from vaekit.training.run_files import MOST_EPOCHS

LEAST_EPOCHS, LEAST_STEPS = 50, 1500  # where the number of epochs is left open

Count = Annotated[int, Field(ge=1)]


def _seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def _is_duration(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[smh]", text) or _seconds(text) == 0:
        raise ValueError(f"'{text}' is not a time to train for: write 90s, 10m or 1.5h, above 0")
    return text


Duration = Annotated[str, AfterValidator(_is_duration)]


Switch = Annotated[Literal["auto", "on", "off"], words_for("on", "off")]


@spec
class Train:
    """How to train.

    Args:
        epochs: Passes over the training rows, at most a million: each is a line of metrics.jsonl. None takes 50, or as
            many as make 1,500 steps where rows are few, and then a patience of a quarter of these.
        budget: Time to train for, as 90s, 10m or 1.5h, in place of `epochs`. The number of steps is fixed once the
            speed is known, and schedules stretch to it.
        batch_size: Rows for each step, over all processes together.
        micro_batch: Rows that go through the model at once; gradients are added up to the batch. None takes the whole
            batch. Halved by itself when memory runs out.
        lr: Learning rate, before its schedule.
        optimiser: Adam, adamw or adamax; another of torch by its name, as torch.optim.RMSprop, or with its settings, as
            {kind: torch, name: SGD, settings: {momentum: 0.9}}; in Python also a function from parameters to a torch
            optimiser, whose own learning rates then follow the schedule in place of `lr`.
        schedule: Factor on the learning rate over the steps.
        clip: Largest gradient norm; longer gradients are scaled down to it.
        skip_above: A step whose gradient norm, before clipping, is above this is skipped.
        rollbacks: How often a loss that is not finite sends training back to the last good state with half the
            learning rate, before it is given up.
        ema: Decay of an exponential moving average of the weights, which is then validated and kept.
        patience: Stop after this many epochs without a better validation ELBO; none never stops early.
        weights: Which weights the run keeps: those of the best validation ELBO or the last.
        device: Auto, cpu, cuda, cuda:1, mps.
        precision: Of the networks' products and convolutions: fp32, or bf16, with densities, KL, weights and the
            optimiser in fp32 all the same. auto takes bf16 where this machine is much faster in it.
        compile: Whether a step is compiled; takes some 20 s and a C++ compiler. auto decides by the steps left and
            the gain, and says so.
        parallel: How several processes divide the model: ddp keeps it whole at each, fsdp divides it among them.
        save_every: Steps between checkpoints; none saves about once a minute.
        log_every: Epochs between printed lines and saved pictures; none makes about ten lines and five pictures.
    """

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    budget: Duration | None = None
    batch_size: Count = 128
    micro_batch: Count | None = None
    lr: Annotated[float, Field(gt=0)] = 1e-3
    optimiser: Optimiser = Adam()
    schedule: Schedule = Constant()
    clip: Annotated[float, Field(gt=0)] | None = None
    skip_above: Annotated[float, Field(gt=0)] | None = None
    rollbacks: Annotated[int, Field(ge=0)] = 3
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Count | None = None
    weights: Literal["best", "last"] = "best"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Switch = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    save_every: Count | None = None
    log_every: Count | None = None

    def of_rows(self, rows: int) -> "Train":
        """The same with a number of epochs, for so many training rows."""
        if self.epochs is not None:
            return self
        epochs = math.ceil(LEAST_STEPS / math.ceil(rows / self.batch_size))
        if epochs <= LEAST_EPOCHS or self.budget is not None:
            return replace(self, epochs=LEAST_EPOCHS)
        return replace(self, epochs=epochs, patience=self.patience or math.ceil(epochs / 4))

    def seconds(self) -> float | None:
        """`budget` in seconds."""
        return None if self.budget is None else _seconds(self.budget)
