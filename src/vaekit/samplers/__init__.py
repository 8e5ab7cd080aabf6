"""Samplers: where z comes from when a trained model is drawn from. A sampler is a prior that is fitted after training.

Each builds a module whose call returns a distribution of z, so `VAE(posterior, sampler, likelihood).generate(n)` draws
from it; encoder and decoder stay as they are.
"""

from typing import Annotated

from pydantic import Field

from vaekit.samplers.aggregated import FromAggregated
from vaekit.samplers.flow import FromFlow
from vaekit.samplers.mixture import FromMixture
from vaekit.samplers.prior import FromPrior
from vaekit.spec import by_kind

Sampler = Annotated[
    FromPrior | FromAggregated | FromMixture | FromFlow,
    Field(discriminator="kind"),
    by_kind,
]
Fitted = FromMixture | FromFlow

__all__ = [
    "Fitted",
    "FromAggregated",
    "FromFlow",
    "FromMixture",
    "FromPrior",
    "Sampler",
]
