"""What is maximised: bounds, gradient estimators, schedules."""

from typing import Annotated

from pydantic import Field

from vaekit.objectives.elbo import Elbo
from vaekit.objectives.gradient_check import GradientReading, gradient_check
from vaekit.objectives.gradients import (
    Detached,
    DoublyReparametrised,
    Enumerate,
    Gradient,
    Pathwise,
    Score,
    StickTheLanding,
)
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.schedules import Constant, Cosine, Schedule, Warmup
from vaekit.objectives.terms import StepContext, Terms
from vaekit.spec import by_kind

Objective = Annotated[Elbo | Iwae, Field(discriminator="kind"), by_kind]

__all__ = [
    "Constant",
    "Cosine",
    "Detached",
    "DoublyReparametrised",
    "Elbo",
    "Enumerate",
    "Gradient",
    "GradientReading",
    "Iwae",
    "Objective",
    "Pathwise",
    "Schedule",
    "Score",
    "StepContext",
    "StickTheLanding",
    "Terms",
    "Warmup",
    "gradient_check",
]
