"""Priors p(z): specs whose `build` gives a module that returns the distribution of z: see docs/models.md."""

from vaekit.models.building import ALONE, BuildContext
from vaekit.models.priors import (
    AutoregressiveCodes,
    FactorisedCodes,
    Flow,
    Mixture,
    Prior,
    StandardNormal,
    UniformSphere,
    Vamp,
)

__all__ = [
    "ALONE",
    "AutoregressiveCodes",
    "BuildContext",
    "FactorisedCodes",
    "Flow",
    "Mixture",
    "Prior",
    "StandardNormal",
    "UniformSphere",
    "Vamp",
]


def __dir__() -> list[str]:
    return __all__
