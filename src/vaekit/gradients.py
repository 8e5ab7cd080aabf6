"""Gradient estimators: how z is drawn, and how the objective's signal becomes a gradient. A field of the objective."""

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

__all__ = [
    "Detached",
    "DoublyReparametrised",
    "Enumerate",
    "Gradient",
    "GradientEstimator",
    "GradientReading",
    "Pathwise",
    "Score",
    "StickTheLanding",
    "gradient_check",
]


def __dir__() -> list[str]:
    return __all__
