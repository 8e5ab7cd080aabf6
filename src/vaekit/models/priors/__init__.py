"""Priors p(z): each is built as a module whose call returns a distribution of z."""

from typing import Annotated

from vaekit.models.priors.codes import AutoregressiveCodes, FactorisedCodes
from vaekit.models.priors.flow import Flow
from vaekit.models.priors.mixture import Mixture
from vaekit.models.priors.sphere import UniformSphere
from vaekit.models.priors.standard_normal import StandardNormal
from vaekit.models.priors.vamp import Vamp
from vaekit.registry import choice

Prior = Annotated[
    StandardNormal | Mixture | Vamp | Flow | UniformSphere | FactorisedCodes | AutoregressiveCodes,
    choice("priors"),
]

__all__ = [
    "AutoregressiveCodes",
    "FactorisedCodes",
    "Flow",
    "Mixture",
    "Prior",
    "StandardNormal",
    "UniformSphere",
    "Vamp",
]
