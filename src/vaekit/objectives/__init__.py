"""What is maximised: bounds, gradient estimators, schedules."""

from typing import Annotated

from vaekit.objectives.bound_check import BoundReading, bound_check
from vaekit.objectives.critics import Adversary, Critic, Factor, FeatureGan, Penalised
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.gradient_check import GradientReading, gradient_check
from vaekit.objectives.gradients import (
    Detached,
    DoublyReparametrised,
    Enumerate,
    Gradient,
    GradientEstimator,
    Pathwise,
    Score,
    StickTheLanding,
)
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.penalties import DecoderSlope, DecoderWeights, Dip, Mmd, TotalCorrelation
from vaekit.objectives.regularised import Regularised, Regulariser
from vaekit.objectives.switch import Switch
from vaekit.objectives.terms import Bound, InPhases, StepContext, Terms, phases_of
from vaekit.registry import choice
from vaekit.schedules import Constant, Cosine, Cyclical, Schedule, Warmup

Objective = Annotated[Elbo | Iwae | Regularised | Switch, choice("objectives")]

__all__ = [
    "Adversary",
    "Bound",
    "BoundReading",
    "Constant",
    "Cosine",
    "Critic",
    "Cyclical",
    "DecoderSlope",
    "DecoderWeights",
    "Detached",
    "Dip",
    "DoublyReparametrised",
    "Elbo",
    "Enumerate",
    "Factor",
    "FeatureGan",
    "Gradient",
    "GradientEstimator",
    "GradientReading",
    "InPhases",
    "Iwae",
    "Mmd",
    "Objective",
    "Pathwise",
    "Penalised",
    "Regularised",
    "Regulariser",
    "Schedule",
    "Score",
    "StepContext",
    "StickTheLanding",
    "Switch",
    "Terms",
    "TotalCorrelation",
    "Warmup",
    "bound_check",
    "gradient_check",
    "phases_of",
]


def __dir__() -> list[str]:
    return __all__
