"""What is maximised: bounds, gradient estimators, schedules."""

from vaekit.objectives.elbo import Elbo, Objective, StepContext, Terms
from vaekit.objectives.gradient_check import GradientReading, gradient_check
from vaekit.objectives.gradients import Detached, Gradient, Pathwise, Score, StickTheLanding
from vaekit.objectives.schedules import Constant, Cosine, Schedule, Warmup

__all__ = [
    "Constant",
    "Cosine",
    "Detached",
    "Elbo",
    "Gradient",
    "GradientReading",
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
