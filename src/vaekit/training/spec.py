"""The settings of training."""

from typing import Annotated, Literal

from pydantic import Field

from vaekit.objectives.schedules import Constant, Schedule
from vaekit.spec import by_kind, spec

Decay = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Decay, Decay]


@spec
class Adam:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    kind: Literal["adam"] = "adam"


@spec
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    kind: Literal["adamw"] = "adamw"


@spec
class Adamax:
    """Adam's variant with the infinity norm (Kingma and Ba, 2015, section 7.1)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    kind: Literal["adamax"] = "adamax"


Optimiser = Annotated[Adam | AdamW | Adamax, Field(discriminator="kind"), by_kind]


@spec
class Train:
    """How to train.

    Args:
        epochs: passes over the training rows.
        batch_size: rows for each step.
        lr: learning rate, before its schedule.
        optimiser: adam, adamw or adamax.
        schedule: factor on the learning rate over the steps.
        clip: largest gradient norm; longer gradients are scaled down to it.
        patience: stop after this many epochs without a better validation ELBO; none never stops early.
        weights: which weights the run hands on, those of the best validation ELBO or the last.
        device: auto, cpu, cuda, cuda:1, mps.
        log_every: epochs between printed lines and saved pictures; none makes about ten.
    """

    epochs: Annotated[int, Field(ge=1)] = 50
    batch_size: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 1e-3
    optimiser: Optimiser = Adam()
    schedule: Schedule = Constant()
    clip: Annotated[float, Field(gt=0)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    weights: Literal["best", "last"] = "best"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    log_every: Annotated[int, Field(ge=1)] | None = None
