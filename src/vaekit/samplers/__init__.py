"""Samplers: distributions of z to generate from with a trained model, such as a density fitted to its codes.

Each builds a module whose call returns a distribution of z, so `VAE(posterior, sampler, likelihood).generate(n)` draws
from it; encoder and decoder stay as they are.
"""

from typing import Annotated

from vaekit.registry import choice
from vaekit.samplers.aggregated import FromAggregated
from vaekit.samplers.fitting import FittedSampler, ModelSampler
from vaekit.samplers.flow import FromFlow
from vaekit.samplers.mixture import FromMixture
from vaekit.samplers.prior import FromPrior

Sampler = Annotated[
    FromPrior | FromAggregated | FromMixture | FromFlow,
    choice("samplers"),
]

__all__ = [
    "FittedSampler",
    "FromAggregated",
    "FromFlow",
    "FromMixture",
    "FromPrior",
    "ModelSampler",
    "Sampler",
]


def __dir__() -> list[str]:
    return __all__
